"""GGUF files of llama.cpp: settings, a vocabulary and tensors in one file."""

import dataclasses
import functools
import math
import os
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from tt_compress.pretrained import family, tensors

_ALIGNMENT = 32
# Of single values, by the number of their type in the file.
_SCALARS = dict(enumerate('<B <b <H <h <I <i <f <?'.split())) | {
  10: '<Q',
  11: '<q',
  12: '<d',
}
_STRING, _ARRAY = 8, 9

Blocks = UInt8[np.ndarray, 'blocks bytes']


def _half(blocks: Blocks, start: int) -> Float32[np.ndarray, 'blocks 1']:
  """The float16 at a place in each block."""
  part = np.ascontiguousarray(blocks[:, start : start + 2])
  return part.view('<f2').astype(np.float32)


def _nibbles(blocks: Blocks) -> Float32[np.ndarray, 'blocks 32']:
  """32 numbers of 4 bits: first the low halves of 16 bytes, then the high."""
  halves = np.concatenate([blocks & 15, blocks >> 4], axis=1)
  return halves.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Kind:
  """How numbers are stored: in blocks of `size` numbers and `num_bytes`."""

  name: str
  size: int
  num_bytes: int
  read: Callable[[Blocks], np.ndarray]


def _plain(dtype):
  return lambda blocks: np.ascontiguousarray(blocks).view(dtype)


def _bfloat16(blocks):
  upper = np.ascontiguousarray(blocks).view('<u2').astype('<u4') << 16
  return upper.view('<f4')


_KINDS = {
  0: _Kind('F32', 1, 4, _plain('<f4')),
  1: _Kind('F16', 1, 2, _plain('<f2')),
  2: _Kind('Q4_0', 32, 18, lambda b: _half(b, 0) * (_nibbles(b[:, 2:]) - 8)),
  3: _Kind(
    'Q4_1', 32, 20, lambda b: _half(b, 0) * _nibbles(b[:, 4:]) + _half(b, 2)
  ),
  8: _Kind('Q8_0', 32, 34, lambda b: _half(b, 0) * b[:, 2:].view(np.int8)),
  30: _Kind('BF16', 1, 2, _bfloat16),
}


@dataclasses.dataclass(frozen=True)
class File:
  """The contents of a GGUF file.

  Attributes:
    path: of the file.
    metadata: values by name, such as 'llama.block_count'.
    tensors: by their names in the file.
  """

  path: str
  metadata: dict[str, Any]
  tensors: dict[str, tensors.Tensor]


class _Reader:
  """Values one after the other."""

  def __init__(self, data: memoryview):
    self.data, self.at = data, 0

  def take(self, count: int) -> memoryview:
    part = self.data[self.at : self.at + count]
    if len(part) < count:
      raise ValueError(f'it ends within the {count} bytes from {self.at} on')
    self.at += count
    return part

  def scalar(self, code: str) -> Any:
    [found] = struct.unpack(code, self.take(struct.calcsize(code)))
    # 1e-05, as it was before it became a float32.
    return float(str(np.float32(found))) if code == '<f' else found

  def string(self) -> str:
    return bytes(self.take(self.scalar('<Q'))).decode('utf-8')

  def value(self, kind: int) -> Any:
    if kind == _STRING:
      return self.string()
    if kind != _ARRAY:
      if kind not in _SCALARS:
        raise ValueError(f'a value has the unknown type {kind}')
      return self.scalar(_SCALARS[kind])
    inner, number = self.scalar('<I'), self.scalar('<Q')
    if inner in _SCALARS:
      code = _SCALARS[inner]
      return np.frombuffer(self.take(number * struct.calcsize(code)), code)
    return [self.value(inner) for _ in range(number)]


def read(path: str) -> File:
  """Reads the header of a file; its tensors are read when they are needed.

  Raises:
    ValueError: no GGUF file, an incomplete one, or tensors in a quantization
      that is not supported, all of which are listed.
  """
  try:
    data = np.memmap(path, np.uint8, 'r')
    reader = _Reader(memoryview(data))
    return _parse(path, data, reader)
  except (OSError, struct.error, UnicodeDecodeError, ValueError) as error:
    raise ValueError(f'cannot read {path}: {error}') from None


