"""Stand-ins for real images, without a download."""

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16

from tt_compress.data import corpus

SIZE = 28


def digits() -> tuple[UInt8[np.ndarray, '1797 28 28'], Int[np.ndarray, '1797']]:
  """The handwritten digits that come with scikit-learn, resized.

  Returns:
    (uint8 [1797, 28, 28], int64 [1797]); 8 x 8 pixels interpolated linearly.

  Raises:
    ImportError: scikit-learn is missing; the message says what to install.
  """
  try:
    from sklearn import datasets
  except ImportError as error:
    raise ImportError(
      f'the data source digits needs {error.name}; pip install '
      "'tt-compress[digits]'"
    ) from error
  found = datasets.load_digits()
  spread = _interpolation(found.images.shape[1])
  images = spread @ found.images @ spread.T
  return np.round(255 / 16 * images).astype(np.uint8), found.target


def _interpolation(size: int) -> Float[np.ndarray, '28 size']:
  """The matrix [SIZE, size] of linear interpolation between pixel centers."""
  places = (np.arange(SIZE) + 0.5) * size / SIZE - 0.5
  unit = np.eye(size)
  return np.stack(
    [np.interp(places, np.arange(size), unit[:, i]) for i in range(size)],
    axis=1,
  )


def patterns(
  split: str, number: int, num_classes: int
) -> tuple[UInt8[np.ndarray, 'number 28 28'], Int[np.ndarray, ' number']]:
  """Pictures of one random pattern per class, under as much noise.

  Args:
    split: decides the noise; the patterns are those of every split.
    number: of images.
    num_classes: of patterns.

  Returns:
    (uint8 [number, 28, 28], int64 [number]); always the same.
  """
  coarse = _bytes((0,), (num_classes, 7, 7))
  patterns = np.kron(coarse, np.ones((1, SIZE // 7, SIZE // 7), np.uint16))
  labels = np.arange(number) % num_classes
  noise = _bytes((1, corpus.SPLITS.index(split)), (number, SIZE, SIZE))
  return ((patterns[labels] + noise) // 2).astype(np.uint8), labels


def _bytes(
  seed: tuple[int, ...], shape: tuple[int, ...]
) -> UInt16[np.ndarray, '...']:
  """Uniform bytes as uint16; raw bits, which NumPy keeps over its versions."""
  bits = np.random.Philox(np.random.SeedSequence(seed))
  return (
    (bits.random_raw(int(np.prod(shape))) >> 56)
    .astype(np.uint16)
    .reshape(shape)
  )
