import collections
import dataclasses
import hashlib

import pytest

from tt_compress.data import embedded
from tt_compress.data.phrases import grammar, lexicon, words


def noun(singular):
  every = lexicon.NOUNS + lexicon.NAMES
  return next(n for n in every if n.singular == singular)


def verb(infinitive):
  return next(v for v in lexicon.VERBS if v.prefix + v.infinitive == infinitive)


def adjective(german):
  return next(a for a in lexicon.ADJECTIVES if a.german == german)


def time(german):
  return next(t for t in lexicon.TIMES if t.german == german)


def place(german):
  return next(p for p in lexicon.PLACES if p.german == german)


def phrase(determiner, *names, plural=False):
  *first, last = names
  chosen = adjective(first[0]) if first else None
  return grammar.NounPhrase(noun(last), determiner, chosen, plural)


def pronoun(english):
  return grammar.Pronoun(*next(p for p in words.PRONOUNS if p[1] == english))


@pytest.mark.parametrize(
  'found, nominative, accusative, dative, english',
  [
    (
      phrase('d', 'alt', 'Mann'),
      'der alte Mann',
      'den alten Mann',
      'dem alten Mann',
      'the old man',
    ),
    (
      phrase('ein', 'alt', 'Mann'),
      'ein alter Mann',
      'einen alten Mann',
      'einem alten Mann',
      'an old man',
    ),
    (
      phrase('mein', 'müde', 'Katze'),
      'meine müde Katze',
      'meine müde Katze',
      'meiner müden Katze',
      'my tired cat',
    ),
    (
      phrase('dies', 'teuer', 'Buch'),
      'dieses teure Buch',
      'dieses teure Buch',
      'diesem teuren Buch',
      'this expensive book',
    ),
    (
      phrase('ein', 'dunkel', 'Fenster'),
      'ein dunkles Fenster',
      'ein dunkles Fenster',
      'einem dunklen Fenster',
      'a dark window',
    ),
    (
      phrase('unser', 'klein', 'Kind', plural=True),
      'unsere kleinen Kinder',
      'unsere kleinen Kinder',
      'unseren kleinen Kindern',
      'our small children',
    ),
    (
      phrase('zwei', 'rot', 'Auto', plural=True),
      'zwei rote Autos',
      'zwei rote Autos',
      'zwei roten Autos',
      'two red cars',
    ),
    (
      phrase('viel', 'jung', 'Ärztin', plural=True),
      'viele junge Ärztinnen',
      'viele junge Ärztinnen',
      'vielen jungen Ärztinnen',
      'many young doctors',
    ),
    (
      phrase('d', 'Junge'),
      'der Junge',
      'den Jungen',
      'dem Jungen',
      'the boy',
    ),
    (
      phrase('jed', 'Frau'),
      'jede Frau',
      'jede Frau',
      'jeder Frau',
      'every woman',
    ),
    (phrase('d', 'Anna'), 'Anna', 'Anna', 'Anna', 'Anna'),
  ],
)
def test_declension(found, nominative, accusative, dative, english):
  assert found.german('nom') == nominative
  assert found.german('acc') == accusative
  assert found.german('dat') == dative
  assert found.english == english


READ = grammar.Clause(
  phrase('d', 'Frau'),
  verb('lesen'),
  objects=(phrase('ein', 'Brief'),),
  time=time('heute'),
  place=('in', place('Garten')),
)
OPEN = grammar.Clause(
  phrase('mein', 'Bruder'), verb('aufmachen'), objects=(phrase('d', 'Tor'),)
)
GIVE = grammar.Clause(
  pronoun('they'),
  verb('geben'),
  'past',
  (phrase('d', 'Kind'), phrase('ein', 'Ball')),
)


def replace(clause, **changes):
  return dataclasses.replace(clause, **changes)


