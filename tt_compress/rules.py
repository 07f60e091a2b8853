"""Rules: ordered (pattern, value) pairs over names; the first match wins."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any


def assign(
  rules: Sequence[tuple[str, Any]], names: Iterable[str]
) -> dict[str, Any]:
  """Gives each name the value of the first rule that matches it.

  A pattern matches a name as `re.fullmatch` does. A rule without effect is an
  error: it is nearly always a typing mistake.

  Args:
    rules: (pattern, value) pairs, the most specific first.
    names: names such as module paths, 'encoder/layers/0/ffn/up'.

  Returns:
    name -> value, in the order of `names`; names no rule matches are left out.

  Raises:
    ValueError: a rule is no (pattern, value) pair, its pattern is no regular
      expression, or it matches nothing or only what earlier rules took.
  """
  names = list(names)
  assigned = {}
  takers = {}
  for pattern, value in pairs(rules):
    matched = [name for name in names if _compile(pattern).fullmatch(name)]
    if not matched:
      raise ValueError(
        f'rule {pattern!r} matches none of {len(names)} names; '
        f'nearest: {_nearest(pattern, names)}'
      )
    free = [name for name in matched if name not in assigned]
    if not free:
      earlier = list(dict.fromkeys(takers[name] for name in matched))
      raise ValueError(
        f'rule {pattern!r} matches only what earlier rules took: '
        f'{_some(matched)} went to {_some(earlier)}; put the more specific '
        f'rule first; nearest names: {_nearest(pattern, names)}'
      )
    assigned.update(dict.fromkeys(free, value))
    takers.update(dict.fromkeys(free, pattern))
  return {name: assigned[name] for name in names if name in assigned}


def first(rules: Sequence[tuple[str, Any]], name: str) -> Any:
  """The value of the first rule that matches a name, or None."""
  matches = (
    value for pattern, value in rules if _compile(pattern).fullmatch(name)
  )
  return next(matches, None)


def pairs(
  rules: Sequence[tuple[str, Any]],
) -> Iterator[tuple[str, Any]]:
  """Iterates over rules.

  Raises:
    ValueError: a rule is no (pattern, value) pair.
  """
  for index, rule in enumerate(rules):
    is_pair = isinstance(rule, Sequence) and not isinstance(rule, str)
    if not (is_pair and len(rule) == 2 and isinstance(rule[0], str)):
      raise ValueError(
        f'rule {index} must be a (pattern, value) pair, got {rule!r}'
      )
    yield rule


def _compile(pattern):
  try:
    return re.compile(pattern)
  except re.error as error:
    raise ValueError(
      f'rule {pattern!r} is not a regular expression: {error}; in one, .* '
      'stands for any text'
    ) from error


def _nearest(pattern, names):
  plain = re.sub(r'[\\.*+?^$|()\[\]{}]+', '', pattern)
  return _some(
    difflib.get_close_matches(plain, names, n=5, cutoff=0.3) or names
  )


def _some(names, limit=5):
  shown = ', '.join(repr(name) for name in names[:limit])
  return (shown or '(none)') + (', ...' if len(names) > limit else '')
