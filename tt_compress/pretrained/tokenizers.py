"""The tokenizers of pretrained models: their files and their special tokens."""

import base64
import dataclasses
import importlib
import json
import os
from typing import Any

from tt_compress.pretrained import family, gguf, tensors

TOKENIZER_FILE = 'tokenizer.json'
# Of SentencePiece; one side of a translation has a file of its own.
PIECE_FILES = ('spiece.model', 'tokenizer.model', 'source.spm')
_TARGET_PIECES = 'target.spm'
# The names of special tokens in the files; BERT begins with CLS, ends with SEP.
_SPECIALS = {
  'pad': ('pad_token',),
  'bos': ('bos_token', 'cls_token'),
  'eos': ('eos_token', 'sep_token'),
  'unk': ('unk_token',),
}
_GGUF_SPECIALS = {
  'pad': 'padding',
  'bos': 'bos',
  'eos': 'eos',
  'unk': 'unknown',
}
# Tokens that are found in a text as a whole, by the numbers of their kinds in
# GGUF: they control the model, or its users have added them.
_WHOLE = (3, 4)


@dataclasses.dataclass(frozen=True)
class Found:
  """The tokenizer of a pretrained model.

  Attributes:
    path: of its file.
    library: that reads it, 'tokenizers' or 'sentencepiece'.
    model: JSON of `tokenizers`, or a SentencePiece model in base 64.
    ids: {piece: id} where they are not those of the SentencePiece model.
    specials: ids of 'pad', 'bos', 'eos' and 'unk', or their tokens; those that
      the model lacks are left out.
  """

  path: str
  library: str
  model: str
  ids: dict[str, int] | None
  specials: dict[str, int | str]


def find(folder: str, is_target: bool = False) -> Found:
  """The tokenizer in a folder of `transformers`, or in a GGUF file.

  Args:
    folder: holds `tokenizer.json`, or a model of SentencePiece, and for Marian
      `vocab.json`; or the path of a GGUF file.
    is_target: takes the pieces of the written language, where Marian has two.

  Raises:
    ValueError: there is none, or its file cannot be read; names the file.
  """
  folder = os.path.expandvars(os.path.expanduser(folder))
  if gguf.is_gguf(folder):
    return _of_gguf(gguf.read(folder))
  pieces = (_TARGET_PIECES, *PIECE_FILES) if is_target else PIECE_FILES
  for name in (TOKENIZER_FILE, *pieces):
    path = os.path.join(folder, name)
    if os.path.exists(path):
      read = _of_json if name == TOKENIZER_FILE else _of_pieces
      return read(folder, path)
  raise ValueError(
    f'{folder} has no tokenizer: none of {TOKENIZER_FILE}, '
    f'{", ".join(PIECE_FILES)}; copy it from the original model'
  )


def _of_json(folder, path):
  found = tensors.read_json(path)
  if not isinstance(found.get('model'), dict):
    raise ValueError(f'{path} is a tokenizer without a model')
  # Both would change the ids of texts.
  found |= {'truncation': None, 'padding': None}
  model = json.dumps(found, ensure_ascii=False)
  return Found(path, 'tokenizers', model, None, _specials(folder))


def _of_pieces(folder, path):
  with open(path, 'rb') as file:
    model = base64.b64encode(file.read()).decode()
  # Marian has the ids of pieces in a file of its own.
  own = os.path.join(folder, 'vocab.json')
  ids = tensors.read_json(own) if os.path.exists(own) else None
  return Found(path, 'sentencepiece', model, ids, _specials(folder))


def _specials(folder):
  """The special tokens that the files beside a tokenizer name."""
  found = {}
  for name in ('special_tokens_map.json', 'tokenizer_config.json'):
    path = os.path.join(folder, name)
    if os.path.exists(path):
      given = tensors.read_json(path).items()
      found |= {name: token for name, token in given if token is not None}
  specials = {}
  for ours, theirs in _SPECIALS.items():
    name = next((name for name in theirs if name in found), None)
    if name is not None:
      token = found[name]
      text = token.get('content') if isinstance(token, dict) else token
      if not isinstance(text, str):
        raise ValueError(f'{folder} has {name}={token!r}, which is no text')
      specials[ours] = text
  return specials


# --- GGUF ---------------------------------------------------------------------
def _of_gguf(file):
  """Byte-level BPE; the names of its files are those of llama.cpp."""
  given = family.Settings(file.path, file.metadata)
  given.choose('tokenizer.ggml.model', None, {'gpt2': None})
  has_digits = given.choose(
    'tokenizer.ggml.pre', 'gpt-2', {'gpt-2': False, 'smollm': True}
  )
  tokens = given.require('tokenizer.ggml.tokens')
  merges = given.require('tokenizer.ggml.merges')
  kinds = given.get('tokenizer.ggml.token_type', [])
  library = of_library('tokenizers')
  try:
    model = _byte_level(library, tokens, merges, kinds, has_digits)
    specials = {
      ours: int(found)
      for ours, theirs in _GGUF_SPECIALS.items()
      if (found := given.get(f'tokenizer.ggml.{theirs}_token_id', None))
      is not None
    }
  except Exception as error:  # The library has no narrower class.
    raise ValueError(
      f'{file.path} holds no byte-level BPE that can be read: {error}'
    ) from None
  return Found(file.path, 'tokenizers', model, None, specials)


def _byte_level(library, tokens, merges, kinds, has_digits) -> str:
  pairs = [tuple(merge.split(' ')) for merge in merges]
  vocabulary = {token: i for i, token in enumerate(tokens)}
  if len(vocabulary) < len(tokens):
    raise ValueError(f'{len(tokens) - len(vocabulary)} tokens are there twice')
  made = library.Tokenizer(library.models.BPE(vocabulary, pairs))
  steps = [library.pre_tokenizers.ByteLevel(add_prefix_space=False)]
  if has_digits:
    steps.insert(0, library.pre_tokenizers.Digits(individual_digits=True))
  made.pre_tokenizer = library.pre_tokenizers.Sequence(steps)
  made.decoder = library.decoders.ByteLevel()
  whole = [t for t, k in zip(tokens, kinds, strict=False) if k in _WHOLE]
  made.add_special_tokens(
    [library.AddedToken(t, normalized=False, special=True) for t in whole]
  )
  return made.to_str()


def of_library(name: str) -> Any:
  """A library that is needed only with pretrained models.

  Raises:
    ModuleNotFoundError: it is not installed; says how.
  """
  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      f'this tokenizer needs the package {name}; pip install {name}, or the '
      "extra: pip install -e '.[pretrained]'"
    ) from error
