"""From images of any kind to shards."""
