"""The ground of parameterizations that change the weights of another one."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tt_compress.parameterizations import base, random_factors


@dataclasses.dataclass(frozen=True)
class Stored:
  """How a file stores one array.

  Attributes:
    size: number of entries of the array.
    kept: number of entries that are stored.
    width: bits per stored entry.
    scales: number of scales of 32 bits that are stored, too.
    is_sparse: whether the indices of the entries are stored, too.
  """

  size: int
  kept: int
  width: int
  scales: int = 0
  is_sparse: bool = False

  @property
  def numbers(self) -> int:
    return self.kept + self.scales

  @property
  def bits(self) -> int:
    """All bits; indices take one bit per entry of a mask, or less as a list."""
    index = (self.size - 1).bit_length()
    places = min(self.size, self.kept * index) if self.is_sparse else 0
    return self.kept * self.width + 32 * self.scales + places


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wrapped(base.Parameterization):
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
    if not isinstance(self.base, base.Parameterization):
      raise ValueError(
        f'base must be a parameterization, got {self.base!r}; `make` builds '
        'one from dict(name=...)'
      )
    if (self.base.rows, self.base.cols) != (self.rows, self.cols):
      raise ValueError(
        f'base is a matrix of {self.base.rows} x {self.base.cols}, but '
        f'{type(self).__name__} has rows={self.rows}, cols={self.cols}; they '
        'must be the same'
      )
    self._set('base', self._initialized_base())

  @property
  def buffers(self):
    return tuple(f'base/{name}' for name in self.base.buffers)

  @property
  def settled_at(self):
    return self.base.settled_at

  @property
  def has_noise(self):
    return self.base.has_noise

  @property
  def draws_per_example(self):
    return self.base.draws_per_example

  def init(self, key, *, std, dtype=jnp.float32, role='product'):
    """The factors of the base and the initial arrays of the subclass."""
    return self._start(
      random_factors.initialize(self.base, key, std=std, dtype=dtype, role=role)
    )

  def start(self, role):
    return self.base.start(role)

  def fans(self, role):
    fans = self.base.fans(role)
    return {f'base/{name}': found for name, found in fans.items()}

  def fit(self, matrix):
    """The fit of the base, with the arrays of the subclass as at the start."""
    return self._start(self.base.fit(matrix))

  def full(self, factors):
    return self.base.full(self._effective(factors))

  def take(self, factors, ids, *, key=None):
    return self.base.take(self._effective(factors), ids, key=key)

  def apply(self, factors, x, *, key=None):
    return self.base.apply(self._effective(factors), x, key=key)

  def attend(self, factors, x, *, key=None):
    return self.base.attend(self._effective(factors), x, key=key)

  def makes_full(self, factors, tokens):
    return self.base.makes_full(self._effective(factors), tokens)

  def row_blocks(self, factors, count):
    return self.base.row_blocks(self._effective(factors), count)

  def partitions(self, side):
    """The partitions of the base, also for arrays of the shape of a weight."""
    of_base = self.base.partitions(side)
    names = of_base.keys() & set(weights(self.base))
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

  def project(self, factors, step):
    return {**factors, 'base': self.base.project(factors['base'], step)}

  def stored_size(self, factors):
    """(numbers, bits) of the effective factors; see `Stored`.

    If factors are shapes without values, all entries count as nonzero.
    """
    arrays = self._stored(factors).values()
    return sum(a.numbers for a in arrays), sum(a.bits for a in arrays)

  def _check_initialization(self):
    """The base refuses what it does not have."""

  def _initialized_base(self):
    """The base with the initialization of this spec, if it has one."""
    if self.initialization in (None, self.base.initialization):
      return self.base
    if self.base.initialization is not None:
      raise ValueError(
        f'initialization={self.initialization!r}, but that of the base is '
        f'{self.base.initialization!r}; leave out one of the two'
      )
    return dataclasses.replace(self.base, initialization=self.initialization)

  def _effective(self, factors: base.Factors) -> base.Factors:
    """The factors that the base computes with, without noise."""
    raise NotImplementedError(f'{type(self).__name__} has no _effective')

  def _start(self, factors: base.Factors) -> base.Factors:
    """Initial factors of this spec from those of the base."""
    return {'base': factors}

  def _store(self, stored: Stored, array: jax.Array) -> Stored:
    """How a weight is stored, given how the base would store it."""
    raise NotImplementedError(f'{type(self).__name__} has no _store')

  def _stored(self, factors):
    leaves = jax.tree.leaves(factors)
    if any(isinstance(a, jax.ShapeDtypeStruct) for a in leaves):
      effective = jax.eval_shape(self._effective, factors)
    else:
      effective = self._effective(factors)
    names = weights(self.base)
    return {
      f'base/{name}': self._store(entry, at(effective, name))
      if name in names
      else entry
      for name, entry in _stored(self.base, effective).items()
    }


@functools.lru_cache(maxsize=4096)
def shapes(spec: base.Parameterization) -> base.Factors:
  """Shapes of the factors of a spec, float32."""
  return jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))


@functools.lru_cache(maxsize=4096)
def weights(spec: base.Parameterization) -> tuple[str, ...]:
  """Paths of the arrays of a spec that wrappers change."""
  if isinstance(spec, Wrapped):
    return tuple(f'base/{name}' for name in weights(spec.base))
  leaves, _ = jax.tree_util.tree_flatten_with_path(shapes(spec))
  names = (base.join(path) for path, _ in leaves)
  return tuple(name for name in names if name not in spec.buffers)


def at(tree: Mapping, name: str) -> Any:
  """The entry of nested dicts at a path 'a/b'."""
  return functools.reduce(lambda node, key: node[key], name.split('/'), tree)


def select(spec: base.Parameterization, factors: base.Factors) -> dict:
  """The weights alone, in nested dicts as in the factors."""
  selected = {}
  for name in weights(spec):
    *folders, last = name.split('/')
    node = selected
    for folder in folders:
      node = node.setdefault(folder, {})
    node[last] = at(factors, name)
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
  names = frozenset(weights(spec))

  def visit(path, array):
    name = base.join(path)
    if name not in names:
      return array
    return function(array, *(at(other, name) for other in others))

  return jax.tree_util.tree_map_with_path(visit, factors)


def sparse(stored: Stored, array: jax.Array | jax.ShapeDtypeStruct) -> Stored:
  """Stores the nonzero entries and their indices."""
  kept = stored.kept
  if not isinstance(array, jax.ShapeDtypeStruct):
    kept = min(kept, int(np.count_nonzero(array)))
  return dataclasses.replace(stored, kept=kept, is_sparse=True)


def _stored(spec, factors) -> dict[str, Stored]:
  if isinstance(spec, Wrapped):
    return spec._stored(factors)
  leaves, _ = jax.tree_util.tree_flatten_with_path(factors)
  return {
    base.join(path): Stored(a.size, a.size, 8 * np.dtype(a.dtype).itemsize)
    for path, a in leaves
  }
