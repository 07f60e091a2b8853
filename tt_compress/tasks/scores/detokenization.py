"""Plain text of text that was tokenized as the scripts of Moses do."""

import html
import re
from collections.abc import Sequence

_OPENS = re.compile(r'[$£€(\[{¿¡„“‚]+')
_CLOSES = re.compile(r'[,;:!?%)\]}”’]+|\.')
_QUOTES = '"', "'"
_STOPS = '.', '?', '!'
# Ends of words such as those of "we 're" and "geht 's".
_ENDS = re.compile(r"'\w+")


def detokenize(lines: Sequence[str]) -> list[str]:
  """Joins the tokens of each line, without the escapes of Moses.

  Marks join the word before or after them, as do the ends of contractions;
  straight quotes open and close in turns. It is a guess where the tokens do not
  say which side a mark belongs to.

  Args:
    lines: tokens separated by spaces, with escapes such as `&apos;`.
  """
  return [_detokenize(line) for line in lines]


def _detokenize(line: str) -> str:
  tokens = [html.unescape(token) for token in line.split()]
  text, joins, is_open = '', True, dict.fromkeys(_QUOTES, False)
  for i, token in enumerate(tokens):
    opens, closes = _OPENS.fullmatch(token), _CLOSES.fullmatch(token)
    if token in _QUOTES:
      # Speech of several lines ends with a quote that opens in none of them.
      closes = is_open[token] or i + 1 == len(tokens) or text[-1:] in _STOPS
      opens = is_open[token] = not closes
    elif token == '“' and '„' in text:
      opens, closes = False, True  # in German, where it opens in English
    elif _ENDS.fullmatch(token):
      closes = text[-1:].isalnum()
    text += token if joins or closes else f' {token}'
    joins = opens
  return text
