"""BLEU against figures worked out by hand and against NLTK."""

import math
import random
import warnings

import pytest
import sacrebleu

from tt_compress.tasks.scores import bleu

REFERENCES = ['The cat sat on the mat .', 'A dog runs in the green park .']


def test_perfect_translations_score_the_maximum():
  score, signature = bleu.corpus_bleu(REFERENCES, REFERENCES)
  assert score == pytest.approx(100)
  assert signature == (
    'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|'
    f'version:{sacrebleu.__version__}'
  )
  assert bleu.nltk_bleu(REFERENCES, REFERENCES) == pytest.approx(1)


def test_a_score_worked_out_by_hand():
  # 5 of 5 words, 3 of 4 pairs, 1 of 3 triples, 0 quadruples for a reference
  # of 5: exponential smoothing takes half of 1 of 2 quadruples.
  hypothesis, reference = ['a b c e d'], ['a b c d e']
  expected = 100 * (5 / 5 * 2 / 4 * 1 / 3 * 0.5 / 2) ** 0.25
  assert bleu.corpus_bleu(hypothesis, reference).score == pytest.approx(
    expected
  )
  assert bleu.nltk_bleu(hypothesis, reference) == 0


def test_short_translations_pay_for_it():
  hypothesis, reference = ['a b c d'], ['a b c d e f']
  assert bleu.nltk_bleu(hypothesis, reference) == pytest.approx(
    math.exp(1 - 6 / 4)
  )


def test_case_counts_unless_it_is_told_not_to():
  lines = [line.lower() for line in REFERENCES]
  assert bleu.corpus_bleu(lines, REFERENCES).score < 95
  score, signature = bleu.corpus_bleu(lines, REFERENCES, lowercase=True)
  assert score == pytest.approx(100)
  assert 'case:lc' in signature
  assert bleu.nltk_bleu(lines, REFERENCES) == pytest.approx(1)


def test_tokens_are_those_between_spaces():
  lines = [
    line.replace(' .', ' .,').replace('on', '&apos;') for line in REFERENCES
  ]
  references = [line.replace('on', '&apos;') for line in REFERENCES]
  plain, tokens = (
    bleu.corpus_bleu(lines, references, tokens=tokens)
    for tokens in (False, True)
  )
  assert 'tok:none' in tokens.signature
  # The last of 7 and of 8 tokens differs; by 13a, there is one more after 7.
  counts = [(13, 15), (11, 13), (9, 11), (7, 9)]
  expected = math.prod(n / total for n, total in counts) ** 0.25
  assert tokens.score == pytest.approx(100 * expected)
  assert plain.score > tokens.score


def test_equals_nltk_on_random_corpora():
  translate = pytest.importorskip('nltk.translate.bleu_score')
  random.seed(0)
  words = 'A a b B c D'.split()
  for _ in range(20):
    lines = [
      [random.choices(words, k=random.randint(1, 9)) for _ in range(12)]
      for _ in range(2)
    ]
    hypotheses, references = [[' '.join(s) for s in side] for side in lines]
    lowered = [[[w.lower() for w in s] for s in side] for side in lines]
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # NLTK warns about scores of 0
      expected = translate.corpus_bleu([[r] for r in lowered[1]], lowered[0])
    assert bleu.nltk_bleu(hypotheses, references) == pytest.approx(
      expected, abs=1e-12
    )


@pytest.mark.parametrize('metric', [bleu.corpus_bleu, bleu.nltk_bleu])
@pytest.mark.parametrize(
  'hypotheses, references, message',
  [
    (['a', 'b'], ['a'], '2 hypotheses but 1 references'),
    ([], [], '0 hypotheses and 0 references'),
    ('ab', ['a', 'b'], 'lists of lines'),
  ],
)
def test_bad_input_is_named(metric, hypotheses, references, message):
  with pytest.raises(ValueError, match=message):
    metric(hypotheses, references)


def test_empty_translations_are_scored_not_refused():
  assert bleu.corpus_bleu(['', ''], REFERENCES).score == 0
  assert bleu.nltk_bleu(['', ''], REFERENCES) == 0
