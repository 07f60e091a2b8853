import importlib
import importlib.util
import sys
import types

import pytest

from tt_compress import configuration
from tt_compress.data import corpus, tfds

LANGUAGES = dict(source_language='de', target_language='en')
ROWS = [
  {'de': 'Größe'.encode(), 'en': b'size'},
  {'de': 'ja', 'en': 'yes'},
  {'de': b' ', 'en': b'lost'},
]


class NotFound(ValueError):
  pass


class Builder:
  """What `tfds.load` uses of a builder."""

  data_dir = 'gs://elsewhere'

  def __init__(self, rows, prepared=True, error=None, random_access=True):
    self.info = types.SimpleNamespace(
      features={'de': None, 'en': None}, splits={'train': None, 'dev': None}
    )
    self.rows, self.prepared, self.error = rows, prepared, error
    self.random_access = random_access

  def is_prepared(self):
    return self.prepared

  def download_and_prepare(self):
    if self.error:
      raise self.error
    self.prepared = True

  def as_data_source(self, split):
    assert self.prepared
    if not self.random_access:
      raise NotImplementedError('tfrecord')
    return self.rows

  def as_dataset(self, split, shuffle_files):
    assert not shuffle_files
    return self.rows


@pytest.fixture
def library(monkeypatch):
  """A stand-in for tensorflow_datasets, with a place for the builder."""
  state = types.SimpleNamespace(builder=None, calls=[], tensorflow=False)

  def build(name, **options):
    state.calls.append(options)
    if state.builder is None:
      raise NotFound(name)
    return state.builder

  module = types.SimpleNamespace(
    builder=build,
    core=types.SimpleNamespace(DatasetNotFoundError=NotFound),
    as_numpy=lambda dataset: dataset,
  )
  monkeypatch.setattr(tfds, '_import', lambda: module)
  monkeypatch.setattr(tfds, '_has_tensorflow', lambda: state.tensorflow)
  monkeypatch.delenv('TFDS_DATA_DIR', raising=False)
  return state


def load(split='train', **options):
  return tfds.load(split, name='a/de-en', **LANGUAGES | options)


def test_bytes_and_text_are_read(library, caplog):
  library.builder = Builder(ROWS)
  found = load()
  assert found.source == ('Größe', 'ja')
  assert found.target == ('size', 'yes')
  assert 'left out 1 of 3 pairs' in caplog.text
  assert (
    load('validation', splits={'validation': 'dev[:1]+dev[1:]'}) is not None
  )


def test_the_folder_comes_from_the_variable(library, monkeypatch):
  library.builder = Builder(ROWS)
  load(data_dir='/given')
  monkeypatch.setenv('TFDS_DATA_DIR', '/from/variable')
  load()
  folders = [options['data_dir'] for options in library.calls]
  assert folders == ['/given', '/from/variable']


def test_data_are_prepared_as_array_record(library):
  library.builder = Builder(ROWS, prepared=False)
  assert len(load()) == 2
  assert library.calls[-1]['file_format'] == 'array_record'


def test_a_failing_download_says_what_to_set(library):
  library.builder = Builder(ROWS, False, ConnectionError('no route'))
  with pytest.raises(RuntimeError, match='no route.*Set TFDS_DATA_DIR to'):
    load()


@pytest.mark.parametrize('when', ['prepare', 'read'])
def test_a_missing_package_says_what_to_install(library, when, monkeypatch):
  error = ModuleNotFoundError('no tensorflow', name='tensorflow')
  library.builder = Builder(ROWS, when == 'read', error)

  def fail(split):
    raise error

  monkeypatch.setattr(library.builder, 'as_data_source', fail)
  with pytest.raises(ImportError, match='needs tensorflow.*tt-compress.data'):
    load()


def test_unknown_data_sets(library):
  with pytest.raises(ImportError, match='a/de-en.*pip install .tt-compress'):
    load()
  library.tensorflow = True
  with pytest.raises(ValueError, match='no data set .a/de-en.'):
    load()


def test_tfrecord_needs_tensorflow(library):
  library.builder = Builder(ROWS, random_access=False)
  with pytest.raises(ImportError, match='tfrecord.*pip install'):
    load()
  library.tensorflow = True
  assert load().source == ('Größe', 'ja')


def test_bad_names_and_text(library):
  library.builder = Builder(ROWS)
  with pytest.raises(ValueError, match=r"no language 'fr'; it has \['de', 'en"):
    load(target_language='fr')
  with pytest.raises(ValueError, match=r"no split 'test'; it has \['dev', 'tr"):
    load('test')
  library.builder = Builder([{'de': b'\xff', 'en': b'a'}])
  with pytest.raises(ValueError, match='train example 0, de: invalid UTF-8'):
    load()
  library.builder = Builder([{'de': 3, 'en': b'a'}])
  with pytest.raises(ValueError, match='example 0, de: int is not text'):
    load()


def test_documents_and_summaries_of_gigaword(library):
  config = configuration.load('configs/gigaword_word2ket.py:data=gigaword')
  library.builder = Builder([{'document': b'a long text', 'summary': b'text'}])
  library.builder.info.features = {'document': None, 'summary': None}
  library.builder.info.splits = dict.fromkeys(corpus.SPLITS)
  for split in corpus.SPLITS:
    found = tfds.load(split, **config.data.options)
    assert (found.source, found.target) == (('a long text',), ('text',))


@pytest.mark.parametrize('name', ['tensorflow_datasets', 'importlib_resources'])
def test_a_library_that_is_not_there(name, monkeypatch):
  monkeypatch.setitem(sys.modules, name, None)
  with pytest.raises(ImportError, match=f'{name}.*tt-compress.data'):
    load()


BUILDER = """
import tensorflow_datasets as tfds

class Builder(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return self.dataset_info_from_configs(
      features=tfds.features.Translation(('de', 'en')))

  def _split_generators(self, manager):
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    for i in range(5):
      yield i, {'de': f'Größe {i}', 'en': f'size {i}'}
"""


@pytest.mark.filterwarnings('ignore')  # theirs, not ours
def test_a_real_builder_is_read_without_tensorflow(tmp_path, monkeypatch):
  folder = tmp_path / 'little_translate'
  folder.mkdir()
  (folder / '__init__.py').touch()
  name = 'little_translate_dataset_builder'
  (folder / f'{name}.py').write_text(BUILDER)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'data'))
  importlib.import_module(f'little_translate.{name}')
  for _ in range(2):  # prepared, then found
    found = tfds.load('train', name='little_translate', **LANGUAGES)
    pairs = sorted(zip(found.source, found.target, strict=True))
    assert pairs == [(f'Größe {i}', f'size {i}') for i in range(5)]
  part = tfds.load(
    'test', name='little_translate', splits={'test': 'train[:40%]'}, **LANGUAGES
  )
  assert len(part) == 2


def test_wmt14_without_tensorflow_says_what_to_install(tmp_path, monkeypatch):
  if importlib.util.find_spec('tensorflow'):
    pytest.skip('TensorFlow is installed')
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  with pytest.raises(ImportError, match='pip install .tt-compress.data'):
    tfds.load('train', name='wmt14_translate/de-en', **LANGUAGES)
