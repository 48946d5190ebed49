"""How the processes of a run work together."""
