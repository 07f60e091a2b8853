"""A small byte-level tokenizer, as pretrained models bring one."""

import json
import pathlib

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

SPECIALS = ('<|end|>', '<|begin|>')
MERGES = (('t', 'h'), ('th', 'e'), ('Ġ', 'the'))


def vocabulary() -> list[str]:
  """Tokens in the order of their ids: special ones, bytes, merges."""
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  return [*SPECIALS, *alphabet, *(a + b for a, b in MERGES)]


def write(folder: pathlib.Path) -> None:
  """Writes tokenizer.json and tokenizer_config.json."""
  ids = {token: i for i, token in enumerate(vocabulary())}
  made = tokenizers.Tokenizer(models.BPE(ids, list(MERGES)))
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.decoder = decoders.ByteLevel()
  made.add_special_tokens(list(SPECIALS))
  # As some files have them; they must not change ids.
  made.enable_truncation(3)
  made.enable_padding(length=3)
  made.save(str(folder / 'tokenizer.json'))
  begin = {'__type': 'AddedToken', 'content': SPECIALS[1], 'special': True}
  settings = {'eos_token': SPECIALS[0], 'bos_token': begin}
  (folder / 'tokenizer_config.json').write_text(json.dumps(settings))
