"""Labeled texts, such as reviews and their sentiment, and files of them."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int32

from tt_compress.data import corpus, text_files, tfds

_MAX_DIGITS = 10  # of a label


@dataclasses.dataclass(frozen=True)
class LabeledText:
  """Texts and the class that each belongs to.

  Args:
    texts: none of them blank.
    labels: classes from 0, [number].
    name: of the data, for messages.
    lines: of the file that the examples stand in, from 1; None if in none.

  Raises:
    ValueError: not as many labels as texts, no texts, or a negative label.
  """

  texts: tuple[str, ...]
  labels: Int32[np.ndarray, ' number']
  name: str
  lines: Int32[np.ndarray, ' number'] | None = None

  def __post_init__(self) -> None:
    object.__setattr__(self, 'texts', tuple(self.texts))
    labels = corpus.checked_labels(self.labels, len(self.texts), self.name)
    object.__setattr__(self, 'labels', labels)

  def place(self, index: int) -> str:
    """Where an example stands, for errors."""
    if self.lines is None:
      return f'{self.name}, example {index}'
    return f'{self.name}, line {self.lines[index]}'

  def __len__(self) -> int:
    return len(self.texts)

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of the texts and labels in their order, in hexadecimal."""
    total = hashlib.sha256(self.labels.astype('<i4'))
    corpus.update(total, self.texts)
    return total.hexdigest()


def load(
  split: str,
  *,
  files: Mapping[str, str],
  classes: Sequence[str] | None = None,
  separator: str = '\t',
  label_key: str = 'label',
  text_key: str = 'text',
  num_validation: int = 0,
) -> LabeledText:
  """Reads one split from a file, plain or .gz or .xz.

  Each line is a label, the separator and a text, which may hold more of the
  separator; or, in a .jsonl file, an object with both.

  Args:
    split: name of the split, a key of `files`.
    files: mapping from split to path. `~` and environment variables such as
      `$TT_COMPRESS_DATA` are expanded.
    classes: labels of the file in the order of their class; None where labels
      are integers from 0.
    separator: between label and text.
    label_key: key of the label in a .jsonl line.
    text_key: key of the text in a .jsonl line.
    num_validation: training examples that are held out for validation, for data
      without a split of that name; drawn at random, always the same.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: an unset variable, an unknown split, two validation splits, or
      bad content, with file and line.
  """
  if num_validation and 'validation' in files:
    raise ValueError(
      f'num_validation={num_validation} holds out training examples, but '
      f'files["validation"]={files["validation"]!r}; give one of the two'
    )
  is_held_out = bool(num_validation) and split != 'test'
  [path] = text_files.paths(
    'train' if is_held_out else split, files, max_paths=1
  )
  classes = None if classes is None else tuple(classes)
  whole = _read(path, classes, separator, label_key, text_key)
  return _held_out(whole, split, num_validation) if is_held_out else whole


# Training and validation may be parts of one file.
@functools.lru_cache(maxsize=1)
def _read(
  path: str,
  classes: Sequence[str] | None,
  separator: str,
  label_key: str,
  text_key: str,
) -> LabeledText:
  """The examples of a file; arguments as of `load`."""
  if text_files.suffix(path) == '.jsonl':
    examples = _jsonl(path, label_key, text_key)
  else:
    examples = _separated(path, separator)
  labels, texts = [], []
  for number, (label, text) in enumerate(examples, 1):
    where = f'{path}:{number}'
    if not text.strip():
      raise ValueError(f'{where}: blank text; every label needs a text')
    labels.append(_class_of(label, classes, where))
    texts.append(text)
  # The name goes into results, which move between machines; paths do not.
  return LabeledText(
    texts,
    np.array(labels),
    os.path.basename(path),
    np.arange(1, len(texts) + 1, dtype=np.int32),
  )


def from_tfds(
  split: str,
  *,
  name: str,
  num_validation: int,
  text_key: str = 'text',
  data_dir: str | None = None,
) -> LabeledText:
  """A data set of TensorFlow Datasets with a 'label', such as imdb_reviews.

  Args:
    split: 'train', 'validation' or 'test'.
    name: data set with its configuration.
    num_validation: training examples that are held out for validation.
    text_key: feature with the text.
    data_dir: folder of prepared data, see `tfds.load`.
  """
  part = 'test' if split == 'test' else 'train'
  found = tfds.examples(name, part, (text_key, 'label'), data_dir=data_dir)
  labels, texts = [], []
  for i, example in enumerate(found):
    texts.append(
      tfds.decode(example[text_key], f'{name} {part} example {i}, {text_key}')
    )
    labels.append(int(example['label']))
  whole = LabeledText(texts, np.array(labels), f'{name} {part}')
  return whole if split == 'test' else _held_out(whole, split, num_validation)


def _held_out(
  whole: LabeledText, split: str, num_validation: int
) -> LabeledText:
  """A random part for validation, the other examples for training.

  Files are often sorted by their labels, so the last examples would not do.
  """
  if not 0 < num_validation < len(whole):
    raise ValueError(
      f'num_validation={num_validation} must be from 1 to {len(whole) - 1}, of '
      f'the {len(whole)} examples of {whole.name}'
    )
  # Raw bits, which NumPy keeps over its versions.
  bits = np.random.Philox(np.random.SeedSequence(0)).random_raw(len(whole))
  is_validation = np.zeros(len(whole), bool)
  is_validation[np.argsort(bits, kind='stable')[:num_validation]] = True
  kept = np.flatnonzero(is_validation == (split == 'validation'))
  return LabeledText(
    [whole.texts[i] for i in kept],
    whole.labels[kept],
    f'{whole.name}, {split}',
    None if whole.lines is None else whole.lines[kept],
  )


def _separated(path: str, separator: str) -> Iterator[tuple[str, str]]:
  for number, line in enumerate(text_files.read_lines(path), 1):
    label, found, text = line.partition(separator)
    if not found:
      raise ValueError(
        f'{path}:{number}: no {separator!r} between a label and a text; set '
        'the option separator'
      )
    yield label, text


def _jsonl(
  path: str, label_key: str, text_key: str
) -> Iterator[tuple[str, str]]:
  keys = dict(label_key=label_key, text_key=text_key)
  for number, line in enumerate(text_files.read_lines(path), 1):
    where = f'{path}:{number}'
    label, text = text_files.json_values(line, keys, where)
    yield str(label), text_files.check_text(text, text_key, where)


def _class_of(label: str, classes: Sequence[str] | None, where: str) -> int:
  """The class of a label in a file."""
  if classes is None:
    digits = label.strip()
    # Longer ones overflow, or are longer than Python converts.
    if not (digits.isdecimal() and len(digits) < _MAX_DIGITS):
      raise ValueError(
        f'{where}: label {label[:40]!r} is not an integer from 0; name the '
        'labels with the option classes'
      )
    return int(digits)
  if label not in classes:
    raise ValueError(f'{where}: label {label!r} is not in {tuple(classes)}')
  return classes.index(label)
