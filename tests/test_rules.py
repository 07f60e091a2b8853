import pytest

from tt_compress import rules

NAMES = ['encoder/0/ffn/up', 'encoder/0/ffn/down', 'encoder/embed', 'logits']


def test_first_match_wins():
  assigned = rules.assign(
    [('.*/up', 1), ('.*/ffn/.*', 2), ('.*embed.*|logits', 3)], NAMES
  )
  assert assigned == {
    'encoder/0/ffn/up': 1,
    'encoder/0/ffn/down': 2,
    'encoder/embed': 3,
    'logits': 3,
  }
  assert list(assigned) == NAMES


def test_names_without_a_rule_are_left_out():
  assert rules.assign([('logits', 'x')], NAMES) == {'logits': 'x'}
  assert rules.assign([], NAMES) == {}


def test_the_whole_name_must_match():
  with pytest.raises(ValueError, match="'ffn' matches none of 4 names"):
    rules.assign([('ffn', 1)], NAMES)


def test_a_rule_that_matches_nothing_names_the_nearest():
  with pytest.raises(ValueError, match="nearest: 'encoder/embed'"):
    rules.assign([('encoder/embd', 1)], NAMES)
  with pytest.raises(ValueError, match=r'none of 0 names; nearest: \(none\)'):
    rules.assign([('.*', 1)], [])


def test_a_rule_in_the_shadow_of_an_earlier_one():
  with pytest.raises(ValueError, match='only what earlier rules took') as error:
    rules.assign([('.*', 1), ('logits', 2)], NAMES)
  assert "'logits' went to '.*'" in str(error.value)


def test_invalid_rules():
  with pytest.raises(ValueError, match='not a regular expression'):
    rules.assign([('*up', 1)], NAMES)
  with pytest.raises(
    ValueError, match='rule 0 must be a .pattern, value. pair'
  ):
    rules.assign(['.*'], NAMES)
  with pytest.raises(ValueError, match='rule 1 must be'):
    rules.assign([('.*', 1), (2, '.*')], NAMES)


def test_first():
  pairs = [('a/b', 1), ('a/.*', 2)]
  assert rules.first(pairs, 'a/b') == 1
  assert rules.first(pairs, 'a/bc') == 2
  assert rules.first(pairs, 'xa/b') is None
