"""Orders of the words of a vocabulary: which ids are close to each other.

A tensor train shares numbers between the rows of a matrix whose ids have digits
in common, so the order of the ids matters to it.
"""

import hashlib
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from tt_compress.data import text_files

# Numbers that an order by co-occurrence depends on; results do, too.
_NUM_CONTEXTS = 512
_WINDOW = 4
_NUM_DIMS = 32

Words = Sequence[str]


def check(order: str) -> None:
  """Refuses a text that is neither an order of `ORDERS` nor a file.

  Raises:
    ValueError: naming the orders.
  """
  if order not in ORDERS and not os.path.isfile(order):
    raise ValueError(
      f'order={order!r} must be one of {", ".join(ORDERS)}, or a file with a '
      'word per line'
    )


def identity(order: str) -> str:
  """The name of the order, or the digest of its file."""
  if order in ORDERS:
    return order
  return hashlib.sha256(pathlib.Path(order).read_bytes()).hexdigest()


def arrange(words: Words, texts: Iterable[Words], order: str) -> list[str]:
  """The words in an order, always the same for the same texts.

  Args:
    words: by falling frequency.
    texts: the words of every text, others among them.
    order: a name in `ORDERS`, or a file with a word per line. Words that are
      not in the file follow the others, by falling frequency.
  """
  if order in ORDERS:
    return [words[i] for i in ORDERS[order](words, texts)]
  lines = text_files.read_lines(order)
  places = {word: place for place, word in enumerate(lines)}
  return sorted(words, key=lambda word: places.get(word, len(places)))


def by_vectors(vectors: Float[np.ndarray, 'n dim']) -> Int[np.ndarray, ' n']:
  """An order of a balanced clustering: similar vectors are close to each other.

  Vectors are sorted along their first principal component and halved, and each
  half is ordered in the same way. Halves need not end where a digit of the ids
  of a tensor train does.
  """
  if len(vectors) < 3:
    return np.arange(len(vectors))
  along = np.argsort(_first_component(vectors), kind='stable')
  halves = np.array_split(along, 2)
  return np.concatenate([half[by_vectors(vectors[half])] for half in halves])


def _first_component(vectors):
  """Coordinates of the vectors along their first principal component."""
  centered = vectors - vectors.mean(axis=0)
  if len(vectors) < vectors.shape[1]:
    # Most clusters are small, and their products have the same eigenvalues.
    _, coordinates = np.linalg.eigh(centered @ centered.T)
    return coordinates[:, -1]
  _, axes = np.linalg.eigh(centered.T @ centered)
  return centered @ axes[:, -1]


def context_vectors(
  words: Words, texts: Iterable[Words]
) -> Float[np.ndarray, 'n dim']:
  """Vectors of words that have similar neighbors are similar.

  They are the principal components of the positive pointwise mutual information
  of a word and each of the most frequent words, within 4 words of each other.
  """
  ids = {word: i for i, word in enumerate(words)}
  num_contexts = min(_NUM_CONTEXTS, len(words))
  counts = np.zeros((len(words), num_contexts))
  for text in texts:
    found = np.array([ids.get(word, -1) for word in text], int)
    for distance in range(1, _WINDOW + 1):
      left, right = found[:-distance], found[distance:]
      for word, context in ((left, right), (right, left)):
        known = (word >= 0) & (context >= 0) & (context < num_contexts)
        np.add.at(counts, (word[known], context[known]), 1)
  total = max(counts.sum(), 1)  # Texts of one word have no neighbors.
  expected = counts.sum(1, keepdims=True) * counts.sum(0) / total
  information = np.log(np.maximum(counts / np.maximum(expected, 1e-9), 1))
  _, axes = np.linalg.eigh(information.T @ information)
  return information @ axes[:, -_NUM_DIMS:]


def _frequency(words, texts):
  return np.arange(len(words))


def _reversed(words, texts):
  return np.arange(len(words))[::-1]


def _random(words, texts):
  return np.random.default_rng(0).permutation(len(words))


def _cooccurrence(words, texts):
  return by_vectors(context_vectors(words, texts))


ORDERS: dict[str, Callable[..., Int[np.ndarray, ' n']]] = {
  'frequency': _frequency,
  'reversed': _reversed,
  'random': _random,
  'cooccurrence': _cooccurrence,
}
