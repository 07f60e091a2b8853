"""The vocabulary of bytes, which needs no training."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from tt_compress.data import vocabulary

_CONTENT = b'bytes'


class Bytes(vocabulary.Vocabulary):
  """Every byte of UTF-8 is an id; the end of a text is that of a line.

  Padding is the byte 0, which text does not have.

  Args:
    content: of the file, always the same.

  Raises:
    ValueError: another content.
  """

  suffix = '.bytes'
  unk_id = None
  bos_id = None
  eos_id = ord('\n')

  def __init__(self, content: bytes = _CONTENT):
    super().__init__(content)
    if self.content != _CONTENT:
      raise ValueError(f'not a vocabulary of bytes: {self.content[:40]!r}')

  @classmethod
  def train(
    cls, lines: vocabulary.Lines, *, max_size: int, cache_dir: str
  ) -> 'Bytes':
    """The vocabulary, whatever the lines are.

    Raises:
      ValueError: max_size is less than 256.
    """
    del lines, cache_dir
    if max_size < len(cls()):
      raise ValueError(
        f'max_size={max_size} must be at least {len(cls())}, the number of '
        'bytes'
      )
    return cls()

  def __len__(self) -> int:
    return 256

  def encode(self, lines: Sequence[str]) -> list[Int32[np.ndarray, ' ids']]:
    return [
      np.frombuffer(line.encode(), np.uint8).astype(np.int32)
      for line in vocabulary.check_lines(lines)
    ]

  def decode(self, ids: Sequence[int]) -> str:
    """See `Vocabulary.decode`; bytes that are no UTF-8 become U+FFFD."""
    return bytes(self._bare(ids)).decode(errors='replace')
