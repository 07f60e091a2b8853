"""A click log that is drawn at random, of any number of values."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from tt_compress.data import corpus
from tt_compress.data.click_logs import click_log

# Ids below it have effects of their own on the label.
_KNOWN = 64
_MEAN_LOGIT = -1.5
_STD_LOGIT = 1.5


def load(
  split: str,
  *,
  cardinalities: Sequence[int],
  number: int = 4096,
  seed: int = 0,
) -> click_log.ClickLog:
  """Draws one split.

  An id follows Zipf's law: its frequency is about 1 / (id + 1). The labels
  follow a logistic model of the ids.

  Args:
    split: 'train', 'validation' or 'test'.
    cardinalities: number of ids of each feature.
    number: of the training examples; the other splits have a quarter.
    seed: of the ids, the labels and the logistic model.

  Raises:
    ValueError: no cardinalities, or a number below 1.
  """
  if not cardinalities or min(cardinalities) < 1 or number < 1:
    raise ValueError(
      f'cardinalities={tuple(cardinalities)} and number={number} must be at '
      'least 1'
    )
  rng = np.random.default_rng([seed, corpus.SPLITS.index(split)])
  number = number if split == 'train' else math.ceil(number / 4)
  ids = np.stack(
    [zipf(rng.random(number), size) for size in cardinalities], axis=1
  )
  effects = np.random.default_rng([seed, 3]).normal(
    0, _STD_LOGIT / math.sqrt(len(cardinalities)), (len(cardinalities), _KNOWN)
  )
  logits = _MEAN_LOGIT + sum(
    own[np.minimum(column, _KNOWN - 1)]
    for own, column in zip(effects, ids.T, strict=True)
  )
  labels = (rng.random(number) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
  digest = hashlib.sha256(ids.astype('<i4').tobytes() + labels.tobytes())
  return click_log.ClickLog(
    ids,
    labels,
    cardinalities=tuple(cardinalities),
    name='generated',
    digest=digest.hexdigest(),
  )


def zipf(uniform: np.ndarray, size: int) -> np.ndarray:
  """Ids whose frequency is log(1 + 1 / (id + 1)) / log(size + 1).

  Args:
    uniform: numbers in [0, 1).
    size: number of ids.
  """
  ids = np.exp(uniform * math.log(size + 1)).astype(np.int32) - 1
  return np.minimum(ids, size - 1)
