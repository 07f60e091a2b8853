"""A German to English corpus made by a phrase grammar, for use offline.

Combinations of a noun with a verb or an adjective are held out: each test
sentence has at least one that no training sentence has, so a model cannot
translate it by copying phrases of training.
"""

import functools
import random
from collections.abc import Sequence
from typing import TypeVar

from tt_compress.data import corpus
from tt_compress.data.phrases import grammar, lexicon, words

_LENGTHS = range(4, 17)  # German words
_ATTEMPTS = 400  # draws allowed for each sentence asked for
_MODULUS = 10  # one combination in so many is held out for a split
_RESIDUES = {'test': 0, 'validation': 5}

Choice = TypeVar('Choice')
Sentence = tuple[list[grammar.Clause], str, str]  # with German and English


def load(
  split: str,
  *,
  num_train: int = 24_000,
  num_validation: int = 500,
  num_test: int = 500,
  seed: int = 0,
) -> corpus.Corpus:
  """Makes one split of the embedded corpus, always the same.

  Args:
    split: 'train', 'validation' or 'test'.
    num_train: number of distinct training pairs.
    num_validation: number of distinct validation pairs.
    num_test: number of distinct test pairs.
    seed: of the sentences; held-out combinations do not depend on it.

  Returns:
    A `Corpus` of German source and English target sentences.

  Raises:
    ValueError: an unknown split, or a size that is not positive or more than
      the grammar yields.
  """
  sizes = dict(train=num_train, validation=num_validation, test=num_test)
  if split not in sizes:
    raise ValueError(f'no split {split!r}; there are {sorted(sizes)}')
  if sizes[split] < 1:
    raise ValueError(f'num_{split}={sizes[split]} must be at least 1')
  return _make(split, sizes[split], seed)


def split_of(combination: tuple[str, int, int]) -> str:
  """The split that a combination belongs to.

  Args:
    combination: (role, word index, noun index), as a clause lists them.

  Returns:
    'test' or 'validation' if it is held out for that, else 'train'.
  """
  role, word, noun = combination
  shift = {'adjective': 0, 'subject': 2, 'object': 7}[role]
  residue = (3 * word + noun + shift) % _MODULUS
  for split, held_out in _RESIDUES.items():
    if residue == held_out:
      return split
  return 'train'


@functools.lru_cache(maxsize=8)
def _make(split: str, size: int, seed: int) -> corpus.Corpus:
  draw = _Draw(f'{seed} {split}')
  pairs = {}
  for _ in range(_ATTEMPTS * size):
    clauses, german, english = draw.sentence()
    if _belongs(clauses, split) and len(german.split()) in _LENGTHS:
      pairs.setdefault(german, english)
      if len(pairs) == size:
        return corpus.of_sides(
          pairs.keys(), pairs.values(), f'embedded {split}'
        )
  raise ValueError(
    f'num_{split}={size}: the grammar yielded only {len(pairs)} distinct pairs'
  )


def _belongs(clauses: Sequence[grammar.Clause], split: str) -> bool:
  """Whether a sentence has held-out combinations of this split and no other."""
  splits = {
    split_of(combination)
    for clause in clauses
    for combination in clause.combinations()
  }
  return splits - {'train'} == {split} - {'train'}


