"""Vocabularies of pretrained models, by the libraries that made them."""

import base64
import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import sentencepiece
from jaxtyping import Int32

from tt_compress.data import vocabulary
from tt_compress.pretrained import tokenizers

_SPECIALS = ('pad', 'bos', 'eos', 'unk')


class PretrainedVocabulary(vocabulary.Vocabulary):
  """The ids that a pretrained model was trained with.

  Special tokens in a text, such as '<|im_start|>', have their ids, as in
  `transformers`.

  Args:
    content: JSON that `train` made.

  Raises:
    ValueError: something else, or a special token that is not in it.
  """

  suffix = '.tokenizer'

  def __init__(self, content: bytes):
    super().__init__(content)
    try:
      found = json.loads(content)
      self._texts = _LIBRARIES[found['library']](found['model'], found['ids'])
      specials = {**self._texts.specials, **found['specials']}
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
      raise ValueError(f'not a pretrained vocabulary: {error}') from error
    self.pad_id, self.bos_id, self.eos_id, self.unk_id = (
      self._id(specials.get(name)) for name in _SPECIALS
    )

  @classmethod
  def train(
    cls,
    lines: vocabulary.Lines,
    *,
    max_size: int,
    cache_dir: str,
    folder: str = '',
    is_target: bool = False,
    end: str | None = None,
  ) -> 'PretrainedVocabulary':
    """The vocabulary of a pretrained model, whatever the lines are.

    Args:
      lines: are not read.
      max_size: rows of the embedding, which may be more than there are ids.
      cache_dir: is not used.
      folder: of the model, or its GGUF file, see `pretrained.tokenizers.find`.
      is_target: see there.
      end: text of one token that ends a line, such as a line feed where a
        model has read running text; None for what the model ends a text with.

    Raises:
      ValueError: no folder, none that can be read, more ids than `max_size`, or
        an `end` of several tokens.
    """
    del lines, cache_dir
    if not folder:
      raise ValueError(
        "data.vocabulary='pretrained' needs "
        'data.vocabulary_options.folder, that of a pretrained model'
      )
    found = tokenizers.find(folder, is_target)
    content = dict(
      library=found.library,
      model=found.model,
      ids=found.ids,
      specials=found.specials,
    )
    try:
      made = cls(json.dumps(content, ensure_ascii=False).encode())
      if end is not None:
        content['specials'] |= {'eos': made.only(end)}
        made = cls(json.dumps(content, ensure_ascii=False).encode())
    except ValueError as error:
      raise ValueError(f'{found.path}: {error}') from error
    if len(made) > max_size:
      raise ValueError(
        f'{found.path} has {len(made)} tokens, but the embedding only '
        f'{max_size} rows: it belongs to another model'
      )
    return made

  def __len__(self) -> int:
    return self._texts.size

  def encode(self, lines: Sequence[str]) -> list[Int32[np.ndarray, ' ids']]:
    found = self._texts.encode(vocabulary.check_lines(lines))
    return [np.asarray(ids, np.int32) for ids in found]

  def decode(self, ids: Sequence[int]) -> str:
    """See `Vocabulary.decode`; bytes that are no UTF-8 become U+FFFD."""
    return self._texts.decode(self._bare(ids))

  def only(self, text: str) -> int:
    """The id of a text of one token.

    Raises:
      ValueError: it has none or several.
    """
    [ids] = self.encode([text])
    if len(ids) != 1:
      raise ValueError(f'{text!r} has {len(ids)} tokens instead of one')
    return int(ids[0])

  def _id(self, token: int | str | None) -> int | None:
    if token is None:
      return None
    found = token if isinstance(token, int) else self._texts.id(token)
    if found is None or not 0 <= found < len(self):
      raise ValueError(f'the special token {token!r} is not in the vocabulary')
    return found


class _Tokenizer:
  """A tokenizer of the library `tokenizers`."""

  specials: ClassVar[dict[str, str]] = {}

  def __init__(self, model: str, ids: None):
    del ids
    library = tokenizers.of_library('tokenizers')
    try:
      self._tokenizer = library.Tokenizer.from_str(model)
    except Exception as error:  # The library has no narrower class.
      raise ValueError(f'tokenizers refuses it: {error}') from error
    self.id = self._tokenizer.token_to_id
    ids = self._tokenizer.get_vocab(with_added_tokens=True).values()
    self.size = 1 + max(ids, default=-1)

  def encode(self, lines: list[str]) -> list[list[int]]:
    found = self._tokenizer.encode_batch(lines, add_special_tokens=False)
    return [each.ids for each in found]

  def decode(self, ids: list[int]) -> str:
    return self._tokenizer.decode(ids, skip_special_tokens=False)


class _Pieces:
  """A model of SentencePiece, whose ids may be in a table of their own."""

  def __init__(self, model: str, ids: dict[str, int] | None):
    self._processor = sentencepiece.SentencePieceProcessor()
    self._processor.load_from_serialized_proto(base64.b64decode(model))
    name = self._processor.id_to_piece
    own = {name(i): i for i in range(self._processor.get_piece_size())}
    self._ids = own if ids is None else ids
    self._names = {i: piece for piece, i in self._ids.items()}
    self._unknown = self._ids.get(name(self._processor.unk_id()))
    self.id = self._ids.get
    self.size = 1 + max(self._ids.values(), default=-1)
    # Those of the file, where no other one names them.
    special = {f: getattr(self._processor, f'{f}_id')() for f in _SPECIALS}
    self.specials = {
      f: name(i) for f, i in special.items() if i >= 0 and name(i) in self._ids
    }

  def encode(self, lines: list[str]) -> list[list[int]]:
    found = self._processor.encode(lines, out_type=str)
    return [
      [self._ids.get(piece, self._unknown) for piece in each] for each in found
    ]

  def decode(self, ids: list[int]) -> str:
    return self._processor.decode([self._names.get(i, '') for i in ids])


_LIBRARIES: dict[str, Any] = {
  'tokenizers': _Tokenizer,
  'sentencepiece': _Pieces,
}
