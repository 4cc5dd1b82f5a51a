"""Embedders: the default one with its weights in the package, and one file per vendor."""
