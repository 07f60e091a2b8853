"""How a text is cut into words."""

import dataclasses
import functools
import importlib.metadata
import re
from collections.abc import Callable, Iterator

# By name: the package whose tokenizer it is.
TOKENIZERS = {'13a': 'sacrebleu'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordSplitting:
  r"""Finds the words of a text.

  Args:
    pattern: regular expression of a word, e.g. r'\w+|[^\w\s]' for text whose
      punctuation is not separate.
    lower_case: lower the case of all text.
    markup: regular expression of parts that are no text, such as tags of HTML;
      a space takes their place, before all else. Empty removes nothing.
    tokenizer: that separates words from punctuation, before the pattern is
      matched: '13a', that of sacreBLEU, which knows numbers, abbreviations with
      hyphens and the entities of HTML, or '' for none.

  Raises:
    ValueError: a bad regular expression or an unknown tokenizer.
  """

  pattern: str = r'\S+'
  lower_case: bool = False
  markup: str = ''
  tokenizer: str = ''

  def __post_init__(self):
    for name in ('pattern', 'markup'):
      try:
        re.compile(getattr(self, name))
      except re.error as error:
        raise ValueError(
          f'{name}={getattr(self, name)!r} is no regular expression: {error}'
        ) from error
    if self.tokenizer and self.tokenizer not in TOKENIZERS:
      raise ValueError(
        f'tokenizer={self.tokenizer!r} must be one of {sorted(TOKENIZERS)}, or '
        'empty'
      )

  @property
  def version(self) -> str:
    """The package of the tokenizer and its version; empty without one."""
    if not self.tokenizer:
      return ''
    package = TOKENIZERS[self.tokenizer]
    return f'{package} {importlib.metadata.version(package)}'

  def words(self, text: str) -> Iterator[str]:
    """Yields the words of a text in their order."""
    if self.markup:
      text = re.sub(self.markup, ' ', text)
    if self.lower_case:
      text = text.lower()
    if self.tokenizer:
      text = _tokenizer(self.tokenizer)(text)
    return (match[0] for match in re.finditer(self.pattern, text))

  def spans(self, text: str) -> list[tuple[int, int]]:
    """The first character of each word in the text as it is, and its end.

    Raises:
      ValueError: words are not parts of the text, since markup or a tokenizer
        changes it.
    """
    if self.markup or self.tokenizer:
      raise ValueError(
        f'markup={self.markup!r} and tokenizer={self.tokenizer!r} change a '
        "text, so that its words have no place in it; set both to ''"
      )
    return [match.span() for match in re.finditer(self.pattern, text)]


@functools.cache
def _tokenizer(name: str) -> Callable[[str], str]:
  # The import takes longer than reading a small vocabulary.
  from sacrebleu.tokenizers import tokenizer_13a

  return {'13a': tokenizer_13a.Tokenizer13a()}[name]
