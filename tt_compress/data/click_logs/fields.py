"""Fields of text as integers, many at a time.

A field of up to 8 characters is loaded as one 64-bit word, whose bytes are then
checked and combined in parallel.
"""

import numpy as np
from jaxtyping import Bool, Int, Int64, UInt8, UInt64

# Bytes before the first field, so that the word of every field is in a buffer.
MARGIN = 8

Words = UInt64[np.ndarray, '...']
Ends = Int[np.ndarray, '...']


def _repeat(byte: int) -> np.uint64:
  """A word of 8 equal bytes."""
  return np.uint64(byte * 0x0101010101010101)


_HIGH = _repeat(0x80)
_ZEROS = _repeat(ord('0'))
# The last k characters of a field are the high k bytes of its word.
_MASKS = np.array([2**64 - 2 ** (64 - 8 * k) for k in range(9)], np.uint64)


def words(buffer: UInt8[np.ndarray, ' bytes'], ends: Ends) -> Words:
  """The 8 bytes before each end, the first of them in the lowest byte."""
  # A view of a word at every byte; x86 and ARM load them unaligned.
  view = np.ndarray((len(buffer) - 7,), '<u8', buffer, strides=(1,))
  return view[ends - 8]


def hexadecimal(
  word: Words,
) -> tuple[Int64[np.ndarray, '...'], Bool[np.ndarray, '...']]:
  """Values of 8 hexadecimal digits, and whether all are such digits."""
  lower = word | _repeat(0x20)
  is_letter = _within(lower, 'a', 'f')
  is_valid = (_within(word, '0', '9') | is_letter) == _HIGH
  # A letter has 1 to 6 in its low bits, and 0x80 >> 7 * 9 makes it 10 to 15.
  value = (word & _repeat(0x0F)) + (is_letter >> np.uint64(7)) * np.uint64(9)
  for bits in (4, 8, 16):
    value = _combine(value, 2**bits, bits)
  return value.astype(np.int64), is_valid


def decimal(
  word: Words, size: Int[np.ndarray, '...']
) -> tuple[Int64[np.ndarray, '...'], Bool[np.ndarray, '...']]:
  """Values of up to 8 decimal digits, and whether they are such fields.

  Args:
    word: of `words`.
    size: characters of each field; an empty field has the value 0.
  """
  mask = _MASKS[np.clip(size, 0, 8)]
  word = (word & mask) | (_ZEROS & ~mask)
  is_valid = (_within(word, '0', '9') == _HIGH) & (size <= 8)
  value = word & _repeat(0x0F)
  for bits, base in ((4, 10), (8, 100), (16, 10_000)):
    value = _combine(value, base, bits)
  return value.astype(np.int64), is_valid


def _within(word: Words, first: str, last: str) -> Words:
  """0x80 in each byte from `first` to `last`, which are ASCII."""
  low = word & _repeat(0x7F)
  at_least = low + _repeat(0x80 - ord(first))
  above = low + _repeat(0x7F - ord(last))
  return at_least & ~above & ~word & _HIGH


def _combine(value: Words, base: int, bits: int) -> Words:
  """Joins neighboring digits: the low one of a pair, which is first, counts."""
  width = 2 * bits
  lanes = np.uint64(sum((2**width - 1) << k for k in range(0, 64, 2 * width)))
  return (value * np.uint64(base) + (value >> np.uint64(width))) & lanes
