"""Metrics, which score generated images by their features: one file each, all in float64."""