@pytest.mark.parametrize(
  'clause, front, german, english',
  [
    (
      READ,
      'subject',
      'die Frau liest heute einen Brief im Garten',
      'the woman reads a letter in the garden today',
    ),
    (
      READ,
      'time',
      'heute liest die Frau einen Brief im Garten',
      'today the woman reads a letter in the garden',
    ),
    (
      READ,
      'place',
      'im Garten liest die Frau heute einen Brief',
      'in the garden the woman reads a letter today',
    ),
    (
      READ,
      'object',
      'einen Brief liest die Frau heute im Garten',
      'the woman reads a letter in the garden today',
    ),
    (
      OPEN,
      'subject',
      'mein Bruder macht das Tor auf',
      'my brother opens the gate',
    ),
    (
      replace(OPEN, tense='want to'),
      'subject',
      'mein Bruder will das Tor aufmachen',
      'my brother wants to open the gate',
    ),
    (
      replace(OPEN, negated=True),
      'subject',
      'mein Bruder macht das Tor nicht auf',
      'my brother does not open the gate',
    ),
    (
      replace(OPEN, negated=True, tense='can', subject=pronoun('you')),
      'subject',
      'du kannst das Tor nicht aufmachen',
      'you cannot open the gate',
    ),
    (
      GIVE,
      'subject',
      'sie haben dem Kind einen Ball gegeben',
      'they gave the child a ball',
    ),
    (
      grammar.Clause(
        phrase('zwei', 'Hund', plural=True), verb('weglaufen'), 'past'
      ),
      'subject',
      'zwei Hunde sind weggelaufen',
      'two dogs ran away',
    ),
    (
      grammar.Clause(
        pronoun('he'),
        verb('träumen'),
        negated=True,
        objects=(phrase('d', 'wild', 'Pferd'),),
      ),
      'subject',
      'er träumt nicht vom wilden Pferd',
      'he does not dream of the wild horse',
    ),
    (
      grammar.Clause(
        pronoun('I'), None, 'past', negated=True, predicate=adjective('müde')
      ),
      'subject',
      'ich war nicht müde',
      'I was not tired',
    ),
  ],
)
def test_main_clauses(clause, front, german, english):
  assert grammar.german_main(clause, front) == german
  assert grammar.english_main(clause, front) == english


@pytest.mark.parametrize(
  'clause, german',
  [
    (OPEN, 'weil mein Bruder das Tor aufmacht'),
    (replace(OPEN, tense='past'), 'weil mein Bruder das Tor aufgemacht hat'),
    (replace(OPEN, tense='will'), 'weil mein Bruder das Tor aufmachen wird'),
    (GIVE, 'weil sie dem Kind einen Ball gegeben haben'),
    (
      grammar.Clause(phrase('d', 'Auto'), None, predicate=adjective('kaputt')),
      'weil das Auto kaputt ist',
    ),
  ],
)
def test_subordinate_clauses_end_in_the_verb(clause, german):
  assert grammar.german_subordinate(clause, 'weil') == german


@pytest.mark.parametrize(
  'clause, german, english',
  [
    (OPEN, 'macht mein Bruder das Tor auf', 'does my brother open the gate'),
    (
      GIVE,
      'haben sie dem Kind einen Ball gegeben',
      'did they give the child a ball',
    ),
    (
      replace(OPEN, tense='must'),
      'muss mein Bruder das Tor aufmachen',
      'must my brother open the gate',
    ),
    (
      grammar.Clause(pronoun('you'), None, predicate=adjective('klug')),
      'bist du klug',
      'are you clever',
    ),
  ],
)
def test_questions(clause, german, english):
  assert grammar.german_main(clause, 'nothing') == german
  assert grammar.english_question(clause) == english


@pytest.mark.parametrize(
  'infinitive, forms',
  [
    ('finden', 'finde findest findet finden'),
    ('lesen', 'lese liest liest lesen'),
    ('tanzen', 'tanze tanzt tanzt tanzen'),
    ('schlafen', 'schlafe schläfst schläft schlafen'),
    ('einladen', 'lade lädst lädt laden'),
    ('begrüßen', 'begrüße begrüßt begrüßt begrüßen'),
    ('zeichnen', 'zeichne zeichnest zeichnet zeichnen'),
    ('waschen', 'wasche wäschst wäscht waschen'),
  ],
)
def test_conjugation(infinitive, forms):
  assert ' '.join(grammar._present(verb(infinitive))) == forms


