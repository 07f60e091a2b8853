"""GGUF files, against a writer and loops over bits."""

import re
import struct

import numpy as np
import pytest

from tests.pretrained import peers, test_loading
from tt_compress import pretrained
from tt_compress.pretrained import gguf, tensors

F32, F16, Q4_0, Q4_1, Q8_0, BF16 = 0, 1, 2, 3, 8, 30
_NAMES = {
  'model.embed_tokens.weight': 'token_embd.weight',
  'model.norm.weight': 'output_norm.weight',
  'input_layernorm': 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'post_attention_layernorm': 'ffn_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  'model.layers.': 'blk.',
}
# Of the saved LLaMA, see `peers.CASES`.
METADATA = {
  'general.architecture': 'llama',
  'llama.block_count': 2,
  'llama.context_length': 16,
  'llama.embedding_length': 8,
  'llama.feed_forward_length': 12,
  'llama.attention.head_count': 2,
  'llama.attention.head_count_kv': 1,
  'llama.attention.layer_norm_rms_epsilon': 1e-6,
  'llama.rope.freq_base': 50.0,
  'tokenizer.ggml.tokens': [f'token {k}' for k in range(peers.VOCAB)],
  'tokenizer.ggml.scores': np.arange(peers.VOCAB, dtype=np.float32),
}


def string(text):
  data = text.encode()
  return struct.pack('<Q', len(data)) + data


def value(entry):
  if isinstance(entry, str):
    return struct.pack('<I', 8) + string(entry)
  if isinstance(entry, int):
    return struct.pack('<II', 4, entry)
  if isinstance(entry, float):
    return struct.pack('<If', 6, entry)
  if isinstance(entry, np.ndarray):
    return struct.pack('<IIQ', 9, 6, len(entry)) + entry.tobytes()
  return struct.pack('<IIQ', 9, 8, len(entry)) + b''.join(map(string, entry))


def write(path, metadata, entries):
  """Writes tensors {name: (kind, shape, bytes)}, padded to 32 bytes."""
  header = b'GGUF' + struct.pack('<IQQ', 3, len(entries), len(metadata))
  for name, entry in metadata.items():
    header += string(name) + value(entry)
  body = b''
  for name, (kind, shape, data) in entries.items():
    header += string(name) + struct.pack('<I', len(shape))
    header += struct.pack(f'<{len(shape)}Q', *shape[::-1])
    header += struct.pack('<IQ', kind, len(body))
    body += data + bytes(-len(data) % 32)
  path.write_bytes(header + bytes(-len(header) % 32) + body)


def half(data):
  return np.frombuffer(data, '<f2')[0].astype(np.float64)


def numbers(kind, block):
  """The 32 numbers of a block, one at a time."""
  if kind == Q8_0:
    return [
      half(block[:2]) * struct.unpack('<b', block[k : k + 1])[0]
      for k in range(2, 34)
    ]
  start = 2 if kind == Q4_0 else 4
  found = []
  for k in range(32):
    byte = block[start + k % 16]
    nibble = byte % 16 if k < 16 else byte // 16
    if kind == Q4_0:
      found.append(half(block[:2]) * (nibble - 8))
    else:
      found.append(half(block[:2]) * nibble + half(block[2:4]))
  return found


@pytest.mark.parametrize('kind, size', [(Q4_0, 18), (Q4_1, 20), (Q8_0, 34)])
def test_blocks_hold_32_numbers(kind, size, tmp_path):
  random = np.random.default_rng(0)
  blocks = random.integers(0, 256, (6, size), np.uint8)
  for start in (0, 2):
    blocks[:, start : start + 2] = (
      random.normal(size=(6, 1)).astype('<f2').view(np.uint8)
    )
  if kind != Q4_1:
    blocks[:, 2:4] = 200
  write(tmp_path / 'a.gguf', {}, {'t': (kind, (3, 64), blocks.tobytes())})
  found = gguf.read(tmp_path / 'a.gguf').tensors['t']
  expected = [x for b in blocks for x in numbers(kind, b.tobytes())]
  assert found.shape == (3, 64)
  np.testing.assert_allclose(
    found.read(), np.reshape(expected, (3, 64)), rtol=1e-6, atol=1e-6
  )


def test_plain_numbers(tmp_path):
  array = np.array([[1.5, -2.0, 0.25]], np.float32)
  upper = (array.view('<u4') >> 16).astype('<u2')
  entries = {
    'a': (F32, (1, 3), array.tobytes()),
    'b': (F16, (1, 3), array.astype('<f2').tobytes()),
    'c': (BF16, (1, 3), upper.tobytes()),
  }
  write(tmp_path / 'a.gguf', {'x': 3, 'y': 'z', 'e': 1e-5}, entries)
  found = gguf.read(tmp_path / 'a.gguf')
  assert found.metadata == {'x': 3, 'y': 'z', 'e': 1e-5}
  for tensor in found.tensors.values():
    np.testing.assert_array_equal(tensor.read(), array)


def as_gguf(name, array):
  """Name and rows as llama.cpp writes them."""
  for theirs, ours in _NAMES.items():
    name = name.replace(theirs, ours)
  match = re.search('attn_([qk])', name)
  if match:
    heads = {'q': 6, 'k': 2}[match[1]]
    dim = len(array) // heads
    # Features that turn together side by side.
    order = [
      head * dim + part * dim // 2 + k
      for head in range(heads)
      for k in range(dim // 2)
      for part in (0, 1)
    ]
    array = array[order]
  return name, array


@pytest.fixture
def written(tmp_path):
  """The saved LLaMA as a GGUF file, and what it is written from."""
  metadata = METADATA | {
    'llama.embedding_length': 12,
    'llama.feed_forward_length': 20,
    'llama.attention.head_count': 6,
    'llama.attention.head_count_kv': 2,
    'llama.attention.key_length': 4,
  }
  entries = {}
  for name, tensor in tensors.find(peers.GOLDEN / 'llama').items():
    ours, array = as_gguf(name, tensor.read())
    entries[ours] = (F32, array.shape, array.tobytes())
  path = tmp_path / 'llama.gguf'
  write(path, metadata, entries)
  return path, metadata, entries


def test_logits_are_those_of_the_safetensors_file(written):
  found = pretrained.load(written[0]).model()
  expected = pretrained.load(peers.GOLDEN / 'llama').model()
  np.testing.assert_array_equal(
    test_loading.logits('llama', found), test_loading.logits('llama', expected)
  )


def refusal(path):
  with pytest.raises(ValueError) as error:
    pretrained.load(path)
  assert str(path) in str(error.value)
  return str(error.value)


def test_what_is_no_such_file_is_refused(written):
  path, metadata, entries = written
  data = path.read_bytes()
  path.write_bytes(data[:-40])
  assert 'the file is incomplete' in refusal(path)
  path.write_bytes(data[:100])
  assert 'it ends within the' in refusal(path)
  path.write_bytes(b'PK' + data[2:])
  assert 'it is no GGUF file' in refusal(path)
  path.write_bytes(b'')
  assert 'cannot read' in refusal(path)
  kind, shape, numbers = entries.pop('blk.1.ffn_up.weight')
  strange = {f'{k}.weight': (12, shape, numbers) for k in 'ab'}
  write(path, metadata, entries | strange)
  assert 'a.weight (type 12), b.weight (type 12)' in refusal(path)
  write(path, metadata, entries)
  assert '1 missing: model.layers.1.mlp.up_proj.weight' in refusal(path)
  write(path, metadata | {'general.architecture': 'gemma'}, entries)
  assert "general.architecture='gemma' is not supported" in refusal(path)
