"""Reading of a packed dataset: order of the samples, readers, decoding and batches."""
