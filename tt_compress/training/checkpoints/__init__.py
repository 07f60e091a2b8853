"""Checkpoints: writing, verifying, matching with a model."""
