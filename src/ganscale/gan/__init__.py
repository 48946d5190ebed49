"""The algorithm: callables and tensors in, losses and measurements out."""
