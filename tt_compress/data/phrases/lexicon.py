"""The words of the embedded grammar, with their forms."""

import dataclasses

from tt_compress.data.phrases import words

Slot = tuple[str, str, frozenset[str]]  # preposition, case, kinds


@dataclasses.dataclass(frozen=True)
class Noun:
  """A noun; `name` marks a proper name, which takes no article."""

  index: int
  gender: str  # m, f, n
  singular: str
  oblique: str  # accusative and dative singular
  plural: str
  english: str
  english_plural: str
  kinds: frozenset[str]
  name: bool = False


@dataclasses.dataclass(frozen=True)
class Adjective:
  """An adjective with the stem that takes endings."""

  index: int
  german: str
  stem: str
  english: str
  kinds: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Verb:
  """A verb; `frame` lists (preposition or '', case, kinds) of its objects."""

  index: int
  prefix: str  # '' unless separable
  infinitive: str  # without the prefix
  third: str  # third person singular present, without the prefix
  participle: str
  auxiliary: str  # haben or sein
  english: str
  english_past: str
  subjects: frozenset[str]
  frame: tuple[Slot, ...]
  clause: bool = False  # takes a dass-clause


@dataclasses.dataclass(frozen=True)
class Place:
  """A noun of place and the prepositions that go with it."""

  gender: str
  german: str
  english: str
  prepositions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Time:
  """A phrase of time; `tenses` holds n present, p past, m modal."""

  german: str
  english: str
  tenses: str


def _rows(table: str) -> list[str]:
  return [line for line in table.splitlines() if line]


def _noun(index: int, line: str) -> Noun:
  gender, singular, plural, english, english_plural, kinds = line.split()
  oblique = plural if gender.endswith('*') else singular
  return Noun(
    index,
    gender[0],
    singular,
    oblique,
    plural,
    english,
    english_plural,
    frozenset(kinds),
  )


def _name(index: int, name: str) -> Noun:
  return Noun(index, '', name, name, '', name, '', frozenset('p'), True)


def _adjective(index: int, line: str) -> Adjective:
  german, english, kinds = line.split()
  german, _, stem = german.partition('/')
  return Adjective(index, german, stem or german, english, frozenset(kinds))


def _verb(index: int, line: str) -> Verb:
  german, english, subjects, objects = (
    part.strip() for part in line.split(';')
  )
  infinitive, third, participle = german.split()
  prefix, _, infinitive = infinitive.rpartition('+')
  auxiliary = 'sein' if participle.endswith('*') else 'haben'
  frame = tuple(_slot(text) for text in objects.split() if text != 'dass')
  return Verb(
    index,
    prefix,
    infinitive,
    third,
    prefix + participle.rstrip('*'),
    auxiliary,
    *english.split(', '),
    frozenset(subjects),
    frame,
    objects == 'dass',
  )


def _slot(text: str) -> Slot:
  case, _, kinds = text.partition('=')
  preposition, _, case = case.rpartition(':')
  return preposition, case, frozenset(kinds)


def _place(line: str) -> Place:
  gender, german, english, where = line.split()
  inside = ('in',) if 'i' in where else ()
  around = ('vor', 'hinter', 'neben') if 'n' in where else ()
  return Place(gender, german, english, inside + around)


NOUNS = tuple(_noun(i, line) for i, line in enumerate(_rows(words.NOUNS)))
NAMES = tuple(
  _name(len(NOUNS) + i, name) for i, name in enumerate(words.NAMES.split())
)
ADJECTIVES = tuple(
  _adjective(i, line) for i, line in enumerate(_rows(words.ADJECTIVES))
)
VERBS = tuple(_verb(i, line) for i, line in enumerate(_rows(words.VERBS)))
PLACES = tuple(_place(line) for line in _rows(words.PLACES))
TIMES = tuple(
  Time(*(part.strip() for part in line.split(';')))
  for line in _rows(words.TIMES)
)
