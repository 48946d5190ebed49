"""Scores of generated images from features, one file each; everything is in float64."""
