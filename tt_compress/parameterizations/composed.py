"""The ground of parameterizations that are made of other ones."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from tt_compress.parameterizations import base


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
class Composed(base.Parameterization):
  """A matrix that is computed from the factors of other specs, its components.

  factors = {name: factors of that spec} and arrays of the subclass. The
  components keep their buffers, projection and noise.
  """

  def __post_init__(self):
    super().__post_init__()
    for name, spec in self.components.items():
      if not isinstance(spec, base.Parameterization):
        raise ValueError(
          f'{name} must be a parameterization, got {spec!r}; `make` builds '
          'one from dict(name=...)'
        )
      if (spec.rows, spec.cols) != (self.rows, self.cols):
        raise ValueError(
          f'{name} is a matrix of {spec.rows} x {spec.cols}, but '
          f'{type(self).__name__} has rows={self.rows}, cols={self.cols}; they '
          'must be the same'
        )

  @property
  def components(self) -> dict[str, base.Parameterization]:
    """The other specs, of the same rows and cols, by name."""
    raise NotImplementedError(f'{type(self).__name__} has no components')

  def fans(self, use):
    return {
      f'{name}/{path}': fans
      for name, spec in self.components.items()
      for path, fans in spec.fans(use).items()
    }

  @property
  def buffers(self):
    return tuple(
      f'{name}/{path}'
      for name, spec in self.components.items()
      for path in spec.buffers
    )

  @property
  def num_frozen(self):
    return sum(spec.num_frozen for spec in self.components.values())

  @property
  def settled_at(self):
    return max(spec.settled_at for spec in self.components.values())

  @property
  def has_noise(self):
    return any(spec.has_noise for spec in self.components.values())

  @property
  def draws_per_example(self):
    return any(spec.draws_per_example for spec in self.components.values())

  def project(self, factors, step):
    projected = {
      name: spec.project(factors[name], step)
      for name, spec in self.components.items()
    }
    return {**factors, **projected}

  def stored_size(self, factors):
    """(numbers, bits) of the effective factors; see `Stored`.

    If factors are shapes without values, all entries count as nonzero.
    """
    arrays = self.stored(factors).values()
    return sum(a.numbers for a in arrays), sum(a.bits for a in arrays)

  def stored(self, factors: base.Factors) -> dict[str, Stored]:
    """{path: how a file stores the array} for what a product needs."""
    return {
      f'{name}/{path}': entry
      for name, spec in self.components.items()
      for path, entry in stored(spec, factors[name]).items()
    }

  def _check_initialization(self):
    """The components refuse what they do not have."""

  def _initialized(self, spec: base.Parameterization) -> base.Parameterization:
    """A component with the initialization of this one, if it has one."""
    if self.initialization in (None, spec.initialization):
      return spec
    if spec.initialization is not None:
      raise ValueError(
        f'initialization={self.initialization!r} of {type(self).__name__}, but '
        f'that of its {type(spec).__name__} is {spec.initialization!r}; leave '
        'out one of the two'
      )
    return dataclasses.replace(spec, initialization=self.initialization)


@functools.lru_cache(maxsize=4096)
def shapes(spec: base.Parameterization) -> base.Factors:
  """Shapes of the factors of a spec, float32."""
  return jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))


def is_matrix(spec: base.Parameterization) -> bool:
  """Whether the only factor of a spec is W itself, as 'matrix'."""
  found = shapes(spec)
  return set(found) == {'matrix'} and found['matrix'].shape == (
    spec.rows,
    spec.cols,
  )


@functools.lru_cache(maxsize=4096)
def weights(spec: base.Parameterization) -> tuple[str, ...]:
  """Paths of the arrays of a spec that wrappers change."""
  if isinstance(spec, Composed):
    return tuple(
      f'{name}/{path}'
      for name, each in spec.components.items()
      for path in weights(each)
    )
  return tuple(name for name in paths(spec) if name not in spec.buffers)


def paths(spec: base.Parameterization) -> tuple[str, ...]:
  """Paths of all arrays of a spec."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(shapes(spec))
  return tuple(base.join(path) for path, _ in leaves)


def at(tree: Mapping, name: str) -> Any:
  """The entry of nested dicts at a path 'a/b'."""
  return functools.reduce(lambda node, key: node[key], name.split('/'), tree)


def stored(
  spec: base.Parameterization, factors: base.Factors
) -> dict[str, Stored]:
  """{path: how a file stores the array}; see `Composed.stored`."""
  if isinstance(spec, Composed):
    return spec.stored(factors)
  leaves, _ = jax.tree_util.tree_flatten_with_path(factors)
  return {
    base.join(path): Stored(a.size, a.size, 8 * np.dtype(a.dtype).itemsize)
    for path, a in leaves
  }
