"""Where a run's numbers and pictures go: JSON lines always, and the trackers of its experiment."""
