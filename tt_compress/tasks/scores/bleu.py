"""BLEU of a translated corpus: sacreBLEU, and the score one source used."""

import collections
import math
from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu import metrics
from sacrebleu.tokenizers import tokenizer_13a


class Score(NamedTuple):
  """A score from 0 to 100 and the signature that says how it was taken."""

  score: float
  signature: str


def corpus_bleu(
  hypotheses: Sequence[str],
  references: Sequence[str],
  *,
  lowercase: bool = False,
) -> Score:
  """sacreBLEU of whole, detokenized lines against one reference each.

  Args:
    hypotheses: the translations, one line each.
    references: as many lines.
    lowercase: whether case is ignored; the signature says so.

  Raises:
    ValueError: no lines, or not the same number of them.

  Reference: Post, "A Call for Clarity in Reporting BLEU Scores" (2018).
  """
  _check(hypotheses, references)
  metric = metrics.BLEU(lowercase=lowercase)
  score = metric.corpus_score(list(hypotheses), [list(references)]).score
  return Score(score, str(metric.get_signature()))


def tokenize(lines: Sequence[str]) -> list[str]:
  """Puts spaces between the tokens of each line, by the rules called 13a."""
  tokenizer = tokenizer_13a.Tokenizer13a()
  return [tokenizer(line) for line in lines]


def nltk_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
  """BLEU from 0 to 1 as the "Compressed Transformer" slides used it.

    min(1, exp(1 - r / c)) (p_1 p_2 p_3 p_4)^(1/4)

  over lower-cased tokens, one reference a line, without smoothing: the
  `corpus_bleu` of NLTK. For comparison with that document alone; it depends
  on how the lines were tokenized.

  Args:
    hypotheses: the translations, tokens separated by spaces.
    references: as many lines, tokenized in the same way.

  Raises:
    ValueError: no lines, or not the same number of them.

  Reference: Papineni et al., "BLEU" (2002), section 2.3.
  """
  _check(hypotheses, references)
  pairs = [
    (hypothesis.lower().split(), reference.lower().split())
    for hypothesis, reference in zip(hypotheses, references, strict=True)
  ]
  precisions = [_precision(pairs, order) for order in range(1, 5)]
  if min(precisions) == 0:
    return 0.0
  produced = sum(len(hypothesis) for hypothesis, _ in pairs)
  expected = sum(len(reference) for _, reference in pairs)
  brevity = min(0.0, 1 - expected / produced)
  return math.exp(brevity + sum(map(math.log, precisions)) / 4)


def _precision(pairs, order: int) -> float:
  matches = total = 0
  for hypothesis, reference in pairs:
    found = _ngrams(hypothesis, order)
    matches += (found & _ngrams(reference, order)).total()
    # NLTK counts one for a line too short to have any n-gram.
    total += max(1, found.total())
  return matches / total


def _ngrams(tokens: list[str], order: int) -> collections.Counter:
  shifted = (tokens[start:] for start in range(order))
  return collections.Counter(zip(*shifted, strict=False))


def _check(hypotheses, references):
  if isinstance(hypotheses, str) or isinstance(references, str):
    raise ValueError('BLEU takes lists of lines, not one string')
  if len(hypotheses) != len(references):
    raise ValueError(
      f'{len(hypotheses)} hypotheses but {len(references)} references:'
      ' BLEU needs one reference for each'
    )
  if not len(hypotheses):
    raise ValueError('0 hypotheses and 0 references: BLEU needs at least one')
