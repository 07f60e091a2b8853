"""Labeled texts, such as reviews and their sentiment, and files of them."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int32

from tt_compress.data import corpus, text_files


@dataclasses.dataclass(frozen=True)
class LabeledText:
  """Texts and the class that each belongs to.

  Args:
    texts: none of them blank.
    labels: classes from 0, [number].
    name: of the data, for messages.

  Raises:
    ValueError: not as many labels as texts, no texts, or a negative label.
  """

  texts: tuple[str, ...]
  labels: Int32[np.ndarray, ' number']
  name: str

  def __post_init__(self) -> None:
    object.__setattr__(self, 'texts', tuple(self.texts))
    labels = corpus.checked_labels(self.labels, len(self.texts), self.name)
    object.__setattr__(self, 'labels', labels)

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

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: an unset variable, an unknown split, or bad content, with file
      and line.
  """
  [path] = text_files.paths(split, files, max_paths=1)
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
  return LabeledText(texts, np.array(labels), os.path.basename(path))


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
    if not label.strip().isdecimal():
      raise ValueError(
        f'{where}: label {label!r} is not an integer from 0; name the labels '
        'with the option classes'
      )
    return int(label)
  if label not in classes:
    raise ValueError(f'{where}: label {label!r} is not in {tuple(classes)}')
  return classes.index(label)
