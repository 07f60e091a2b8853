"""Dropout that does not depend on how a batch is sharded over devices."""

import math

import jax
import jax.numpy as jnp
from jax._src import core
from jaxtyping import Array, Float, Int

# JAX's names for functions that it traces as a part of a loop.
_LOOPS = frozenset(('scan', 'fori_loop', 'while_body', 'while_cond'))


def _num_loops() -> int:
  """The number of loops around the code that is being traced."""
  # JAX has no public way to ask; tests notice when its private one changes.
  # Without it noise stays the same, but misuse is not refused.
  try:
    traces = core.unsafe_get_trace_stack(core.trace_ctx.trace)
  except AttributeError:
    return 0
  debug = [
    trace.frame.debug_info for trace in traces if hasattr(trace, 'frame')
  ]
  return sum(getattr(info, 'traced_for', None) in _LOOPS for info in debug)


class Noise:
  """The random keys of one pass through a model.

  Every call of `key` or `keys` returns fresh keys: it counts the calls while
  the pass is traced. The keys of an example depend only on its position in the
  global batch, so 1 and 8 devices draw the same noise.

  The body of a loop, e.g. of `jax.lax.scan`, is traced once for all steps,
  which would draw the same noise. `at` makes the noise of one step.

  Attributes:
    count: number of keys that were drawn.

  Args:
    key: of this step of training.
    positions: of the examples in the global batch.
  """

  def __init__(self, key: jax.Array, positions: Int[Array, ' batch']):
    self._key = key
    self._positions = positions
    self._first = 0
    self.count = 0
    self._num_loops = _num_loops()

  def at(self, t: int | Int[Array, '']) -> 'Noise':
    """The noise of one step of a loop.

    Every call returns fresh noise, as `key` does: two loops of a pass differ.

    Args:
      t: the step of the loop.

    Raises:
      ValueError: t is a constant in the body of a loop, or this noise was made
        outside of the outer of two nested loops.
    """
    self._check_step(f'at({t})', t)
    return Noise(jax.random.fold_in(self._fresh(), t), self._positions)

  def after(self, num_keys: int | Int[Array, '']) -> 'Noise':
    """The noise of this pass after so many more keys.

    In a loop whose steps draw what they would draw one after the other.

    Args:
      num_keys: drawn by the steps before this one.

    Raises:
      ValueError: as of `at`.
    """
    self._check_step(f'after({num_keys})', num_keys)
    noise = Noise(self._key, self._positions)
    noise._first = self._first + self.count + num_keys
    return noise

  def skip(self, num_keys: int) -> None:
    """Leaves out keys that were drawn by the noise that `after` returned."""
    self.count += num_keys

  def _check_step(self, call: str, t: int | Int[Array, '']) -> None:
    """Refuses what would be the same in every step of a loop."""
    num_loops = _num_loops() - self._num_loops
    if num_loops > 1 or (num_loops and not isinstance(t, jax.core.Tracer)):
      raise ValueError(
        f'noise.{call} is the same in every step of a loop; its argument must '
        'depend on the step of the loop, and a nested loop must use the noise '
        'of a step of the outer loop'
      )

  def key(self) -> jax.Array:
    """A fresh key common to all examples, for weights drawn once.

    Raises:
      ValueError: the noise was made outside of a loop and is used inside.
    """
    if _num_loops() > self._num_loops:
      raise ValueError(
        'every step of a loop (scan, map, fori_loop, while_loop) would draw '
        'the same noise; in its body use noise.at(t), where t is the step'
      )
    return self._fresh()

  def _fresh(self) -> jax.Array:
    self.count += 1
    return jax.random.fold_in(self._key, self._first + self.count)

  def keys(self) -> jax.Array:
    """A fresh key for every example, [batch]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(self.key(), self._positions)


def _random_bytes(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Uniform bytes, four from each 32-bit word that is drawn.

  Drawing dominates the time of dropout on a CPU, and `jax.random.bits` would
  draw one word per byte.
  """
  size = math.prod(shape)
  words = jax.random.bits(key, (math.ceil(size / 4),), jnp.uint32)
  return (
    jax.lax.bitcast_convert_type(words, jnp.uint8).ravel()[:size].reshape(shape)
  )


def dropout(
  x: Float[Array, 'batch ...'], rate: float, noise: Noise | None
) -> Float[Array, 'batch ...']:
  """Sets entries of `x` to zero with probability `rate`, scaling the rest.

  The rate is rounded to a multiple of 1/256, and the scale is exact for the
  rounded rate, so the expectation of the result is `x`.

  Args:
    x: activations.
    rate: from 0 to 255/256.
    noise: keys of this pass; None means deterministic, `x` unchanged.
  """
  threshold = round(rate * 256)
  if noise is None or threshold == 0:
    return x
  random_bytes = jax.vmap(_random_bytes, (0, None))(noise.keys(), x.shape[1:])
  return _kept(x, random_bytes, threshold)


def common(
  x: Float[Array, '...'], rate: float, noise: Noise | None
) -> Float[Array, '...']:
  """`dropout` of activations that all examples share."""
  threshold = round(rate * 256)
  if noise is None or threshold == 0:
    return x
  return _kept(x, _random_bytes(noise.key(), x.shape), threshold)


def _kept(x, random_bytes, threshold):
  scale = jnp.asarray(256 / (256 - threshold), x.dtype)
  return jnp.where(random_bytes >= threshold, x * scale, jnp.zeros((), x.dtype))
