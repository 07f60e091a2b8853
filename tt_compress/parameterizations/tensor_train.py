"""A matrix as a tensor train (TT-matrix)."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from tt_compress.algebra import decompositions, modes, trains
from tt_compress.parameterizations import base

_NUM_MODES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorTrain(base.Parameterization):
  """W[i, j] = G_1[i_1, j_1] ... G_N[i_N, j_N], a product of small matrices.

  factors = {'core_0': [1, I_1, J_1, R_1], ..., 'core_{N-1}': [R_{N-1}, I_N,
  J_N, 1]}; i = (i_1, ..., i_N) and j are row-major. Where the products of the
  modes exceed rows and cols, the matrix is the upper left part.

  Attributes:
    tt_rank: one int for all inner ranks, or (R_1, ..., R_{N-1}), or (1, R_1,
      ..., R_{N-1}, 1), which the spec keeps. Ranks above those of the
      unfoldings are accepted, as published configurations have them.
    row_modes: (I_1, ..., I_N) with product >= rows; balanced if left out.
    col_modes: (J_1, ..., J_N) with product >= cols; balanced if left out.
    num_modes: N, for modes left out; 3 by default.

  Reference: "Tensorized Embedding Layers for Efficient Model Compression",
    section 3.
  """

  rank_option: ClassVar[str | None] = 'tt_rank'

  tt_rank: int | tuple[int, ...]
  row_modes: tuple[int, ...] | None = None
  col_modes: tuple[int, ...] | None = None
  # Not in the repr: the modes tell it.
  num_modes: int | None = dataclasses.field(default=None, repr=False)

  def __post_init__(self):
    super().__post_init__()
    self._set('num_modes', self._find_num_modes())
    for name, size in (('row_modes', self.rows), ('col_modes', self.cols)):
      given = getattr(self, name)
      if given is None:
        self._set(name, modes.padded(size, self.num_modes))
      else:
        self._set(name, _check_modes(name, given, size))
    self._set('tt_rank', _expand_rank(self.tt_rank, self.num_modes))

  @property
  def core_shapes(self) -> tuple[tuple[int, int, int, int], ...]:
    """Shapes (R_{k-1}, I_k, J_k, R_k) of the cores."""
    rank = self.tt_rank
    return tuple(
      zip(rank[:-1], self.row_modes, self.col_modes, rank[1:], strict=True)
    )

  @property
  def num_params(self):
    return sum(math.prod(shape) for shape in self.core_shapes)

  def init(self, key, *, std, dtype=jnp.float32):
    """Normal cores of variance (std / R)^(2 / N), R^2 = R_1 ... R_{N-1}.

    Reference: "Tensorized Embedding Layers for Efficient Model Compression",
      equation (2).
    """
    root = math.sqrt(math.prod(self.tt_rank))
    scale = (std / root) ** (1 / self.num_modes)
    keys = jax.random.split(key, self.num_modes)
    return _name(
      scale * jax.random.normal(keys[k], shape, dtype)
      for k, shape in enumerate(self.core_shapes)
    )

  def full(self, factors):
    return trains.full(self._cores(factors))[: self.rows, : self.cols]

  def take(self, factors, ids, *, key=None):
    # Digits of an id outside the matrix would name other rows or the padding.
    ids = jnp.where(ids < 0, ids + self.rows, ids)
    ids = jnp.clip(ids, 0, self.rows - 1)
    return trains.rows(self._cores(factors), ids)[..., : self.cols]

  def apply(self, factors, x, *, key=None):
    x = _pad(x, math.prod(self.row_modes))
    return trains.apply(self._cores(factors), x)[..., : self.cols]

  def attend(self, factors, x, *, key=None):
    x = _pad(x, math.prod(self.col_modes))
    cores = trains.transpose(self._cores(factors))
    return trains.apply(cores, x)[..., : self.rows]

  def fit(self, matrix):
    """Cores by TT-SVD; see `decompositions.tensor_train`."""
    cores = decompositions.tensor_train(
      self._check_matrix(matrix), self.row_modes, self.col_modes, self.tt_rank
    )
    return _name(jnp.asarray(core, jnp.float32) for core in cores)

  def _cores(self, factors):
    return [factors[f'core_{k}'] for k in range(self.num_modes)]

  def _find_num_modes(self):
    """N, on which num_modes and the modes that are given must agree."""
    given = {
      name: len(value)
      for name in ('row_modes', 'col_modes')
      if (value := getattr(self, name)) is not None
    }
    if self.num_modes is not None:
      given['num_modes'] = base.positive_int('num_modes', self.num_modes)
    if len(set(given.values())) > 1:
      told = ', '.join(f'{name} has {n}' for name, n in given.items())
      raise ValueError(
        f'the number of modes differs: {told}; give row_modes and col_modes '
        'of the same length'
      )
    return next(iter(given.values()), _NUM_MODES)


def _check_modes(name, given, size):
  given = tuple(base.positive_int(f'every entry of {name}', m) for m in given)
  if math.prod(given) < size:
    axis = name.removesuffix('_modes') + 's'
    raise ValueError(
      f'{axis}={size} does not fit in modes {given} = {math.prod(given)}; the '
      f'product must be >= {axis}; leave out {name} to have them chosen, e.g. '
      f'{modes.padded(size, len(given))}'
    )
  return given


def _expand_rank(tt_rank, num_modes):
  if not isinstance(tt_rank, tuple | list):
    inner = (base.positive_int('tt_rank', tt_rank),) * (num_modes - 1)
    return (1, *inner, 1)
  rank = tuple(base.positive_int('every entry of tt_rank', r) for r in tt_rank)
  if len(rank) == num_modes - 1:
    return (1, *rank, 1)
  if len(rank) == num_modes + 1 and rank[0] == rank[-1] == 1:
    return rank
  raise ValueError(
    f'tt_rank={rank} does not suit {num_modes} modes; give one int, the '
    f'{num_modes - 1} inner ranks, or all {num_modes + 1} with 1 at both ends'
  )


def _pad(x, size):
  widths = [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])]
  return jnp.pad(x, widths) if size > x.shape[-1] else x


def _name(cores):
  return {f'core_{k}': core for k, core in enumerate(cores)}