def _parse(path, data, reader):
  if bytes(reader.take(4)) != b'GGUF':
    raise ValueError('it is no GGUF file')
  version = reader.scalar('<I')
  if version not in (2, 3):
    raise ValueError(f'it has version {version} of GGUF, not 2 or 3')
  num_tensors, num_values = reader.scalar('<Q'), reader.scalar('<Q')
  metadata = {
    reader.string(): reader.value(reader.scalar('<I'))
    for _ in range(num_values)
  }
  entries = [_entry(reader) for _ in range(num_tensors)]
  strange = [
    f'{name} (type {kind})'
    for name, _, kind, _ in entries
    if kind not in _KINDS
  ]
  if strange:
    known = ', '.join(kind.name for kind in _KINDS.values())
    raise ValueError(
      f'these tensors are neither of {known}: {", ".join(strange)}'
    )
  alignment = metadata.get('general.alignment', _ALIGNMENT)
  if not isinstance(alignment, int) or alignment < 1:
    raise ValueError(f'general.alignment={alignment!r} is no number of bytes')
  start = math.ceil(reader.at / alignment) * alignment
  found = {}
  for name, shape, number, offset in entries:
    kind = _KINDS[number]
    if math.prod(shape) % kind.size:
      raise ValueError(
        f'{name} of shape {shape} does not fill blocks of {kind.size} numbers'
      )
    num_bytes = math.prod(shape) // kind.size * kind.num_bytes
    begin = start + offset
    if begin + num_bytes > len(data):
      raise ValueError(
        f'{name} ends at byte {begin + num_bytes} of {len(data)}; the file is '
        'incomplete, copy it again'
      )
    read_one = functools.partial(_numbers, data, kind, shape, begin, num_bytes)
    # Read as floating-point numbers, whatever they are in the file.
    found[name] = tensors.Tensor(path, shape, 'F32', read_one)
  return File(path, metadata, found)


def _entry(reader):
  """(name, shape, number of the kind, offset) of a tensor."""
  name = reader.string()
  sizes = [reader.scalar('<Q') for _ in range(reader.scalar('<I'))]
  # The file names the fastest axis first.
  return name, tuple(sizes[::-1]), reader.scalar('<I'), reader.scalar('<Q')


def _numbers(data, kind, shape, begin, num_bytes):
  blocks = np.asarray(data[begin : begin + num_bytes])
  numbers = kind.read(blocks.reshape(-1, kind.num_bytes))
  return numbers.astype(np.float32).reshape(shape)


# --- LLaMA --------------------------------------------------------------------
_NAMES = (
  (r'token_embd\.weight', 'model.embed_tokens.weight'),
  (r'output_norm\.weight', 'model.norm.weight'),
  (r'output\.weight', 'lm_head.weight'),
  *(
    (rf'blk\.(\d+)\.{ours}\.weight', rf'model.layers.\1.{theirs}.weight')
    for ours, theirs in (
      ('attn_norm', 'input_layernorm'),
      ('attn_q', 'self_attn.q_proj'),
      ('attn_k', 'self_attn.k_proj'),
      ('attn_v', 'self_attn.v_proj'),
      ('attn_output', 'self_attn.o_proj'),
      ('ffn_norm', 'post_attention_layernorm'),
      ('ffn_gate', 'mlp.gate_proj'),
      ('ffn_up', 'mlp.up_proj'),
      ('ffn_down', 'mlp.down_proj'),
    )
  ),
)
_TURNED = {r'attn_q': 'num_attention_heads', r'attn_k': 'num_key_value_heads'}


def as_llama(
  file: File,
) -> tuple[family.Settings, dict[str, tensors.Tensor]]:
  """The settings and the tensors of a file as `transformers` would save them.

  Raises:
    ValueError: another architecture, or metadata that are missing.
  """
  given = family.Settings(file.path, file.metadata)
  given.choose('general.architecture', None, {'llama': None})
  names = {
    'num_hidden_layers': 'block_count',
    'max_position_embeddings': 'context_length',
    'hidden_size': 'embedding_length',
    'intermediate_size': 'feed_forward_length',
    'num_attention_heads': 'attention.head_count',
    'num_key_value_heads': 'attention.head_count_kv',
    'rms_norm_eps': 'attention.layer_norm_rms_epsilon',
  }
  values = {
    ours: given.require(f'llama.{theirs}') for ours, theirs in names.items()
  }
  values |= {
    'head_dim': given.get('llama.attention.key_length', None),
    'model_type': 'llama',
    'vocab_size': np.size(given.require('tokenizer.ggml.tokens')),
    'rope_theta': given.get('llama.rope.freq_base', 10_000.0),
    'rope_scaling': {'type': given.get('llama.rope.scaling.type', 'default')},
    'tie_word_embeddings': 'output.weight' not in file.tensors,
  }
  settings = family.Settings(file.path, values)
  found = {
    family.rename(_NAMES, name): _unpaired(name, tensor, values)
    for name, tensor in file.tensors.items()
  }
  return settings, found


def _unpaired(name, tensor, values):
  """Queries and keys with the halves of a head one after the other.

  GGUF has the features that positions turn together side by side.
  """
  match = re.fullmatch(r'blk\.\d+\.(attn_[qk])\.weight', name)
  if match is None:
    return tensor
  num_heads = values[_TURNED[match[1]]]

  def read():
    rows = tensor.read()
    pairs = rows.reshape(num_heads, -1, 2, rows.shape[-1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)

  return dataclasses.replace(tensor, read=read)


def is_gguf(path: str | os.PathLike) -> bool:
  """Whether a path names a GGUF file."""
  return os.fspath(path).endswith('.gguf')
