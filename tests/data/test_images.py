"""Sources of labeled images: splits, counts and stand-ins."""

import hashlib
import os
import pathlib
import struct
import types

import numpy as np
import pytest

from tt_compress.data import images, sources, tfds


def write_idx(path, array):
  header = struct.pack(f'>{1 + array.ndim}I', 2048 + array.ndim, *array.shape)
  path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_split(folder, part, number, num_labels=None):
  """Images whose pixels, and labels, tell their place."""
  pixels = np.arange(number)[:, None, None] * np.ones((1, 2, 3))
  write_idx(folder / f'{part}-images-idx3-ubyte', pixels)
  labels = np.arange(num_labels or number) % 10
  write_idx(folder / f'{part}-labels-idx1-ubyte', labels)


@pytest.fixture
def folder(tmp_path):
  write_split(tmp_path, 'train', 23)
  write_split(tmp_path, 't10k', 7)
  return tmp_path


def test_validation_is_the_end_of_the_training_images(folder):
  find = lambda split: sources.load(
    'labeled images', 'idx', split, path=str(folder), num_validation=4
  )
  places = {
    split: find(split).images[:, 1, 2].tolist()
    for split in ('train', 'validation', 'test')
  }
  assert places['train'] == list(range(19))
  assert places['validation'] == [19, 20, 21, 22]
  assert places['test'] == list(range(7))
  found = find('validation')
  assert found.labels.tolist() == [9, 0, 1, 2]
  assert found.labels.dtype == np.int32 and found.images.dtype == np.uint8
  assert found.shape == (2, 3)


def test_variables_in_a_path(folder, monkeypatch):
  path = '${TT_COMPRESS_DATA}/' + folder.name
  monkeypatch.setenv('TT_COMPRESS_DATA', str(folder.parent))
  assert len(sources.load('labeled images', 'idx', 'test', path=path)) == 7
  monkeypatch.delenv('TT_COMPRESS_DATA')
  with pytest.raises(ValueError, match='TT_COMPRESS_DATA is not set'):
    sources.load('labeled images', 'idx', 'test', path=path)


def test_counts_that_differ(folder):
  write_split(folder, 't10k', 7, num_labels=6)
  with pytest.raises(ValueError, match='t10k: 7 examples and 6 labels'):
    sources.load('labeled images', 'idx', 'test', path=str(folder))


@pytest.mark.parametrize('number', [0, 23, -1])
def test_nothing_to_train_on_or_to_validate_with(folder, number):
  with pytest.raises(ValueError, match=f'={number} must be from 1 to 22'):
    sources.load(
      'labeled images', 'idx', 'train', path=str(folder), num_validation=number
    )


@pytest.mark.parametrize(
  'pixels, labels, told',
  [
    (np.zeros((0, 2, 2), np.uint8), [], 'no examples'),
    (np.zeros((1, 2, 2)), [0], 'float64, not uint8'),
    (np.zeros((1, 2, 2), np.uint8), [-1], 'label -1 is negative'),
  ],
)
def test_what_no_images_are(pixels, labels, told):
  with pytest.raises(ValueError, match=told):
    images.Images(pixels, labels, 'mine')


def test_the_digest_sees_pixels_labels_and_shape():
  pixels = np.arange(8, dtype=np.uint8)
  variants = [
    (pixels.reshape(2, 2, 2), [0, 1]),
    (pixels.reshape(2, 2, 2), [1, 0]),
    (pixels[::-1].reshape(2, 2, 2), [0, 1]),
    (pixels.reshape(2, 4, 1), [0, 1]),
  ]
  digests = {images.Images(*pair, 'x').digest for pair in variants}
  assert len(digests) == len(variants)


def test_names_are_checked():
  with pytest.raises(
    ValueError, match=r"'photos' is unknown; .* are \['digits', 'gen"
  ):
    sources.load('labeled images', 'photos', 'train')
  with pytest.raises(ValueError, match="needs the option 'path'"):
    sources.load('labeled images', 'idx', 'train')
  with pytest.raises(ValueError, match="unknown option 'folder'"):
    sources.load('labeled images', 'idx', 'train', folder='x')
  with pytest.raises(ValueError, match="unknown split 'dev'"):
    sources.load('labeled images', 'generated', 'dev')


