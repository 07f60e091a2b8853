"""Dense matrices that record the second moment of what they multiply.

Moments are gradients: a product has an argument of zeros, whose gradient is
sum_n x_n x_n^T whatever the gradient of the result is. So one backward pass
sums the moments of all products, also of those inside of loops, vmaps and
layers that are called several times. Under a `jax.vmap` with a name over a
model before and after a change, a product sees its input in both.
"""

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tt_compress.nn import matrix
from tt_compress.parameterizations import base, stacked

# Above this size, the moment is a diagonal.
LARGEST = 2**13
SIDES = ('rows', 'cols')
MOMENTS = (*SIDES, *(f'{side}_cross' for side in SIDES))
# (name of a matrix, side, number of vectors or ids) of each product.
Uses = list[tuple[str, str, int]]
_USES = contextvars.ContextVar('uses', default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recorded(base.Parameterization):
  """A dense matrix, not trained, with the moments of its products.

  factors = {'matrix': W, 'rows': R, 'cols': C}: the gradient of R is the moment
  of x of products x W, or for `is_table` the counts [rows] of rows W[ids]; that
  of C is the moment of x of logits x W^T. With `axis`, the gradients of
  'rows_cross' and 'cols_cross' are sums of z^T x, for x and z of the first and
  second model of this axis of a `jax.vmap`.

  Attributes:
    name: of the matrix, for `uses`.
    is_table: whether the matrix is an embedding.
    axis: name of the axis of two models, None for one model.
  """

  name: str
  is_table: bool
  axis: str | None = None

  @property
  def buffers(self):
    return ('matrix',)

  def start(self, weight: Float[Array, 'rows cols']) -> base.Factors:
    """The factors of a matrix, without arrays for moments."""
    names = MOMENTS if self.axis else SIDES
    return {'matrix': weight} | {
      name: jnp.zeros(0, jnp.float32) for name in names
    }

  def moment_shape(self, side: str) -> tuple[int, ...]:
    """Of a moment: a matrix, or its diagonal."""
    size = getattr(self, side)
    is_counted = self.is_table and side == 'rows'
    return (size,) if is_counted or size > LARGEST else (size, size)

  def init(self, key, *, std, dtype=jnp.float32, role='product'):
    del role
    shape = self.rows, self.cols
    return self.start(std * jax.random.normal(key, shape, dtype))

  def full(self, factors):
    return factors['matrix']

  def _look_up(self, factors, ids):
    self._note('rows', ids.size)
    return _count(factors['matrix'][ids], factors['rows'], ids)

  def _apply(self, factors, x):
    x = self._watch('rows', factors, x)
    return x @ factors['matrix'].astype(x.dtype)

  def _attend(self, factors, x):
    x = self._watch('cols', factors, x)
    return x @ factors['matrix'].astype(x.dtype).T

  def _watch(self, side, factors, x):
    self._note(side, x.size // max(1, x.shape[-1]))
    x = _watch(x, factors[side])
    if self.axis is None:
      return x
    return _watch_cross(x, factors[f'{side}_cross'], self.axis)

  def _note(self, side, count):
    found = _USES.get()
    if found is not None:
      found.append((self.name, side, count))

  def makes_full(self, factors, tokens):
    return False


@contextlib.contextmanager
def uses() -> Iterator[Uses]:
  """The uses of all matrices in a trace, in order."""
  found = []
  token = _USES.set(found)
  try:
    yield found
  finally:
    _USES.reset(token)


def record(module: matrix.Matrix, name: str, axis: str | None = None) -> None:
  """Makes a matrix record its products, in place."""
  counts, spec = stacked.counts(module.spec), module.spec
  new = Recorded(
    rows=spec.rows,
    cols=spec.cols,
    name=name,
    is_table=module.role != 'product',
    axis=axis,
  )
  start = new.start
  for _ in counts:
    start = jax.vmap(start)
  module.become(stacked.of_sizes(new, counts), start(module.full()))


@jax.custom_vjp
def _watch(x: Float[Array, '...'], moment: Float[Array, '...']):
  """x; the gradient of the moment is that of x."""
  del moment
  return x


def _watch_forward(x, moment):
  return x, (x, moment)


def _watch_backward(saved, gradient):
  x, moment = saved
  x = _vectors(x)
  return gradient, _product(x, x, moment)


_watch.defvjp(_watch_forward, _watch_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _watch_cross(x: Float[Array, '...'], moment: Float[Array, '...'], axis):
  """x; the gradient of the moment is that of x in two models."""
  del moment, axis
  return x


def _watch_cross_forward(x, moment, axis):
  del axis
  return x, (x, moment)


def _watch_cross_backward(axis, saved, gradient):
  x, moment = saved
  before, after = map(_vectors, jax.lax.all_gather(x, axis))
  return gradient, _product(after, before, moment)


_watch_cross.defvjp(_watch_cross_forward, _watch_cross_backward)


def _vectors(x):
  return x.reshape(-1, x.shape[-1]).astype(jnp.float32)


def _product(z, x, moment):
  return z.T @ x if moment.ndim == 2 else jnp.sum(z * x, axis=0)


@jax.custom_vjp
def _count(
  found: Float[Array, 'n cols'],
  counts: Float[Array, ' rows'],
  ids: Int[Array, ' n'],
):
  """The rows found; the gradient of the counts is that of the ids."""
  del counts, ids
  return found


def _count_forward(found, counts, ids):
  return found, (counts, ids)


def _count_backward(saved, gradient):
  counts, ids = saved
  zero = np.zeros(ids.shape, jax.dtypes.float0)
  return gradient, jnp.zeros_like(counts).at[ids].add(1), zero


_count.defvjp(_count_forward, _count_backward)