class _Draw:
  """Draws sentences.

  Only `random.Random.random` is used: its stream is promised to stay the same
  in every version of Python.
  """

  def __init__(self, seed: str):
    self._random = random.Random(seed).random

  def sentence(self) -> Sentence:
    kind = self._random()
    if kind < 0.5:
      return self._statement()
    if kind < 0.6:
      return self._question()
    if kind < 0.7:
      return self._that()
    return self._subordinate(before=kind < 0.85)

  def _statement(self) -> Sentence:
    clause = self._clause(0.35)
    fronts = ['subject', 'subject']
    fronts += ['time'] * 2 if clause.time else []
    fronts += ['place'] if clause.place else []
    fronts += ['object'] if grammar.can_front(clause) else []
    front = self._pick(fronts)
    german = grammar.german_main(clause, front)
    return _ended([clause], german, grammar.english_main(clause, front), '.')

  def _question(self) -> Sentence:
    word, translation = '', ''
    if self._chance(0.4):
      word, translation = self._pick(tuple(words.QUESTIONS.items()))
    clause = self._clause(0.0 if word else 0.25)
    german = grammar.german_main(clause, 'nothing')
    english = grammar.english_question(clause)
    return _ended([clause], f'{word} {german}', f'{translation} {english}', '?')

  def _that(self) -> Sentence:
    verb = self._pick(_verbs(with_clause=True))
    main = grammar.Clause(
      self._subject(verb.subjects), verb, self._pick(('present', 'past'))
    )
    clause = self._clause(0.15)
    german = grammar.german_subordinate(clause, 'dass')
    english = grammar.english_main(clause)
    return _ended(
      [main, clause],
      f'{grammar.german_main(main)}, {german}',
      f'{grammar.english_main(main)} that {english}',
      '.',
    )

  def _subordinate(self, before: bool) -> Sentence:
    conjunction, translation = self._pick(tuple(words.CONJUNCTIONS.items()))
    main, clause = self._clause(0.1), self._clause(0.1)
    german = grammar.german_subordinate(clause, conjunction)
    english = f'{translation} {grammar.english_main(clause)}'
    if before:
      german = f'{german}, {grammar.german_main(main, "nothing")}'
      english = f'{english}, {grammar.english_main(main)}'
    else:
      german = f'{grammar.german_main(main)}, {german}'
      english = f'{grammar.english_main(main)} {english}'
    return _ended([main, clause], german, english, '.')

  def _clause(self, adverbial: float) -> grammar.Clause:
    """Draws a clause; time and place come with probability `adverbial`."""
    if self._chance(0.12):
      return self._predication()
    verb = self._pick(_verbs(with_clause=False))
    tense = self._pick(('present', 'present', 'past', 'modal'))
    negated = self._chance(0.12)
    modals = [m for m in words.MODALS if not (negated and m == 'must')]
    times = [time for time in lexicon.TIMES if tense[0] in time.tenses]
    return grammar.Clause(
      self._subject(verb.subjects, negated),
      verb,
      self._pick(modals) if tense == 'modal' else tense,
      tuple(self._object(slot[2], negated) for slot in verb.frame),
      self._pick(times) if self._chance(adverbial) else None,
      self._place() if not negated and self._chance(adverbial) else None,
      negated,
    )

  def _predication(self) -> grammar.Clause:
    negated = self._chance(0.15)
    subject = self._subject(frozenset('paftrogucv'), negated, 0.0)
    kinds = subject.noun.kinds if subject.noun else frozenset('p')
    return grammar.Clause(
      subject,
      None,
      self._pick(('present', 'past')),
      negated=negated,
      predicate=self._adjective(kinds),
    )

  def _subject(
    self,
    kinds: frozenset[str],
    negated: bool = False,
    adjectives: float = 0.25,
  ) -> grammar.Pronoun | grammar.NounPhrase:
    if 'p' in kinds and self._chance(0.22):
      return grammar.Pronoun(*self._pick(words.PRONOUNS))
    # Not every, or every not? The two languages need not agree: not drawn.
    determiners = [d for d in words.DETERMINERS if not (negated and d == 'jed')]
    return self._phrase(kinds, determiners, adjectives)

  def _object(
    self, kinds: frozenset[str], definite: bool
  ) -> grammar.NounPhrase:
    known = ('d', 'd', 'dies', 'mein', 'dein', 'unser')
    determiners = known if definite else tuple(words.DETERMINERS)
    return self._phrase(kinds, determiners, 0.3)

  def _phrase(
    self,
    kinds: frozenset[str],
    determiners: Sequence[str],
    adjectives: float,
  ) -> grammar.NounPhrase:
    noun = self._pick(_nouns(kinds))
    plural = not noun.name and self._chance(0.3)
    # The articles are as frequent as all the other determiners together.
    articles = [d for d in ('d', 'ein') if d in determiners]
    usable = [
      d
      for d in (articles if self._chance(0.5) else determiners)
      if words.DETERMINERS[d][plural] is not None
    ]
    adjective = None
    if not noun.name and self._chance(adjectives):
      adjective = self._adjective(noun.kinds)
    return grammar.NounPhrase(noun, self._pick(usable), adjective, plural)

  def _adjective(self, kinds: frozenset[str]) -> lexicon.Adjective:
    return self._pick(_adjectives(kinds))

  def _place(self) -> tuple[str, lexicon.Place]:
    place = self._pick(lexicon.PLACES)
    return self._pick(place.prepositions), place

  def _chance(self, probability: float) -> bool:
    return self._random() < probability

  def _pick(self, choices: Sequence[Choice]) -> Choice:
    return choices[int(self._random() * len(choices))]


# Searching the lexicon for every word took two thirds of the time of a corpus.
@functools.cache
def _verbs(*, with_clause: bool) -> tuple[lexicon.Verb, ...]:
  return tuple(v for v in lexicon.VERBS if v.clause == with_clause)


@functools.cache
def _nouns(kinds: frozenset[str]) -> tuple[lexicon.Noun, ...]:
  every = lexicon.NOUNS + lexicon.NAMES
  return tuple(noun for noun in every if noun.kinds & kinds)


@functools.cache
def _adjectives(kinds: frozenset[str]) -> tuple[lexicon.Adjective, ...]:
  return tuple(each for each in lexicon.ADJECTIVES if each.kinds & kinds)


def _ended(
  clauses: list[grammar.Clause], german: str, english: str, mark: str
) -> Sentence:
  return clauses, _finish(german, mark), _finish(english, mark)


def _finish(text: str, mark: str) -> str:
  text = text.strip()
  return text[0].upper() + text[1:] + mark
