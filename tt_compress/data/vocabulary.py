"""What every vocabulary has: text to ids and back, a file, a cache."""

import abc
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from absl import logging
from jaxtyping import Int32

from tt_compress.data import corpus


class Lines(Protocol):
  """Texts that can be read again and again, such as a list of them.

  Lines with a `digest`, which differs for other texts, need not be read to find
  the vocabulary that was trained on them.
  """

  def __len__(self) -> int: ...

  def __iter__(self) -> Iterator[str]: ...


class Vocabulary(abc.ABC):
  """Pieces of text and their ids.

  Attributes:
    suffix: ending of its files, different for every class.
    content: bytes of its file, which decide everything.
    pad_id: of padding, 0 where batches are padded; None if it has none.
    unk_id: of text that is not in the vocabulary; None if all text is.
    bos_id: of the begin of a text; None if the vocabulary has none.
    eos_id: of its end; None if the vocabulary has none.
  """

  suffix: ClassVar[str]
  pad_id: int | None = corpus.PAD_ID
  unk_id: int | None = corpus.UNK_ID
  bos_id: int | None = corpus.BOS_ID
  eos_id: int | None = corpus.EOS_ID

  def __init__(self, content: bytes):
    self.content = bytes(content)

  @classmethod
  @abc.abstractmethod
  def train(
    cls,
    lines: Lines,
    *,
    max_size: int,
    cache_dir: str,
    **options: Any,
  ) -> Self:
    """Trains a vocabulary, or finds it under `cache_dir`.

    Args:
      lines: text of all languages that share the vocabulary.
      max_size: of the vocabulary, special ids included.
      cache_dir: see `cached`.
      **options: of the class.

    Raises:
      ValueError: no text, or an option out of range.
    """

  @abc.abstractmethod
  def __len__(self) -> int:
    """Number of ids."""

  @abc.abstractmethod
  def encode(self, lines: Sequence[str]) -> list[Int32[np.ndarray, ' ids']]:
    """The ids of every line, without begin and end."""

  @abc.abstractmethod
  def decode(self, ids: Sequence[int]) -> str:
    """The text of ids up to the first end; padding and begins are ignored.

    Raises:
      ValueError: an id outside of the vocabulary.
    """

  @property
  def digest(self) -> str:
    """SHA-256 of the content, in hexadecimal."""
    return hashlib.sha256(self.content).hexdigest()

  def save(self, path: str | os.PathLike) -> None:
    """Writes the vocabulary to `path`, all of it or nothing."""
    write(path, self.content)

  @classmethod
  def load(cls, path: str | os.PathLike) -> Self:
    """Reads what `save` wrote.

    Raises:
      ValueError: the file holds something else.
    """
    with open(path, 'rb') as file:
      content = file.read()
    try:
      return cls(content)
    except ValueError as error:
      raise ValueError(f'{path}: {error}') from error

  def _bare(self, ids: Sequence[int]) -> list[int]:
    """The ids up to the first end, without padding and begins, checked."""
    ids = [int(i) for i in ids]
    if self.eos_id in ids:
      ids = ids[: ids.index(self.eos_id)]
    for i in ids:
      if not 0 <= i < len(self):
        raise ValueError(f'id {i} is outside of 0..{len(self) - 1}')
    return [i for i in ids if i not in (self.pad_id, self.bos_id)]


def write(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file, all of it or nothing, and the folder that it is in."""
  folder = os.path.dirname(os.path.abspath(path))
  os.makedirs(folder, exist_ok=True)
  # A name of its own, so that racing processes do not write one file.
  part = os.path.join(folder, f'{uuid.uuid4().hex}.tmp')
  try:
    with open(part, 'xb') as file:
      file.write(content)
    os.replace(part, path)
  finally:
    if os.path.exists(part):
      os.unlink(part)


def check_lines(lines: Sequence[str]) -> list[str]:
  """The lines as a list; a single string is refused."""
  if isinstance(lines, str):
    raise ValueError('encode takes a list of sentences, not one string')
  return list(lines)


def cached(
  make: type[Vocabulary],
  lines: Lines,
  options: Mapping[str, Any],
  cache_dir: str,
  train: Callable[[], bytes],
) -> Vocabulary:
  """Finds a trained vocabulary, or trains it and keeps it.

  Args:
    make: class of the vocabulary.
    lines: that it is trained on.
    options: everything else that decides it, e.g. versions.
    cache_dir: folder of vocabularies, named by the SHA-256 of lines and
      options.
    train: makes the content.
  """
  digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
  known = getattr(lines, 'digest', None)
  corpus.update(digest, lines if known is None else (known,))
  name = digest.hexdigest() + make.suffix
  sealed = os.path.join(os.path.expanduser(cache_dir), f'{name}.sealed')
  if os.path.exists(sealed):
    try:
      return make(_unsealed(sealed))
    except ValueError as error:
      logging.warning('%s: training again (%s)', sealed, error)
  logging.info('training a vocabulary on %d lines: %s', len(lines), sealed)
  content = train()
  write(sealed, hashlib.sha256(content).digest() + content)
  return make(content)


def _unsealed(path: str) -> bytes:
  """The content of a file that begins with the digest of the rest.

  A changed vocabulary may still be one, with other ids.

  Raises:
    ValueError: the file has changed since it was written.
  """
  with open(path, 'rb') as file:
    data = file.read()
  size = hashlib.sha256().digest_size
  if hashlib.sha256(data[size:]).digest() != data[:size]:
    raise ValueError('it has changed since it was written')
  return data[size:]
