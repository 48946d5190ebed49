"""Evaluation of generated images against the real dataset."""
