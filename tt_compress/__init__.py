"""Compressed matrices for Flax models: tensor trains and their relatives."""

__version__ = '0.1.0'
