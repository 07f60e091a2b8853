"""Training: optimizers, states, checkpoints, metrics and the loop."""
