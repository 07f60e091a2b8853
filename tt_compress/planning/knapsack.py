"""Choosing one of several sizes for each of many things, within a total."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

# States that are kept after each thing. With more, the best one in each of so
# many intervals of sizes stays: the result may then be larger than necessary by
# one interval per thing.
_STATES = 2**15


@dataclasses.dataclass(frozen=True, eq=False)
class Front:
  """The best total cost for every total size.

  Attributes:
    sizes: ascending.
    costs: descending, the least of each size.
    choices: [states, things], the index of the point of each thing.
  """

  sizes: Int[np.ndarray, ' states']
  costs: Float[np.ndarray, ' states']
  choices: Int[np.ndarray, 'states things']

  def within(self, size: int) -> Int[np.ndarray, ' things'] | None:
    """The choice of the least cost up to a size; None if there is none."""
    index = np.searchsorted(self.sizes, size, side='right') - 1
    return None if index < 0 else self.choices[index]


def front(
  points: Sequence[
    tuple[Int[np.ndarray, ' points'], Float[np.ndarray, ' points']]
  ],
  states: int = _STATES,
) -> Front:
  """The front of the sums of one point (size, cost) of each thing.

  Exact while there are at most `states` of them.

  Args:
    points: of each thing, its sizes and costs.
    states: the most that are kept.
  """
  sizes, costs = np.zeros(1, np.int64), np.zeros(1)
  history = []
  for own_sizes, own_costs in points:
    total_sizes = np.add.outer(sizes, np.asarray(own_sizes, np.int64)).ravel()
    total_costs = np.add.outer(costs, own_costs).ravel()
    kept = _thinned(total_sizes, _best(total_sizes, total_costs), states)
    sizes, costs = total_sizes[kept], total_costs[kept]
    history.append(np.divmod(kept, len(own_sizes)))
  return Front(sizes, costs, _choices(history, len(sizes)))


def _best(sizes, costs):
  """Indices of states that no smaller one is as good as, by size."""
  order = np.lexsort((costs, sizes))
  least = np.minimum.accumulate(costs[order])
  is_better = np.concatenate([[True], costs[order][1:] < least[:-1]])
  return order[is_better]


def _thinned(sizes, kept, states):
  """The last, hence best, state of each interval of sizes, and the smallest."""
  if len(kept) <= states:
    return kept
  own = sizes[kept]
  interval = (own - own[0]) * (states - 2) // max(1, own[-1] - own[0])
  is_last = np.concatenate([interval[1:] != interval[:-1], [True]])
  is_last[0] = True
  return kept[is_last]


def _choices(history, count):
  index, columns = np.arange(count), []
  for before, choice in reversed(history):
    columns.append(choice[index])
    index = before[index]
  return np.stack(columns[::-1], axis=1)
