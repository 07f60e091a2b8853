"""Trains with a nonlinearity between their cores that equal a plain train.

A plain train has finitely many states, so that a bound of them is known: above
the bound max(s, bound) = s, and a ReLU passes everything that is shifted above
0.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

Core = Float[np.ndarray, '_ _ _ _']


def references(cores: Sequence[Core]) -> list[Float[np.ndarray, '_ _']]:
  """For 'max': references [I_k, R_{k-1}] of cores 2 ... N below all states."""
  return [
    np.tile(low - 0.01 * (high - low), (core.shape[1], 1))
    for (low, high), core in zip(_ranges(cores), cores[1:], strict=True)
  ]


def shifted(cores: Sequence[Core]) -> list[Core]:
  """For 'relu': the same matrix, with every inner rank larger by one.

  The state s of the plain train becomes (s - low, c) >= 0: numbers shifted by
  their least value, low <= 0, and a constant c, which undoes the shift in the
  next core.

  Args:
    cores: N cores [R_{k-1}, I_k, J_k, R_k] of a plain train.

  Returns:
    N cores [R_{k-1} + 1, I_k, J_k, R_k + 1], without the + 1 at both ends.
  """
  found = []
  # Before the first core there is the constant 1 alone.
  of_states, of_constant, constant = cores[0][:0], cores[0][0], 1.0
  ranges = [*_ranges(cores), None]
  for core, bounds in zip((*cores[1:], None), ranges, strict=True):
    grown = np.concatenate([of_states, of_constant[None]])
    if bounds is not None:
      low = np.minimum(bounds[0], 0)
      following = np.max(-low, initial=0) or 1.0
      grown[-1] -= low / constant
      column = np.zeros((*grown.shape[:3], 1))
      column[-1] = following / constant
      grown = np.concatenate([grown, column], axis=-1)
      constant = following
      of_states, of_constant = core, np.tensordot(low, core, 1) / constant
    found.append(grown)
  return found


def _ranges(
  cores: Sequence[Core],
) -> Iterator[tuple[Float[np.ndarray, ' _'], Float[np.ndarray, ' _']]]:
  """(least, greatest) values of the states after each core but the last."""
  states = np.ones((1, 1))
  for core in cores[:-1]:
    states = states @ core.reshape(len(core), -1)
    states = states.reshape(-1, core.shape[-1])
    yield states.min(axis=0), states.max(axis=0)
