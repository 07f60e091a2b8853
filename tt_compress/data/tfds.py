"""Data sets of TensorFlow Datasets: any parallel text, any other examples.

Data prepared as array_record are read without TensorFlow; preparing some sets
(wmt14_translate among them) and reading tfrecord need it.
"""

import dataclasses
import importlib
import importlib.util
import json
import os
import pathlib
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from tt_compress.data import corpus

_READ = 1000  # examples read at a time
_INSTALL = "pip install 'tt-compress[data]'"
# A data set, its configuration and version; no loaders of others (NAMESPACE:).
_NAME = re.compile(r'\w+(/[\w.+-]+)?(:[\d.*]+)?')
_CLASSES = ('type', 'pythonClassName', 'python_class_name')


def load(
  split: str,
  *,
  name: str,
  source_language: str,
  target_language: str,
  splits: Mapping[str, str] | None = None,
  data_dir: str | None = None,
) -> corpus.Corpus:
  """Reads one split; prepares the data set first where needed.

  Pairs with a blank side are left out, both sides, and counted in the log.

  Args:
    split: 'train', 'validation' or 'test'.
    name: data set with its configuration, such as 'wmt14_translate/de-en'.
    source_language: feature with the source sentence, such as 'de'.
    target_language: feature with the target sentence, such as 'en'.
    splits: mapping from our splits to those of the data set, slices included,
      such as {'train': 'train[:10%]'}; the same names by default.
    data_dir: folder of prepared data; the environment variable TFDS_DATA_DIR
      and then ~/tensorflow_datasets by default.

  Returns:
    A `Corpus`.

  Raises:
    ImportError: a package is missing; the message says what to install.
    RuntimeError: the data can be neither found nor prepared here.
    ValueError: an unknown data set, split or language.
  """
  part = (splits or {}).get(split, split)
  languages = (source_language, target_language)
  datasets, builder = _open(name, part, languages, data_dir, 'language')
  found = _examples(datasets, builder, name, part)
  pairs = _Pairs(found, languages, f'{name} {part}')
  form = [name, part, languages]
  return corpus.of_files(pairs, pairs.name, _files(builder), form)


@dataclasses.dataclass(frozen=True)
class _Pairs:
  """Two texts of each example, which are read in every pass."""

  examples: Iterable[Mapping[str, Any]]
  languages: tuple[str, str]
  name: str

  def __iter__(self) -> Iterator[corpus.Pair]:
    for i, example in enumerate(_each(self.examples)):
      source, target = (
        decode(example[key], f'{self.name} example {i}, {key}')
        for key in self.languages
      )
      yield source, target


def examples(
  name: str,
  part: str,
  features: Sequence[str],
  *,
  data_dir: str | None = None,
  kind: str = 'feature',
) -> Iterable[Mapping[str, Any]]:
  """The examples of one split; prepares the data set first where needed.

  Args:
    name: data set with its configuration.
    part: a split of it, slices included.
    features: names that every example must have.
    data_dir: as `load`.
    kind: name of a feature in messages.

  Returns:
    An iterable of mappings from feature to value.

  Raises:
    ImportError, RuntimeError, ValueError: as `load`.
  """
  datasets, builder = _open(name, part, features, data_dir, kind)
  return _examples(datasets, builder, name, part)


def _open(
  name: str,
  part: str,
  features: Sequence[str],
  data_dir: str | None,
  kind: str,
) -> tuple[types.ModuleType, Any]:
  """The library and the builder of a data set that is prepared."""
  folder = data_dir or os.environ.get('TFDS_DATA_DIR') or None
  datasets = _import()
  builder = _builder(datasets, name, folder)
  _check_features(builder, name, features, kind)
  if not builder.is_prepared():
    builder = _prepare(datasets, name, folder)
  _check_split(builder, name, part)
  return datasets, builder


def _files(builder: Any) -> list[str]:
  """The files of a data set, where they are on this machine."""
  folder = os.fspath(builder.data_dir)
  if not os.path.isdir(folder):
    return []
  return sorted(entry.path for entry in os.scandir(folder) if entry.is_file())


