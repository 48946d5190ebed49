"""What a run folder is, and all that can be done with a run."""
