"""Monitoring of a run: progress, trackers, pictures, health alerts and diagnosis."""
