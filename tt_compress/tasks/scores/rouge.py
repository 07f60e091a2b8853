"""ROUGE of summaries: by rouge-score, and by the older package rouge."""

import importlib.metadata
from collections.abc import Callable, Sequence

import numpy as np

from tt_compress import lazy
from tt_compress.tasks.scores import bleu

rouge_scorer = lazy.Module('rouge_score.rouge_scorer')

Scores = dict[str, float]

NAMES = ('rouge_1', 'rouge_2', 'rouge_l')
_OF_LIBRARY = ('rouge1', 'rouge2', 'rougeL')
_OF_PACKAGE = ('rouge-1', 'rouge-2', 'rouge-l')


def f1(summaries: Sequence[str], references: Sequence[str]) -> Scores:
  """F1 of ROUGE-1, -2 and -L and their sum, means over summaries.

    F1 = 2 P R / (P + R),  P = matches / |summary|,  R = matches / |reference|

  Matches are n-grams, each as often as both texts have it, or for ROUGE-L the
  words of the longest common subsequence. Words are runs of letters a to z and
  digits after lower-casing, without stemming. A summary without words has 0.

  Args:
    summaries: one per reference.
    references: one per summary.

  Returns:
    'rouge_1', 'rouge_2', 'rouge_l' from 0 to 100, and 'rouge_sum'.

  Raises:
    ValueError: there are no texts, or their numbers differ.

  Reference: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries"
    (2004).
  """
  _check(summaries, references)
  scorer = rouge_scorer.RougeScorer(list(_OF_LIBRARY))

  def score(summary, reference):
    found = scorer.score(reference, summary)
    return [found[name].fmeasure for name in _OF_LIBRARY]

  return _mean(summaries, references, score)


def package_f1(summaries: Sequence[str], references: Sequence[str]) -> Scores:
  """The scores of the package rouge, which the tables of word2ket have.

  An n-gram counts once, however often a text has it. Words are the lower-cased
  tokens of sacreBLEU's "13a" rules, and end at every full stop. A summary
  without words has 0, where the package raises an error.

  Args, Returns, Raises: see `f1`.

  Raises:
    ImportError: the package is missing.
  """
  _check(summaries, references)
  scorer = _package().Rouge(metrics=list(_OF_PACKAGE), stats=['f'])

  def score(summary, reference):
    if not (summary.strip(' .') and reference.strip(' .')):
      return [0.0] * len(_OF_PACKAGE)
    (found,) = scorer.get_scores(summary, reference)
    return [found[name]['f'] for name in _OF_PACKAGE]

  tokens = (
    bleu.tokenize([text.lower() for text in texts])
    for texts in (summaries, references)
  )
  return _mean(*tokens, score)


def check_package() -> None:
  """Raises ImportError if the package rouge is missing."""
  _package()


def signature() -> str:
  """The version of rouge-score, for reports."""
  return f'rouge-score {importlib.metadata.version("rouge-score")}, no stemming'


def _package():
  try:
    import rouge
  except ImportError as error:
    raise ImportError(
      'evaluation.rouge_package=True needs the package rouge; pip install '
      "'tt-compress[rouge]'"
    ) from error
  return rouge


def _mean(
  summaries: Sequence[str],
  references: Sequence[str],
  score: Callable[[str, str], list[float]],
) -> Scores:
  each = [score(*pair) for pair in zip(summaries, references, strict=True)]
  found = 100 * np.mean(each, axis=0)
  return {
    **dict(zip(NAMES, map(float, found), strict=True)),
    'rouge_sum': float(np.sum(found)),
  }


def _check(summaries: Sequence[str], references: Sequence[str]) -> None:
  if isinstance(summaries, str) or isinstance(references, str):
    raise ValueError('ROUGE takes lists of texts, not a string')
  if len(summaries) != len(references):
    raise ValueError(
      f'{len(summaries)} summaries but {len(references)} references: ROUGE '
      'needs one reference for each'
    )
  if not len(summaries):
    raise ValueError('0 summaries and 0 references: ROUGE needs at least one')
