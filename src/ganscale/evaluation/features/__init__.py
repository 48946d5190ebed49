"""Networks whose features compare images."""
