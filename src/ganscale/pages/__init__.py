"""Pages in a browser: the runs while they train, and what a generator can do."""
