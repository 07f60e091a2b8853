"""Training: optimizers, checkpoints, metrics and the one loop."""
