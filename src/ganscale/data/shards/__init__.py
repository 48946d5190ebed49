"""Packed sets: manifest, shards and indexes, in a folder or behind an address."""
