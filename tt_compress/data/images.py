"""Labeled images by the name of their source."""

import dataclasses
import functools
import hashlib
import os

import numpy as np
from absl import logging

from tt_compress.data import drawings, idx, sources, text, tfds


@dataclasses.dataclass(frozen=True)
class Images:
  """Images and the class that each belongs to.

  Args:
    images: uint8 [number, height, width] or [number, height, width, channels].
    labels: integers from 0, [number].
    name: where they come from, for messages.
    is_stand_in: whether they take the place of the data that one wants.

  Raises:
    ValueError: not as many labels as images, none of them, or another dtype.
  """

  images: np.ndarray
  labels: np.ndarray
  name: str
  is_stand_in: bool = False

  def __post_init__(self):
    if len(self.images) != len(self.labels):
      raise ValueError(
        f'{self.name}: {len(self.images)} images and {len(self.labels)} '
        'labels; every image needs one'
      )
    if not len(self.images):
      raise ValueError(f'{self.name}: no images')
    if self.images.dtype != np.uint8:
      raise ValueError(
        f'{self.name}: pixels are {self.images.dtype}, not uint8'
      )
    labels = np.asarray(self.labels, np.int32)
    if labels.min() < 0:
      raise ValueError(f'{self.name}: label {labels.min()} is negative')
    object.__setattr__(self, 'labels', labels)

  def __len__(self):
    return len(self.images)

  @property
  def shape(self):
    """Sizes of one image."""
    return self.images.shape[1:]

  @functools.cached_property
  def digest(self):
    """SHA-256 of pixels and labels in their order, in hexadecimal."""
    total = hashlib.sha256(repr(self.images.shape).encode())
    total.update(np.ascontiguousarray(self.images))
    total.update(self.labels.astype('<i4'))
    return total.hexdigest()


def load(source, split, **options):
  """Loads one split of labeled images.

  Args:
    source: a key of `SOURCES`.
    split: 'train', 'validation' or 'test'; validation is the end of the
      training images, held out.
    **options: keyword arguments of that source.

  Raises:
    ValueError: an unknown source, split or option, or a missing option; the
      valid ones are named.
  """
  return sources.call(SOURCES, source, split, options)


def _idx(split, *, path, num_validation=5000):
  """The four files of MNIST, and of the sets that come in its form.

  Args:
    split: 'train', 'validation' or 'test'.
    path: their folder; `~` and environment variables are expanded.
    num_validation: last training images held out for validation.
  """
  folder = text.expand(path)
  part = 't10k' if split == 'test' else 'train'
  images = idx.read(folder, f'{part}-images-idx3-ubyte', 3)
  labels = idx.read(folder, f'{part}-labels-idx1-ubyte', 1)
  # Before the cut, which might hide a difference.
  whole = Images(images, labels, f'{folder} {part}')
  name = f'{os.path.basename(os.path.normpath(folder))} {part}'
  whole = dataclasses.replace(whole, name=name)  # results travel, paths do not
  return whole if split == 'test' else _held_out(whole, split, num_validation)


def _mnist(split, *, path=None, num_validation=5000):
  """MNIST from where it is at hand, or a stand-in for it.

  The folder `path` if there is one, $TT_COMPRESS_DATA/mnist, TFDS if it is
  prepared there; else `digits`, which a warning and the name say.
  """
  shared = os.environ.get('TT_COMPRESS_DATA')
  if path is None and shared and os.path.isdir(os.path.join(shared, 'mnist')):
    path = os.path.join(shared, 'mnist')
  if path is not None:
    return _idx(split, path=path, num_validation=num_validation)
  if tfds.is_prepared('mnist'):
    return _tfds(split, name='mnist', num_validation=num_validation)
  logging.warning(
    'MNIST is not at hand: the digits of scikit-learn stand in for it. Set '
    'data.path to a folder of its four idx files, or TT_COMPRESS_DATA to the '
    'folder above mnist/'
  )
  return _digits(split)


def _tfds(split, *, name, num_validation=5000, data_dir=None):
  """Any data set of TensorFlow Datasets with features 'image' and 'label'."""
  part = 'test' if split == 'test' else 'train'
  rows = tfds.examples(name, part, ('image', 'label'), data_dir=data_dir)
  images, labels = [], []
  for row in rows:
    images.append(row['image'])
    labels.append(int(row['label']))
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


def _held_out(whole, split, num_validation):
  """All but the last images, or the last ones."""
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


def _digits(split, *, num_validation=200, num_test=297):
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


def _generated(
  split, *, num_train=2000, num_validation=300, num_test=300, num_classes=10
):
  """Noisy pictures of random patterns: for trying a run without any data."""
  sizes = dict(train=num_train, validation=num_validation, test=num_test)
  images, labels = drawings.patterns(split, sizes[split], num_classes)
  name = f'generated patterns, a stand-in, {split}'
  return Images(images, labels, name, True)


SOURCES = {
  'mnist': _mnist,
  'idx': _idx,
  'tfds': _tfds,
  'digits': _digits,
  'generated': _generated,
}
