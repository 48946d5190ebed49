"""Packing of images from any source into shards."""
