"""The algorithm (`step.py`) and the machinery that runs it."""
