"""German clauses and their English translations, from one description.

A clause says who does what to whom, when and where; German and English are
two readings of it, so that every sentence has exactly one translation.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from tt_compress.data.phrases import lexicon, words

Endings = Mapping[str, Mapping[str, str]]

# endings by case for masculine, feminine, neuter, plural
_ARTICLE = {
  'nom': dict(m='er', f='ie', n='as', p='ie'),
  'acc': dict(m='en', f='ie', n='as', p='ie'),
  'dat': dict(m='em', f='er', n='em', p='en'),
}
_STRONG = {
  'nom': dict(m='er', f='e', n='es', p='e'),
  'acc': dict(m='en', f='e', n='es', p='e'),
  'dat': dict(m='em', f='er', n='em', p='en'),
}
_MIXED = {
  'nom': dict(m='', f='e', n='', p='e'),
  'acc': dict(m='en', f='e', n='', p='e'),
  'dat': dict(m='em', f='er', n='em', p='en'),
}
_NUMBER = {case: dict(p='') for case in _STRONG}
_DETERMINER_ENDINGS = {
  'd': _ARTICLE,
  'dies': _STRONG,
  'jed': _STRONG,
  'viel': _STRONG,
  'ein': _MIXED,
  'mein': _MIXED,
  'dein': _MIXED,
  'unser': _MIXED,
  'zwei': _NUMBER,
  'drei': _NUMBER,
}
_WEAK = {
  'nom': dict(m='e', f='e', n='e', p='en'),
  'acc': dict(m='en', f='e', n='e', p='en'),
  'dat': dict(m='en', f='en', n='en', p='en'),
}
_AFTER_MIXED = {
  'nom': dict(m='er', f='e', n='es', p='en'),
  'acc': dict(m='en', f='e', n='es', p='en'),
  'dat': dict(m='en', f='en', n='en', p='en'),
}
_CONTRACTED = {'in dem': 'im', 'von dem': 'vom'}
_PERSONS = ('1s', '2s', '3s', '1p')


@dataclasses.dataclass(frozen=True)
class Pronoun:
  """A subject pronoun."""

  form: str
  english: str
  person: str
  noun = None
  adjective = None

  def german(self, case: str) -> str:
    """The German pronoun; subjects are nominative."""
    if case != 'nom':
      raise ValueError(f'the pronoun {self.form} has no case {case}')
    return self.form


@dataclasses.dataclass(frozen=True)
class NounPhrase:
  """A noun with its determiner, perhaps an adjective, in one number."""

  noun: lexicon.Noun
  determiner: str = 'd'
  adjective: lexicon.Adjective | None = None
  plural: bool = False

  @property
  def person(self) -> str:
    return '3p' if self.plural else '3s'

  def german(self, case: str) -> str:
    """Determiner, adjective and noun, declined."""
    noun = self.noun
    if noun.name:
      return noun.singular
    column = 'p' if self.plural else noun.gender
    endings = _DETERMINER_ENDINGS[self.determiner]
    tokens = [self.determiner + endings[case][column]]
    if self.adjective is not None:
      tokens.append(
        self.adjective.stem
        + _adjective_endings(endings, self.determiner)[case][column]
      )
    return ' '.join([*tokens, self._declined(case)])

  @property
  def english(self) -> str:
    if self.noun.name:
      return self.noun.english
    word = self.noun.english_plural if self.plural else self.noun.english
    tokens = [self.adjective.english, word] if self.adjective else [word]
    determiner = words.DETERMINERS[self.determiner][self.plural]
    if determiner == 'a' and tokens[0][0] in 'aeiou':
      determiner = 'an'
    return ' '.join([determiner, *tokens])

  def _declined(self, case: str) -> str:
    if not self.plural:
      return self.noun.singular if case == 'nom' else self.noun.oblique
    plural = self.noun.plural
    return plural + 'n' * (case == 'dat' and plural[-1] not in 'ns')


def _adjective_endings(endings: Endings, determiner: str) -> Endings:
  if determiner in ('viel', 'zwei', 'drei'):
    return _STRONG
  return _AFTER_MIXED if endings is _MIXED else _WEAK


@dataclasses.dataclass(frozen=True)
class Clause:
  """Who does what to whom, when and where.

  Args:
    subject: a `Pronoun` or `NounPhrase`.
    verb: a verb, or None for to be with `predicate`.
    tense: 'present', 'past' or a key of `words.MODALS`.
    objects: noun phrases, one per slot of the verb's frame.
    time: a phrase of time or None.
    place: (preposition, place) or None.
    negated: whether it is denied.
    predicate: the adjective of a clause with to be.
  """

  subject: Pronoun | NounPhrase
  verb: lexicon.Verb | None
  tense: str = 'present'
  objects: tuple[NounPhrase, ...] = ()
  time: lexicon.Time | None = None
  place: tuple[str, lexicon.Place] | None = None
  negated: bool = False
  predicate: lexicon.Adjective | None = None

  def combinations(self) -> list[tuple[str, int, int]]:
    """The (role, word, noun) combinations, words by their index."""
    phrases = [self.subject, *self.objects]
    found = [
      ('adjective', phrase.adjective.index, phrase.noun.index)
      for phrase in phrases
      if phrase.adjective is not None
    ]
    if self.predicate is not None and self.subject.noun is not None:
      found.append(('adjective', self.predicate.index, self.subject.noun.index))
    if self.verb is not None:
      found += [
        ('object' if place else 'subject', self.verb.index, phrase.noun.index)
        for place, phrase in enumerate(phrases)
        if phrase.noun is not None
      ]
    return found


def german_main(clause: Clause, front: str = 'subject') -> str:
  """Reads a clause in verb-second order.

  Args:
    clause: a `Clause`.
    front: what stands before the verb: 'subject', 'time', 'place', 'object'
      (the first one), or 'nothing' for a question or after another clause.
  """
  parts = _german_parts(clause)
  first = parts.pop(front, '')
  finite, final = parts.pop('finite'), parts.pop('final')
  return _join(first, finite, *parts.values(), final)


def german_subordinate(clause: Clause, conjunction: str) -> str:
  """Reads a clause in verb-final order after a conjunction."""
  parts = _german_parts(clause)
  finite, final = parts.pop('finite'), parts.pop('final')
  separable = clause.tense == 'present' and clause.verb is not None
  last = final + finite if separable else _join(final, finite)
  return _join(conjunction, *parts.values(), last)


def english_main(clause: Clause, front: str = 'subject') -> str:
  """Reads a clause in English; `front` as in `german_main`."""
  subject, auxiliary, negation, rest = _english_verb(clause, False)
  return _join(
    _english_time(clause) if front == 'time' else '',
    _english_place(clause) if front == 'place' else '',
    subject,
    auxiliary + 'not' if auxiliary == 'can' and negation else auxiliary,
    '' if auxiliary == 'can' else negation,
    rest,
    *(phrase.english for phrase in clause.objects),
    '' if front == 'place' else _english_place(clause),
    '' if front == 'time' else _english_time(clause),
  )


def english_question(clause: Clause) -> str:
  """Reads a clause as an English question, without the question mark."""
  subject, auxiliary, negation, rest = _english_verb(clause, True)
  return _join(
    auxiliary,
    subject,
    negation,
    rest,
    *(phrase.english for phrase in clause.objects),
    _english_place(clause),
    _english_time(clause),
  )


def can_front(clause: Clause) -> bool:
  """Whether the first object cannot be read as a subject before the verb.

  Only masculine accusatives and masculine or neuter datives in the singular
  differ from every nominative.
  """
  if clause.verb is None or not clause.objects or clause.negated:
    return False
  preposition, case, _ = clause.verb.frame[0]
  phrase = clause.objects[0]
  marked = {'acc': 'm', 'dat': 'mn'}[case]
  return bool(
    not preposition
    and not phrase.plural
    and phrase.noun.gender
    and phrase.noun.gender in marked
  )


def _german_parts(clause: Clause) -> dict[str, str]:
  """The parts of a German clause by name, in the order after a verb."""
  finite, final = _german_verb(clause)
  parts = {
    'finite': finite,
    'subject': clause.subject.german('nom'),
    'time': clause.time.german if clause.time else '',
  }
  frame = clause.verb.frame if clause.verb else ()
  places = ('object', 'second object')
  bound = ''
  for name, slot, phrase in zip(places, frame, clause.objects, strict=False):
    preposition, case, _ = slot
    if preposition:
      bound = _prepositional(preposition, phrase.german(case))
    else:
      parts[name] = phrase.german(case)
  parts['negation'] = 'nicht' if clause.negated else ''
  parts['bound'] = bound
  parts['place'] = _german_place(clause)
  parts['final'] = final
  return parts


def _german_verb(clause: Clause) -> tuple[str, str]:
  """The finite verb and the end of the clause."""
  person, verb, tense = clause.subject.person, clause.verb, clause.tense
  if verb is None:
    forms = words.AUXILIARIES['sein' if tense == 'present' else 'war']
    return _select(forms, person), clause.predicate.german
  if tense == 'past':
    forms = words.AUXILIARIES[verb.auxiliary]
    return _select(forms, person), verb.participle
  if tense != 'present':
    forms = words.MODALS[tense]
    return _select(forms, person), verb.prefix + verb.infinitive
  return _select(_present(verb), person), verb.prefix


def _present(verb: lexicon.Verb) -> tuple[str, str, str, str]:
  stem = verb.third[:-1]
  second = verb.third if stem[-1] in 'sßz' else stem + 'st'
  return verb.infinitive[:-1], second, verb.third, verb.infinitive


def _select(forms: Sequence[str], person: str) -> str:
  return forms[_PERSONS.index('1p' if person[1] == 'p' else person)]


def _english_verb(clause: Clause, question: bool) -> tuple[str, str, str, str]:
  """Subject, auxiliary, negation and the rest of the verb."""
  subject, verb, tense = clause.subject, clause.verb, clause.tense
  third = subject.person == '3s'
  negation = 'not' if clause.negated else ''
  if verb is None:
    be = _be(subject.person, tense)
    return subject.english, be, negation, clause.predicate.english
  if tense in words.MODALS and tense != 'want to':
    return subject.english, tense, negation, verb.english
  base = f'want to {verb.english}' if tense == 'want to' else verb.english
  if question or clause.negated:
    support = 'did' if tense == 'past' else 'does' if third else 'do'
    return subject.english, support, negation, base
  if tense == 'past':
    return subject.english, '', '', verb.english_past
  return subject.english, '', '', _third(base) if third else base


def _be(person: str, tense: str) -> str:
  if tense == 'present':
    return {'1s': 'am', '3s': 'is'}.get(person, 'are')
  return 'was' if person in ('1s', '3s') else 'were'


def _third(base: str) -> str:
  word, space, particle = base.partition(' ')
  if word.endswith(('s', 'sh', 'ch', 'x', 'z', 'o')):
    word += 'es'
  elif word.endswith('y') and word[-2] not in 'aeiou':
    word = word[:-1] + 'ies'
  else:
    word += 's'
  return word + space + particle


def _prepositional(preposition: str, phrase: str) -> str:
  text = f'{preposition} {phrase}'
  for long, short in _CONTRACTED.items():
    if text.startswith(long + ' '):
      return short + text[len(long) :]
  return text


def _german_place(clause: Clause) -> str:
  if clause.place is None:
    return ''
  preposition, place = clause.place
  article = 'd' + _ARTICLE['dat'][place.gender]
  return _prepositional(preposition, f'{article} {place.german}')


def _english_place(clause: Clause) -> str:
  if clause.place is None:
    return ''
  preposition, place = clause.place
  return f'{words.PREPOSITIONS[preposition]} the {place.english}'


def _english_time(clause: Clause) -> str:
  return clause.time.english if clause.time else ''


def _join(*parts: str) -> str:
  return ' '.join(part for part in parts if part)