def test_examples_of_tfds(monkeypatch):
  rows = [
    {'image': np.full((2, 2, 1), i, np.uint8), 'label': np.int64(i)}
    for i in range(5)
  ]

  class Builder:
    info = types.SimpleNamespace(
      features={'image': 0, 'label': 0}, splits={'train': 0, 'test': 0}
    )
    is_prepared = staticmethod(lambda: True)
    as_data_source = staticmethod(
      lambda split: rows[: 5 - 2 * (split[0] == 't')]
    )

  library = types.SimpleNamespace(
    builder=lambda name, data_dir: Builder,
    core=types.SimpleNamespace(DatasetNotFoundError=KeyError),
  )
  monkeypatch.setattr(tfds, '_import', lambda: library)
  found = sources.load(
    'labeled images', 'tfds', 'validation', name='mnist', num_validation=1
  )
  assert found.images.shape == (1, 2, 2) and found.labels.tolist() == [2]
  rows[1]['image'] = np.zeros((3, 2, 1), np.uint8)
  with pytest.raises(ValueError, match='2 different shapes'):
    sources.load('labeled images', 'tfds', 'test', name='mnist')
  del Builder.info.features['label']
  with pytest.raises(ValueError, match="mnist has no feature 'label'"):
    sources.load('labeled images', 'tfds', 'test', name='mnist')


def test_the_digits_are_a_stand_in():
  datasets = pytest.importorskip('sklearn.datasets')
  splits = [
    sources.load('labeled images', 'digits', s)
    for s in ('train', 'validation', 'test')
  ]
  assert [len(split) for split in splits] == [1300, 200, 297]
  assert all('stand-in' in split.name for split in splits)
  whole = datasets.load_digits()
  labels = np.concatenate([split.labels for split in splits])
  np.testing.assert_array_equal(labels, whole.target)
  # Pixels at the same place of the picture: the centers of the 8 x 8 lie
  # between the four middle ones of 28/8 pixels.
  small, large = whole.images[0] / 16, splits[0].images[0] / 255
  for i, j in ((0, 2), (2, 5), (4, 4), (7, 7)):
    row, col = (int(3.5 * place + 1.25) for place in (i, j))
    near = large[row : row + 2, col : col + 2].mean()
    assert near == pytest.approx(small[i, j], abs=0.15)


def test_mnist_from_where_it_is_at_hand(folder, monkeypatch, tmp_path_factory):
  # A folder that is asked for has no substitute.
  with pytest.raises(FileNotFoundError, match='no t10k-images-idx3-ubyte'):
    sources.load('labeled images', 'mnist', 'test', path='/nowhere')
  assert (
    len(sources.load('labeled images', 'mnist', 'test', path=str(folder))) == 7
  )
  data = tmp_path_factory.mktemp('data')
  (data / 'mnist').symlink_to(folder)
  monkeypatch.setenv('TT_COMPRESS_DATA', str(data))
  found = sources.load('labeled images', 'mnist', 'train', num_validation=4)
  assert len(found) == 19 and not found.is_stand_in
  (data / 'mnist').unlink()
  monkeypatch.setattr(tfds, 'is_prepared', lambda name: False)
  pytest.importorskip('sklearn')
  found = sources.load('labeled images', 'mnist', 'validation')
  assert found.is_stand_in and 'a stand-in for MNIST' in found.name


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'sklearn', None)
  with pytest.raises(ImportError, match=r'tt-compress\[digits\]'):
    sources.load('labeled images', 'digits', 'train')


def test_generated_images_stay_the_same():
  found = sources.load('labeled images', 'generated', 'train', num_train=40)
  assert found.images.shape == (40, 28, 28) and set(found.labels) == set(
    range(10)
  )
  assert 'stand-in' in found.name
  test = sources.load('labeled images', 'generated', 'test', num_test=20)
  # Equal labels look alike, whatever the split: half of a pixel is noise.
  centers = [found.images[found.labels == k].mean(0) for k in range(10)]
  distances = [
    [np.linalg.norm(image - center) for center in centers]
    for image in test.images.astype(float)
  ]
  np.testing.assert_array_equal(np.argmin(distances, axis=1), test.labels)
  assert not np.array_equal(found.images[:20], test.images)
  assert hashlib.sha256(test.images.tobytes()).hexdigest()[:8] == 'ba19aa29'


REAL = pathlib.Path(os.environ.get('TT_COMPRESS_DATA', '/nowhere')) / 'mnist'


@pytest.mark.skipif(
  not REAL.is_dir(), reason='TT_COMPRESS_DATA names no folder with mnist'
)
def test_mnist_itself():
  train, validation, test = (
    sources.load('labeled images', 'idx', split, path=str(REAL))
    for split in ('train', 'validation', 'test')
  )
  assert [len(s) for s in (train, validation, test)] == [55_000, 5_000, 10_000]
  assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
  assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]
  every = np.concatenate([train.images, validation.images])
  # The mean and standard deviation that everybody normalizes with.
  assert np.mean(every) / 255 == pytest.approx(0.1307, abs=5e-5)
  assert np.std(every) / 255 == pytest.approx(0.3081, abs=5e-5)
