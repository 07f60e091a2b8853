"""Steps whose loss or gradient is not finite, and losses that jump."""

import collections
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

# A loss jumps if it is this many standard deviations above the mean of the
# latest ones.
_DEVIATIONS = 6
_LATEST, _FEWEST = 100, 20
_SHOWN = 8  # examples that a message lists
_ADVICE = (
  'this state was not saved. The same command resumes from the last '
  'checkpoint: with --config.non_finite.policy=skip to leave such steps out. '
  'Or lower optimizer.learning_rate, set optimizer.clip_norm or raise '
  'optimizer.warmup_steps, and start again with another --workdir'
)


class Guard:
  """Looks at the loss and the gradient of every step.

  Args:
    policy: 'abort' refuses numbers that are not finite; 'skip' logs them, where
      the step has left the state as it was.
    limit: 'skip' refuses more such steps in a row.
    examples: indices of the training examples of a step, from 0.
  """

  def __init__(
    self, policy: str, limit: int, examples: Callable[[int], Sequence[int]]
  ):
    self._policy, self._limit, self._examples = policy, limit, examples
    self._in_a_row = 0
    self._losses = collections.deque(maxlen=_LATEST)

  def check(self, step: int, measured: Mapping[str, float]) -> bool:
    """Whether the numbers of a step are finite.

    Raises:
      FloatingPointError: they are not, and the policy does not skip the step.
    """
    bad = [name for name, x in measured.items() if not math.isfinite(x)]
    if not bad:
      self._in_a_row = 0
      self._note(step, float(measured['loss']))
      return True
    self._in_a_row += 1
    found = f'{bad[0]} of step {step} is {measured[bad[0]]} ({self._of(step)})'
    if self._policy == 'abort':
      raise FloatingPointError(f'{found}; {_ADVICE}')
    if self._in_a_row > self._limit:
      raise FloatingPointError(
        f'{found}, as in {self._limit} skipped steps before it '
        f'(non_finite.limit={self._limit}); {_ADVICE}'
      )
    logging.warning('%s; the step is skipped', found)
    return False

  def _note(self, step, loss):
    """Logs a loss that jumps."""
    mean, deviation = np.mean(self._losses or 0), np.std(self._losses or 0)
    if (
      len(self._losses) >= _FEWEST and loss > mean + _DEVIATIONS * deviation > 0
    ):
      logging.warning(
        'the loss of step %d is %.4f, after a mean of %.4f (%s)',
        *(step, loss, mean, self._of(step)),
      )
    self._losses.append(loss)

  def _of(self, step):
    found = [int(index) for index in self._examples(step - 1)]
    more = f' and {len(found) - _SHOWN} more' if len(found) > _SHOWN else ''
    return f'training examples {", ".join(map(str, found[:_SHOWN]))}{more}'


def check_scores(step: int, scores: Mapping[str, float]) -> None:
  """Refuses a validation loss that is not finite.

  Raises:
    FloatingPointError: naming the loss and the step.
  """
  if not math.isfinite(scores['loss']):
    raise FloatingPointError(
      f'validation loss of step {step} is {scores["loss"]}; {_ADVICE}'
    )


def check_state(state: Mapping[str, Any]) -> None:
  """Refuses a state with numbers that are not finite.

  Args:
    state: of arrays; those of other processes are not looked at.

  Raises:
    FloatingPointError: naming the first such array and the step.
  """
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    # Replicas on other devices of this process need not be copied.
    parts = {str(part.index): part.data for part in leaf.addressable_shards}
    if not all(map(_is_finite, parts.values())):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      raise FloatingPointError(
        f'{name} after step {int(state["step"])} is not finite; {_ADVICE}'
      )


def _is_finite(array: jax.Array) -> bool:
  return bool(np.isfinite(np.asarray(array)).all())
