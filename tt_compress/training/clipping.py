"""Gradients clipped by their norm."""

import jax
import jax.numpy as jnp
import optax


def by_global_norm(max_norm: float) -> optax.GradientTransformation:
  """g min(1, max_norm / ||g||), with the norm of all gradients together.

  `optax.clip_by_global_norm` chooses between two arrays per gradient, on which
  XLA spends half of a step's compile time on CPUs. Here, it chooses between two
  numbers once.
  """

  def update(updates, state, params=None):
    del params
    norm = optax.tree.norm(updates)
    scale = jnp.where(norm < max_norm, 1.0, max_norm / norm)
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
