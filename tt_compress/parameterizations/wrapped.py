"""The ground of parameterizations that change the weights of another one."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tt_compress.parameterizations import base, composed, random_factors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wrapped(composed.Composed):
  """The matrix of another spec, the base, with changed weights.

  factors = {'base': factors of the base} and the arrays of the subclass. A
  subclass defines `_effective`, the factors that the base computes with,
  `_start`, the initial arrays, and `_store`. It changes only the weights of the
  base: its trained arrays, or, if the base is wrapped itself, those of the
  innermost base. The base keeps its penalty, projection, buffers and noise.

  Attributes:
    base: the other spec, of the same rows and cols.
    like_weights: names of dicts of the subclass with one array per weight, of
      the shape of the weight.
  """

  like_weights: ClassVar[tuple[str, ...]] = ()

  base: base.Parameterization

  def __post_init__(self):
    super().__post_init__()
    self._set('base', self._initialized(self.base))

  @property
  def components(self):
    return {'base': self.base}

  def init(self, key, *, std, dtype=jnp.float32, role='product'):
    """The factors of the base and the initial arrays of the subclass."""
    return self._start(
      random_factors.initialize(self.base, key, std=std, dtype=dtype, role=role)
    )

  def method(self, role):
    return self.base.method(role)

  def at_zero(self):
    return dataclasses.replace(
      self, initialization='zero', base=self.base.at_zero()
    )

  def fit(self, matrix):
    """The fit of the base, with the arrays of the subclass as at the start."""
    return self._start(self.base.fit(matrix))

  def fit_products(self, matrix, weights):
    return self._start(self.base.fit_products(matrix, weights))

  def full(self, factors):
    return self.base.full(self._effective(factors))

  def take(self, factors, ids, *, key=None):
    return self.base.take(self._effective(factors), ids, key=key)

  def apply(self, factors, x, *, key=None):
    return self.base.apply(self._effective(factors), x, key=key)

  def attend(self, factors, x, *, key=None):
    return self.base.attend(self._effective(factors), x, key=key)

  def inner(self, factors, ids, other_ids):
    return self.base.inner(self._effective(factors), ids, other_ids)

  def nearest(self, factors, ids, k, *, cosine=False):
    return self.base.nearest(self._effective(factors), ids, k, cosine=cosine)

  def makes_full(self, factors, tokens):
    return self.base.makes_full(self._effective(factors), tokens)

  def row_blocks(self, factors, count):
    return self.base.row_blocks(self._effective(factors), count)

  def partitions(self, side):
    """The partitions of the base, also for arrays of the shape of a weight."""
    of_base = self.base.partitions(side)
    names = of_base.keys() & set(composed.weights(self.base))
    own = {
      f'{s}/{name}': of_base[name] for s in self.like_weights for name in names
    }
    return {f'base/{name}': axis for name, axis in of_base.items()} | own

  def bare(self, factors):
    return self.base.bare(self._effective(factors))

  def prepared(self, factors, tokens, dtype, *, transposed=False):
    spec, factors = self.bare(factors)
    return spec.prepared(factors, tokens, dtype, transposed=transposed)

  def penalty(self, factors):
    return self.base.penalty(self._effective(factors))

  def squared_norm(self, factors):
    return self.base.squared_norm(self._effective(factors))

  def stored(self, factors):
    leaves = jax.tree.leaves(factors)
    if any(isinstance(a, jax.ShapeDtypeStruct) for a in leaves):
      effective = jax.eval_shape(self._effective, factors)
    else:
      effective = self._effective(factors)
    names = composed.weights(self.base)
    return {
      f'base/{name}': self._store(entry, composed.at(effective, name))
      if name in names
      else entry
      for name, entry in composed.stored(self.base, effective).items()
    }

  def _effective(self, factors: base.Factors) -> base.Factors:
    """The factors that the base computes with, without noise."""
    raise NotImplementedError(f'{type(self).__name__} has no _effective')

  def _start(self, factors: base.Factors) -> base.Factors:
    """Initial factors of this spec from those of the base."""
    return {'base': factors}

  def _store(
    self, stored: composed.Stored, array: jax.Array
  ) -> composed.Stored:
    """How a weight is stored, given how the base would store it."""
    raise NotImplementedError(f'{type(self).__name__} has no _store')


def select(spec: base.Parameterization, factors: base.Factors) -> dict:
  """The weights alone, in nested dicts as in the factors."""
  selected = {}
  for name in composed.weights(spec):
    *folders, last = name.split('/')
    node = selected
    for folder in folders:
      node = node.setdefault(folder, {})
    node[last] = composed.at(factors, name)
  return selected


def change(
  function: Callable[..., Any],
  spec: base.Parameterization,
  factors: base.Factors,
  *others: Mapping,
) -> base.Factors:
  """Factors with each weight replaced by function(weight, *others).

  Args:
    function: of a weight and the entries of `others` at its path.
    spec: the spec of the factors.
    factors: of the spec.
    *others: nested dicts with the structure of the result of `select`.
  """
  names = frozenset(composed.weights(spec))

  def visit(path, array):
    name = base.join(path)
    if name not in names:
      return array
    return function(array, *(composed.at(other, name) for other in others))

  return jax.tree_util.tree_map_with_path(visit, factors)


def sparse(
  stored: composed.Stored, array: jax.Array | jax.ShapeDtypeStruct
) -> composed.Stored:
  """Stores the nonzero entries and their indices."""
  kept = stored.kept
  if not isinstance(array, jax.ShapeDtypeStruct):
    kept = min(kept, int(np.count_nonzero(array)))
  return dataclasses.replace(stored, kept=kept, is_sparse=True)
