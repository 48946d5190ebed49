"""The mathematics of the game: losses on logits and gradient penalties, on plain tensors."""
