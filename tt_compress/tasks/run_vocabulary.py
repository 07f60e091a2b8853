"""The vocabulary of a run: trained once, saved in the workdir."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

from tt_compress.data import corpus, disk_cache, vocabularies, vocabulary

CACHE = disk_cache.root('vocabulary')


class RunVocabulary:
  """A vocabulary of a run, for any task that reads text.

  Args:
    workdir: folder of the run; None to save nothing.
    lines: returns the text to train it on.
    name: a key of `vocabularies.VOCABULARIES`.
    options: of that vocabulary.
    model: options of the model, whose 'vocab_size' is the number of rows of the
      embedding.
    is_padded: whether the texts of a batch are padded, which takes id 0.
    prefix: of the option, of the file and of the facts, e.g. 'source_', where
      a run has several vocabularies.
  """

  def __init__(
    self,
    workdir: str | None,
    lines: Callable[[], vocabulary.Lines],
    *,
    name: str,
    options: Mapping[str, Any],
    model: Mapping[str, Any],
    is_padded: bool = True,
    prefix: str = '',
  ):
    self._is_padded = is_padded
    self._workdir, self._lines = workdir, lines
    self._folder = workdir
    self._name, self._options = name, options
    self._prefix = prefix
    self._setting = f'{prefix}vocab_size'
    self._size = model[self._setting]
    suffix = vocabularies.VOCABULARIES[name].suffix
    self._file = f'{prefix}vocabulary{suffix}'

  @functools.cached_property
  def value(self) -> vocabulary.Vocabulary:
    """The vocabulary in the folder of the run, or a trained one.

    Raises:
      ValueError: it cannot be trained, has more ids than the embedding has
        rows, or has no padding of id 0 where the task needs it.
    """
    path = self._workdir and os.path.join(self._workdir, self._file)
    if path and os.path.exists(path):
      found = vocabularies.load(path)
    else:
      found = self._train()
    if len(found) > self._size:
      raise ValueError(
        f'{path} has {len(found)} pieces, but model.{self._setting}='
        f'{self._size}; another run wrote it: choose another --workdir'
      )
    if self._is_padded and found.pad_id != corpus.PAD_ID:
      raise ValueError(
        f'the batches of this task are padded with id {corpus.PAD_ID}, which '
        f'data.vocabulary={self._name!r} has for something else; its padding '
        f'is {found.pad_id}'
      )
    return found

  def _train(self) -> vocabulary.Vocabulary:
    lines = self._lines()
    try:
      return vocabularies.train(
        self._name,
        lines,
        max_size=self._size,
        cache_dir=CACHE,
        **self._options,
      )
    except ValueError as error:
      raise ValueError(
        f'data.vocabulary={self._name!r} of model.{self._setting}={self._size}:'
        f' {error}'
      ) from error

  def facts(self) -> dict[str, Any]:
    """Entries of the results about the vocabulary."""
    return {
      f'{self._prefix}num_pieces': len(self.value),
      f'{self._prefix}vocabulary_sha256': self.value.digest,
    }

  def save(self) -> None:
    """Writes the vocabulary into the folder of the run."""
    self.value.save(os.path.join(self._workdir, self._file))

  def adopt(self, folder: str) -> None:
    """Uses the vocabulary of another run, so that ids keep their meaning."""
    self.value = vocabularies.load(os.path.join(folder, self._file))
    self._folder = folder

  def verify(self, facts: Mapping[str, Any]) -> None:
    """Refuses a vocabulary other than the one that the model was trained with.

    Args:
      facts: recorded when training began; may lack entries of this vocabulary.

    Raises:
      ValueError: the digests differ, or the file is missing.
    """
    name = f'{self._prefix}vocabulary_sha256'
    if name not in facts:
      return
    path = os.path.join(self._folder, self._file)
    if not os.path.exists(path):
      raise ValueError(
        f'{path} is missing; restore it, or train again in another --workdir'
      )
    if facts[name] != self.value.digest:
      raise ValueError(
        f'{self._file} in {self._folder} is not the vocabulary that the model '
        f'was trained with: {name} is {self.value.digest}, not {facts[name]}; '
        'restore the file, or train again in another --workdir'
      )
