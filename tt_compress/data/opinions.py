"""Generated texts with an opinion, to try a run without any data."""

import numpy as np
from jaxtyping import Int

from tt_compress.data import corpus, labeled_text

_NUM_NEUTRAL, _NUM_PER_CLASS = 400, 20
_MIN_LENGTH, _MAX_LENGTH = 5, 40


def load(
  split: str,
  *,
  num_train: int = 2000,
  num_validation: int = 300,
  num_test: int = 300,
  num_classes: int = 2,
) -> labeled_text.LabeledText:
  """Texts of neutral words and of a few words that speak for their class.

  Some of these words speak for another class than that of their text, so no
  model is always right.

  Args:
    split: 'train', 'validation' or 'test', which have no text in common.
    num_train: number of texts of that split, as the next two.
    num_validation: see above.
    num_test: see above.
    num_classes: number of labels.
  """
  sizes = dict(train=num_train, validation=num_validation, test=num_test)
  number = sizes[split]
  labels = np.arange(number) % num_classes
  random = _Random((2, corpus.SPLITS.index(split)))
  lengths = _MIN_LENGTH + random.below(_MAX_LENGTH - _MIN_LENGTH + 1, number)
  texts = [
    ' '.join(_words(random, label, length, num_classes))
    for label, length in zip(labels, lengths, strict=True)
  ]
  return labeled_text.LabeledText(
    texts, labels, f'generated opinions, a stand-in, {split}'
  )


def _words(
  random: '_Random', label: int, length: int, num_classes: int
) -> list[str]:
  """Words of a text; one of five is an opinion, mostly that of the label."""
  kinds = random.below(5, length)
  # Multiplied, uniform numbers give small ones more often, as words have it.
  neutral = (
    random.below(_NUM_NEUTRAL, length) * random.below(1000, length) // 1000
  )
  of_class = random.below(_NUM_PER_CLASS, length)
  others = random.below(num_classes, length)
  is_other = random.below(5, length) == 0
  classes = np.where(is_other, others, label)
  return [
    f'opinion{c}x{o}' if kind == 0 else f'word{n}'
    for kind, n, o, c in zip(kinds, neutral, of_class, classes, strict=True)
  ]


class _Random:
  """Integers from raw bits, which NumPy keeps over its versions.

  Args:
    seed: decides them.
  """

  def __init__(self, seed: tuple[int, ...]):
    self._bits = np.random.Philox(np.random.SeedSequence(seed))

  def below(self, bound: int, number: int) -> Int[np.ndarray, ' number']:
    """Uniform integers from 0 to `bound` - 1."""
    bits = np.atleast_1d(self._bits.random_raw(number)) >> np.uint64(40)
    return (bits % np.uint64(bound)).astype(np.int64)
