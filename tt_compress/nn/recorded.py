"""Dense matrices that record the second moment of what they multiply.

Moments are gradients: a product has an argument of zeros, whose gradient is
sum_n x_n x_n^T whatever the gradient of the result is. So one backward pass
sums the moments of all products, also of those inside of loops, vmaps and
layers that are called several times.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tt_compress.algebra import weighting
from tt_compress.nn import matrix
from tt_compress.parameterizations import base, stacked

# Above this size, the moment is a diagonal.
LARGEST = 2**13
MOMENTS = ('rows', 'cols')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recorded(base.Parameterization):
  """A dense matrix, not trained, with the moments of its products.

  factors = {'matrix': W, 'rows': R, 'cols': C}: the gradient of R is the moment
  of x of products x W, or for `is_table` the counts [rows] of rows W[ids]; that
  of C is the moment of x of logits x W^T.

  Attributes:
    is_table: whether the matrix is an embedding.
  """

  is_table: bool

  @property
  def buffers(self):
    return ('matrix',)

  def start(self, weight: Float[Array, 'rows cols']) -> base.Factors:
    """The factors of a matrix, with moments of zero."""
    shape = (self.rows,) if self.is_table else _moment_shape(self.rows)
    cols = _moment_shape(self.cols)
    return {
      'matrix': weight,
      'rows': jnp.zeros(shape, jnp.float32),
      'cols': jnp.zeros(cols, jnp.float32),
    }

  def init(self, key, *, std, dtype=jnp.float32, role='product'):
    del role
    shape = self.rows, self.cols
    return self.start(std * jax.random.normal(key, shape, dtype))

  def full(self, factors):
    return factors['matrix']

  def _look_up(self, factors, ids):
    return _count(factors['matrix'][ids], factors['rows'], ids)

  def _apply(self, factors, x):
    return _watch(x, factors['rows']) @ factors['matrix'].astype(x.dtype)

  def _attend(self, factors, x):
    return _watch(x, factors['cols']) @ factors['matrix'].astype(x.dtype).T

  def makes_full(self, factors, tokens):
    return False


def record(module: matrix.Matrix) -> None:
  """Makes a matrix record its products, in place."""
  counts, spec = stacked.counts(module.spec), module.spec
  new = Recorded(
    rows=spec.rows, cols=spec.cols, is_table=module.role != 'product'
  )
  start = new.start
  for _ in counts:
    start = jax.vmap(start)
  module.become(stacked.of_sizes(new, counts), start(module.full()))


def weights(
  moments: dict[str, np.ndarray], path: str, counts: tuple[int, ...] = ()
) -> dict[str, weighting.Weighting]:
  """The error of all products of a matrix, from its moments.

  Args:
    moments: {'rows': R, 'cols': C}, zero for products that there are not.
    path: of the matrix.
    counts: numbers of layers that share its array.

  Returns:
    {path: weights}; for layers that share an array, {'blocks/up[3]': weights}.
  """
  if counts:
    found = {}
    for number in range(counts[0]):
      layer = {name: array[number] for name, array in moments.items()}
      found |= weights(layer, f'{path}[{number}]', counts[1:])
    return found
  terms = (moments['rows'], None), (None, moments['cols'])
  found = tuple(
    term for term in terms if any(a is not None and a.any() for a in term)
  )
  return {path: weighting.Weighting(found)}


def _moment_shape(size):
  return (size, size) if size <= LARGEST else (size,)


@jax.custom_vjp
def _watch(x: Float[Array, '...'], moment: Float[Array, '...']):
  """x; the gradient of the moment is that of x."""
  del moment
  return x


def _watch_forward(x, moment):
  return x, (x, moment)


def _watch_backward(saved, gradient):
  x, moment = saved
  x = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
  found = x.T @ x if moment.ndim == 2 else jnp.sum(jnp.square(x), axis=0)
  return gradient, found


_watch.defvjp(_watch_forward, _watch_backward)


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
