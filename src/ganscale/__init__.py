"""Train GANs from one laptop to many nodes."""

__version__ = "0.1.0"
