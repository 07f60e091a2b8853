"""BLEU of a translated corpus: by sacreBLEU, and by the formula of NLTK."""

import collections
import math
from collections.abc import Sequence
from typing import NamedTuple

from tt_compress import lazy

metrics = lazy.Module('sacrebleu.metrics')
tokenizer_13a = lazy.Module('sacrebleu.tokenizers.tokenizer_13a')


class Score(NamedTuple):
  """BLEU.

  Attributes:
    score: from 0 to 100.
    signature: sacreBLEU's record of tokenization, smoothing and version.
  """

  score: float
  signature: str


def corpus_bleu(
  hypotheses: Sequence[str],
  references: Sequence[str],
  *,
  lowercase: bool = False,
  tokens: bool = False,
) -> Score:
  """sacreBLEU with one reference per line.

  Args:
    hypotheses: translations, one per line.
    references: one per hypothesis.
    lowercase: whether case is ignored; the signature records it.
    tokens: whether lines are tokens between spaces. Lines of plain text are
      tokenized by the rules "13a", which makes scores comparable.

  Raises:
    ValueError: there are no lines, or the numbers of lines differ.

  Reference: Post, "A Call for Clarity in Reporting BLEU Scores" (2018).
  """
  _check(hypotheses, references)
  metric = metrics.BLEU(
    lowercase=lowercase, tokenize='none' if tokens else '13a', force=tokens
  )
  score = metric.corpus_score(list(hypotheses), [list(references)]).score
  return Score(score, str(metric.get_signature()))


def tokenize(lines: Sequence[str]) -> list[str]:
  """Separates the tokens of each line by spaces; sacreBLEU's "13a" rules."""
  tokenizer = tokenizer_13a.Tokenizer13a()
  return [tokenizer(line) for line in lines]


def nltk_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
  """BLEU from 0 to 1 as the "Compressed Transformer" slides report it.

    min(1, exp(1 - r / c)) (p_1 p_2 p_3 p_4)^(1/4)

  with n-gram precisions p_n, and r tokens of the references and c of the
  hypotheses, lower-cased and without smoothing: the `corpus_bleu` of NLTK. Use
  it only for comparison with the slides, since it depends on tokenization.

  Args:
    hypotheses: translations, tokens separated by spaces.
    references: one per hypothesis, tokenized in the same way.

  Raises:
    ValueError: there are no lines, or the numbers of lines differ.

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


def _precision(
  pairs: Sequence[tuple[list[str], list[str]]], order: int
) -> float:
  matches = total = 0
  for hypothesis, reference in pairs:
    found = _ngrams(hypothesis, order)
    matches += (found & _ngrams(reference, order)).total()
    # NLTK counts 1 n-gram for a line too short to have any.
    total += max(1, found.total())
  return matches / total


def _ngrams(tokens: list[str], order: int) -> collections.Counter:
  shifted = (tokens[start:] for start in range(order))
  return collections.Counter(zip(*shifted, strict=False))


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
  if isinstance(hypotheses, str) or isinstance(references, str):
    raise ValueError('BLEU takes lists of lines, not a string')
  if len(hypotheses) != len(references):
    raise ValueError(
      f'{len(hypotheses)} hypotheses but {len(references)} references:'
      ' BLEU needs one reference for each'
    )
  if not len(hypotheses):
    raise ValueError('0 hypotheses and 0 references: BLEU needs at least one')
