"""The ground of this folder: what a source returns, and the special ids."""

import dataclasses

SPLITS = ('train', 'validation', 'test')

PAD_ID = 0
BOS_ID = 1
EOS_ID = 2
UNK_ID = 3


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Aligned sentences: `target[i]` is the translation of `source[i]`.

  Args:
    source: sentences of the source language.
    target: their translations, as many and in the same order.
    name: where they come from, for messages.

  Raises:
    ValueError: the two sides differ in length, or there are no sentences.
  """

  source: tuple[str, ...]
  target: tuple[str, ...]
  name: str

  def __post_init__(self):
    object.__setattr__(self, 'source', tuple(self.source))
    object.__setattr__(self, 'target', tuple(self.target))
    if len(self.source) != len(self.target):
      raise ValueError(
        f'{self.name}: {len(self.source)} source and {len(self.target)} '
        'target sentences; the two sides must be aligned line by line'
      )
    if not self.source:
      raise ValueError(f'{self.name}: no sentences')

  def __len__(self):
    return len(self.source)