def _each(examples: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
  """Yields examples, of a source with random access many at a time."""
  if not hasattr(examples, '__getitems__'):
    yield from examples
    return
  for start in range(0, len(examples), _READ):
    stop = min(start + _READ, len(examples))
    yield from examples.__getitems__(list(range(start, stop)))


def decode(text: bytes | str, where: str) -> str:
  """The text of a feature; `where` is its place, for errors."""
  if isinstance(text, str):
    return text
  if not isinstance(text, bytes):
    raise ValueError(f'{where}: {type(text).__name__} is not text')
  try:
    return text.decode('utf-8')
  except UnicodeDecodeError as error:
    raise ValueError(f'{where}: invalid UTF-8 ({error})') from error


def is_prepared(name: str, *, data_dir: str | None = None) -> bool:
  """Whether a data set can be read without preparing anything."""
  folder = data_dir or os.environ.get('TFDS_DATA_DIR') or None
  try:
    return _builder(_import(), name, folder).is_prepared()
  except (ImportError, ValueError):
    return False


def _import() -> types.ModuleType:
  """Imports the library and the package that it needs but does not declare."""
  try:
    importlib.import_module('importlib_resources')
    return importlib.import_module('tensorflow_datasets')
  except ImportError as error:
    raise ImportError(
      f'the data source tfds needs {error.name}; {_INSTALL}'
    ) from error


def _builder(
  datasets: types.ModuleType, name: str, folder: str | None, **options: str
) -> Any:
  _check_classes(name, folder)
  try:
    return datasets.builder(name, data_dir=folder, **options)
  except datasets.core.DatasetNotFoundError as error:
    if _has_tensorflow():
      raise ValueError(
        f'tensorflow_datasets has no data set {name!r}, and none is prepared '
        f'in {_shown(folder)}; check the name, or set TFDS_DATA_DIR to the '
        'folder that holds it'
      ) from error
    raise ImportError(
      f'tensorflow_datasets does not find {name!r}: many data sets, '
      'wmt14_translate among them, are known only where TensorFlow is '
      f'installed. {_INSTALL}, or set TFDS_DATA_DIR to a folder that holds '
      f'{name} prepared as array_record (looked in {_shown(folder)})'
    ) from error
  except ModuleNotFoundError as error:
    raise _missing(name, error) from error


def _check_classes(name: str, folder: str | None) -> None:
  """Refuses prepared data whose features are classes of other packages.

  The library imports the modules that `features.json` names, which would run
  code that came with the data.
  """
  if not _NAME.fullmatch(name):
    raise ValueError(
      f'{name!r} is no name of a data set, such as wmt14_translate/de-en'
    )
  root = pathlib.Path(folder or '~/tensorflow_datasets').expanduser()
  base = root / re.split('[/:]', name)[0]
  for path in base.rglob('features.json'):
    try:
      found = [*_classes(json.loads(path.read_bytes()))]
    except (RecursionError, ValueError) as error:
      raise ValueError(f'{path}: bad JSON ({error})') from error
    strange = [
      each for each in found if not each.startswith('tensorflow_datasets.')
    ]
    if strange:
      raise ValueError(
        f'{path} names {strange[0]!r}, which is no class of '
        'tensorflow_datasets; it is not imported, since that can run any code'
      )


def _classes(value: Any) -> Iterator[str]:
  """The names of classes that a value of JSON holds."""
  if isinstance(value, list):
    value = dict(enumerate(value))
  if not isinstance(value, dict):
    return
  for key, entry in value.items():
    if key in _CLASSES and isinstance(entry, str) and '.' in entry:
      yield entry
    elif key == 'json' and isinstance(entry, str):
      yield from _classes(json.loads(entry))
    else:
      yield from _classes(entry)


def _prepare(datasets: types.ModuleType, name: str, folder: str | None) -> Any:
  """Downloads and prepares a data set as array_record."""
  logging.info('preparing %s in %s', name, _shown(folder))
  builder = _builder(datasets, name, folder, file_format='array_record')
  try:
    builder.download_and_prepare()
  except ModuleNotFoundError as error:
    raise _missing(name, error) from error
  except Exception as error:  # network, disk, checksum: one way out of all
    raise RuntimeError(
      f'{name} is not prepared in {_shown(folder)} and cannot be prepared '
      f'here ({type(error).__name__}: {error}). Set TFDS_DATA_DIR to a folder '
      'that holds it, or prepare it on a machine with network access (tfds '
      f'build {name} --file_format=array_record) and copy the folder'
    ) from error
  return builder


def _examples(
  datasets: types.ModuleType, builder: Any, name: str, part: str
) -> Iterable[Mapping[str, Any]]:
  """The examples of a split, read without TensorFlow where possible."""
  try:
    return builder.as_data_source(split=part)
  except ModuleNotFoundError as error:
    raise _missing(name, error) from error
  except NotImplementedError as error:  # prepared as tfrecord
    if not _has_tensorflow():
      raise ImportError(
        f'{name} is prepared as tfrecord, which only TensorFlow reads; '
        f'{_INSTALL}, or prepare it as array_record'
      ) from error
  return datasets.as_numpy(builder.as_dataset(split=part, shuffle_files=False))


def _check_features(
  builder: Any, name: str, features: Sequence[str], kind: str
) -> None:
  known = sorted(builder.info.features)
  for feature in features:
    if feature not in known:
      raise ValueError(f'{name} has no {kind} {feature!r}; it has {known}')


def _check_split(builder: Any, name: str, part: str) -> None:
  known = sorted(builder.info.splits)
  for piece in str(part).split('+'):
    if piece.split('[')[0].strip() not in known:
      raise ValueError(
        f'{name} has no split {part!r}; it has {known}: name them with '
        "splits={'train': ..., 'validation': ..., 'test': ...}"
      )


def _missing(name: str, error: ImportError) -> ImportError:
  return ImportError(f'{name} needs {error.name}, not installed; {_INSTALL}')


def _shown(folder: str | None) -> str:
  return folder or '~/tensorflow_datasets (TFDS_DATA_DIR is not set)'


def _has_tensorflow() -> bool:
  return importlib.util.find_spec('tensorflow') is not None
