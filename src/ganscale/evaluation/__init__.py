"""Scoring generated images against the real set."""