def test_only_plain_objects_go_to_the_front():
  can = {
    name: grammar.can_front(replace(READ, objects=(phrase(*spec),)))
    for name, spec in dict(
      masculine=('d', 'Brief'), feminine=('d', 'Karte'), neuter=('d', 'Buch')
    ).items()
  }
  assert can == dict(masculine=True, feminine=False, neuter=False)
  assert grammar.can_front(GIVE)
  plural = phrase('d', 'Brief', plural=True)
  assert not grammar.can_front(replace(READ, objects=(plural,)))


def test_splits_have_their_sizes_and_lengths():
  sizes = dict(train=24_000, validation=500, test=500)
  for split, size in sizes.items():
    found = embedded.load(split)
    assert len(found) == len(set(found.source)) == size
    assert all(4 <= len(line.split()) <= 16 for line in found.source)
    assert all(line[0].isupper() and line[-1] in '.?' for line in found.target)


def test_a_sentence_has_one_translation():
  draw = embedded._Draw('one translation')
  translations = {}
  for _ in range(30_000):
    _, german, english = draw.sentence()
    assert translations.setdefault(german, english) == english


def combinations(split, size):
  """Every kept sentence with the splits of its combinations."""
  kept = set(embedded.load(split, **{f'num_{split}': size}).source)
  draw = embedded._Draw(f'0 {split}')
  found = {}
  while len(found) < size:
    clauses, german, _ = draw.sentence()
    if german in kept:
      found[german] = [c for x in clauses for c in x.combinations()]
  return found


def test_combinations_are_held_out():
  train = combinations('train', 3000)
  seen = {c for every in train.values() for c in every}
  assert {embedded.split_of(c) for c in seen} == {'train'}
  for split in ('validation', 'test'):
    for sentence, every in combinations(split, 300).items():
      splits = {embedded.split_of(c) for c in every}
      assert split in splits, sentence
      assert splits <= {'train', split}, sentence
      assert sentence not in train


def test_every_word_of_test_is_seen_in_training():
  def forms(lines):
    return {w.strip(',.?').lower() for line in lines for w in line.split()}

  train, test = embedded.load('train'), embedded.load('test')
  assert forms(test.target) <= forms(train.target)
  assert len(forms(test.source) - forms(train.source)) <= 3


def test_held_out_combinations_are_spread_over_words():
  held_out = collections.Counter(
    (role, word)
    for role, size in (('adjective', 43), ('subject', 80), ('object', 80))
    for word in range(size)
    for index in range(100)
    if embedded.split_of((role, word, index)) == 'test'
  )
  assert set(held_out.values()) == {10}


def test_sizes_and_seeds_do_what_they_say():
  five, three = (embedded.load('test', num_test=n) for n in (5, 3))
  assert five.source[:3] == three.source
  assert embedded.load('test', num_test=5, seed=1) != five


@pytest.mark.parametrize(
  'split, digest',
  [
    ('train', '6de5dca2d299801e'),
    ('validation', '0f4f0a8e7fbb9683'),
    ('test', '93cd246caf443b7f'),
  ],
)
def test_the_corpus_stays_the_same(split, digest):
  """Scores are comparable only while nobody changes the sentences."""
  found = embedded.load(split)
  text = '\n'.join(found.source + found.target)
  assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


def test_bad_options_are_named():
  with pytest.raises(ValueError, match="no split 'dev'"):
    embedded.load('dev')
  with pytest.raises(ValueError, match='num_train=0'):
    embedded.load('train', num_train=0)


def test_a_size_beyond_the_grammar_is_refused(monkeypatch):
  monkeypatch.setattr(
    embedded._Draw, 'sentence', lambda self: ([], 'a b c d', 'e')
  )
  with pytest.raises(ValueError, match='num_train=7: .* only 1 distinct'):
    embedded.load('train', num_train=7)
