"""Labeled images, and their sources."""

import dataclasses
import functools
import hashlib
import os

import numpy as np
from absl import logging
from jaxtyping import Int32, UInt8

from tt_compress.data import corpus, drawings, idx, text_files, tfds


@dataclasses.dataclass(frozen=True)
class Images:
  """Images and the class that each belongs to.

  Args:
    images: uint8 [number, height, width] or [number, height, width, channels].
    labels: integers from 0, [number].
    name: of the data, for messages.
    is_stand_in: whether they take the place of other data, which are not at
      hand.

  Raises:
    ValueError: not as many labels as images, none of them, or another dtype.
  """

  images: UInt8[np.ndarray, 'number height width ...']
  labels: Int32[np.ndarray, ' number']
  name: str
  is_stand_in: bool = False

  def __post_init__(self) -> None:
    labels = corpus.checked_labels(self.labels, len(self.images), self.name)
    if self.images.dtype != np.uint8:
      raise ValueError(
        f'{self.name}: pixels are {self.images.dtype}, not uint8'
      )
    object.__setattr__(self, 'labels', labels)

  def __len__(self) -> int:
    return len(self.images)

  @property
  def shape(self) -> tuple[int, ...]:
    """Sizes of one image."""
    return self.images.shape[1:]

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of pixels and labels in their order, in hexadecimal."""
    total = hashlib.sha256(repr(self.images.shape).encode())
    total.update(np.ascontiguousarray(self.images))
    total.update(self.labels.astype('<i4'))
    return total.hexdigest()


def from_idx(split: str, *, path: str, num_validation: int = 5000) -> Images:
  """The four idx files of MNIST or of a data set in its form.

  Validation images are the last training images, held out.

  Args:
    split: 'train', 'validation' or 'test'.
    path: their folder; `~` and environment variables are expanded.
    num_validation: last training images held out for validation.
  """
  folder = text_files.expand(path)
  part = 't10k' if split == 'test' else 'train'
  images = idx.read(folder, f'{part}-images-idx3-ubyte', 3)
  labels = idx.read(folder, f'{part}-labels-idx1-ubyte', 1)
  # Before the cut, which might hide a difference.
  whole = Images(images, labels, f'{folder} {part}')
  name = f'{os.path.basename(os.path.normpath(folder))} {part}'
  whole = dataclasses.replace(whole, name=name)  # results must not hold paths
  return whole if split == 'test' else _held_out(whole, split, num_validation)


def mnist(
  split: str, *, path: str | None = None, num_validation: int = 5000
) -> Images:
  """MNIST from the first place that has it, or a stand-in for it.

  The folder `path`, $TT_COMPRESS_DATA/mnist, or TFDS if MNIST is prepared
  there; else `digits`, with a warning.
  """
  shared = os.environ.get('TT_COMPRESS_DATA')
  if path is None and shared and os.path.isdir(os.path.join(shared, 'mnist')):
    path = os.path.join(shared, 'mnist')
  if path is not None:
    return from_idx(split, path=path, num_validation=num_validation)
  if tfds.is_prepared('mnist'):
    return from_tfds(split, name='mnist', num_validation=num_validation)
  logging.warning(
    'MNIST was not found: the digits of scikit-learn replace it. Set '
    'data.path to a folder of its four idx files, or TT_COMPRESS_DATA to the '
    'folder above mnist/'
  )
  return digits(split)


def from_tfds(
  split: str,
  *,
  name: str,
  num_validation: int = 5000,
  data_dir: str | None = None,
) -> Images:
  """Any data set of TensorFlow Datasets with features 'image' and 'label'."""
  part = 'test' if split == 'test' else 'train'
  found = tfds.examples(name, part, ('image', 'label'), data_dir=data_dir)
  images, labels = [], []
  for example in found:
    images.append(example['image'])
    labels.append(int(example['label']))
  shapes = {np.shape(image) for image in images}
  if len(shapes) > 1:
    raise ValueError(
      f'{name} {part}: images of {len(shapes)} different shapes, such as '
      f'{sorted(shapes)[:2]}; all must have one'
    )
  images = np.stack(images) if images else np.zeros((0, 1, 1), np.uint8)
  if images.shape[-1] == 1:
    images = images[..., 0]
  whole = Images(images, labels, f'{name} {part}')
  return whole if split == 'test' else _held_out(whole, split, num_validation)


def _held_out(whole: Images, split: str, num_validation: int) -> Images:
  """For validation the last images, for training the others."""
  if not 0 < num_validation < len(whole):
    raise ValueError(
      f'num_validation={num_validation} must be from 1 to {len(whole) - 1}, of '
      f'the {len(whole)} training images of {whole.name}'
    )
  cut = len(whole) - num_validation
  kept = slice(cut) if split == 'train' else slice(cut, None)
  return dataclasses.replace(
    whole,
    images=whole.images[kept],
    labels=whole.labels[kept],
    name=f'{whole.name}, {split}',
  )


def digits(
  split: str, *, num_validation: int = 200, num_test: int = 297
) -> Images:
  """The 1,797 digits of scikit-learn, resized to 28 x 28: a stand-in."""
  images, labels = drawings.digits()
  name = 'digits of scikit-learn at 28 x 28, a stand-in for MNIST'
  rest = len(images) - num_test
  if not 0 < num_test < len(images):
    raise ValueError(f'num_test={num_test} must be from 1 to {len(images) - 1}')
  if split == 'test':
    return Images(images[rest:], labels[rest:], f'{name}, test', True)
  whole = Images(images[:rest], labels[:rest], name, True)
  return _held_out(whole, split, num_validation)


def generated(
  split: str,
  *,
  num_train: int = 2000,
  num_validation: int = 300,
  num_test: int = 300,
  num_classes: int = 10,
) -> Images:
  """Noisy pictures of random patterns, to try a run without any data."""
  sizes = dict(train=num_train, validation=num_validation, test=num_test)
  images, labels = drawings.patterns(split, sizes[split], num_classes)
  name = f'generated patterns, a stand-in, {split}'
  return Images(images, labels, name, True)
