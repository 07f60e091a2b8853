"""Which checkpoints stay: the latest, the best, and where a run was stopped."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

Best = tuple[str, Literal['max', 'min']]


class Policy:
  """Decides which checkpoints a manager of orbax preserves.

  Args:
    keep_latest: how many of the latest lasting checkpoints.
    best: metric and mode of the best one, which stays, too; or None.
    is_lasting: whether the checkpoint of a step stays when a later one is
      saved. One of a stopped run does not: it would take the place of another.
  """

  def __init__(
    self,
    keep_latest: int,
    best: Best | None,
    is_lasting: Callable[[int], bool],
  ):
    self._keep_latest, self._best = keep_latest, best
    self._is_lasting = is_lasting

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> list[bool]:
    """Whether to preserve each checkpoint, in ascending order of steps."""
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    kept = list(filter(self._is_lasting, steps))[-self._keep_latest :]
    best = ranked({c.step: c.metrics for c in checkpoints}, self._best)
    return [step in {*kept, *best[:1], steps[-1]} for step in steps]


def ranked(
  metrics: Mapping[int, Mapping[str, float] | None], best: Best | None
) -> list[int]:
  """The steps that have the deciding metric, the best and the latest first.

  Args:
    metrics: by step.
    best: the deciding metric and its mode, or None.
  """
  if best is None:
    return []
  found = {step: quality(metrics[step], best) for step in metrics}
  usable = [step for step in found if found[step] > -math.inf]
  return sorted(usable, key=lambda step: (found[step], step), reverse=True)


def quality(metrics: Mapping[str, float] | None, best: Best) -> float:
  """A number that is larger for a better checkpoint; NaN and none are worst."""
  name, mode = best
  value = (metrics or {}).get(name, math.nan)
  if math.isnan(value):
    return -math.inf
  return value if mode == 'max' else -value
