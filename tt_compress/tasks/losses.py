"""Losses that several problems have in common."""

import jax
import jax.numpy as jnp


def smoothed_cross_entropy(
  logits: jax.Array, targets: jax.Array, smoothing: float
) -> jax.Array:
  """Cross-entropy with (1 - s) one_hot(target) + s / V, [...].

  Args:
    logits: float32 [..., V].
    targets: int32 [...].
    smoothing: s, in [0, 1).

  Reference: "Rethinking the Inception Architecture", section 7.
  """
  log_normalizer = jax.nn.logsumexp(logits, axis=-1)
  target_logits = jnp.take_along_axis(logits, targets[..., None], axis=-1)
  expected = (1 - smoothing) * target_logits[..., 0]
  if smoothing:
    expected += smoothing * jnp.mean(logits, axis=-1)
  return log_normalizer - expected


def check_smoothing(smoothing: float) -> None:
  """Refuses a label smoothing outside of [0, 1)."""
  if not 0 <= smoothing < 1:
    raise ValueError(f'label_smoothing={smoothing} must be in [0, 1)')
