"""From a packed set to batches: order, readers, decoding."""
