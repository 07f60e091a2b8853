"""Flax NNX modules whose matrices are held by a parameterization."""
