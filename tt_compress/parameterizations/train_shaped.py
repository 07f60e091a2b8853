"""The ground of parameterizations with the cores of a tensor train."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, ClassVar

from tt_compress.algebra import context, cost, train_costs
from tt_compress.parameterizations import checks, reshaped


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainShaped(reshaped.Reshaped):
  """Factors {'core_0': [1, I_1, J_1, R_1], ..., [R_{N-1}, I_N, J_N, 1]}.

  Attributes:
    tt_rank: one int for all inner ranks, or (R_1, ..., R_{N-1}), or (1, R_1,
      ..., R_{N-1}, 1); the spec keeps the last form. Some ranks may exceed the
      largest rank of their unfolding, as in published configurations, but not
      the largest of all unfoldings.
  """

  rank_option: ClassVar[str | None] = 'tt_rank'

  tt_rank: int | tuple[int, ...]

  def __post_init__(self):
    super().__post_init__()
    given = self.tt_rank
    rank = expand_rank(given, self.num_modes)
    checks.rank(
      'tt_rank',
      given if isinstance(given, int) else max(rank),
      self._largest_rank(),
      f'modes {self.row_modes} x {self.col_modes}',
    )
    self._set('tt_rank', rank)

  def _largest_rank(self) -> int:
    """The largest rank that the modes can use."""
    return self._largest_unfolding_rank()

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

  @property
  def lookup_multiplications(self) -> int:
    """Number of multiplications of a looked-up row, core by core."""
    model = cost.Model(context.current().machine, itemsize=4)
    return train_costs.lookup(self.core_shapes, True, 1, model).operations

  @property
  def network(self):
    return {
      f'core_{k}': {
        f'r_{k}': left,
        f'i_{k}': rows,
        f'j_{k}': cols,
        f'r_{k + 1}': right,
      }
      for k, (left, rows, cols, right) in enumerate(self.core_shapes)
    }

  def _cores(self, factors):
    return [factors[f'core_{k}'] for k in range(self.num_modes)]


def expand_rank(tt_rank: Any, num_modes: int) -> tuple[int, ...]:
  """(1, R_1, ..., R_{N-1}, 1) of any form of tt_rank.

  Raises:
    ValueError: an entry that is no rank, or another number of entries.
  """
  if not isinstance(tt_rank, tuple | list):
    inner = (checks.positive_int('tt_rank', tt_rank),) * (num_modes - 1)
    return (1, *inner, 1)
  rank = tuple(
    checks.positive_int('every entry of tt_rank', r) for r in tt_rank
  )
  if len(rank) == num_modes - 1:
    return (1, *rank, 1)
  if len(rank) == num_modes + 1 and rank[0] == rank[-1] == 1:
    return rank
  raise ValueError(
    f'tt_rank={rank} does not suit {num_modes} modes; give one int, the '
    f'{num_modes - 1} inner ranks, or all {num_modes + 1} with 1 at both ends'
  )


def name(cores: Iterable[Any]) -> dict[str, Any]:
  """{'core_0': ..., 'core_1': ...}."""
  return {f'core_{k}': core for k, core in enumerate(cores)}
