"""Scores of predicted probabilities of a click."""

import numpy as np
from jaxtyping import Bool, Float


def auc(
  scores: Float[np.ndarray, ' examples'],
  is_click: Bool[np.ndarray, ' examples'],
) -> float:
  """The share of pairs of a click and no click that are in the right order.

  A pair of equal scores counts as half; NaN without clicks or without others.

  Complexity: O(n log n)
  """
  clicks = int(np.sum(is_click))
  others = len(is_click) - clicks
  if not clicks or not others:
    return float('nan')
  _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
  # The mean rank, from 1, of the examples of each distinct score.
  ranks = np.cumsum(counts) - (counts - 1) / 2
  above = np.sum(ranks[places[is_click]]) - clicks * (clicks + 1) / 2
  return float(above / (clicks * others))
