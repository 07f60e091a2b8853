"""Summarization: a headline for a text, scored by ROUGE."""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from absl import logging

from tt_compress.data import sequences
from tt_compress.tasks import text_pair_settings, text_pairs
from tt_compress.tasks.scores import rouge

# An unknown word is wrong, also where a reference has one: Gigaword of TFDS has
# UNK in place of rare words.
_UNKNOWN = re.compile(r'<unk>|\bunk\b', re.IGNORECASE)
_WRONG = 'unknownword'
# Numbers of words of which the best one on validation makes the lead baseline.
_LEADS = (4, 6, 8, 10, 12, 16, 24, 32)


class Summarization(text_pairs.TextPairs):
  """Headlines of texts, of which the model reads the beginning.

  Two baselines need no training: 'copy' repeats the text, 'lead' its first
  words, as many as are best on validation.
  """

  metrics = {'rouge_sum': 'max', 'loss': 'min'}
  output = 'summary'
  reporting = (*text_pairs.TextPairs.reporting, 'evaluation.rouge_package')

  @classmethod
  def defaults(cls) -> dict:
    found = text_pair_settings.defaults()
    found['data'] |= dict(
      # A source is cut to the longest of them.
      bucket_lengths=(32, 64, 96),
      target_length=16,
      vocabulary='words',
      vocabulary_options=dict(lower_case=True, tokenizer='13a'),
      joint_vocabulary=False,
    )
    found['model'] |= dict(source_vocab_size=30_000, vocab_size=30_000)
    found['label_smoothing'] = 0.0
    found['evaluation'] |= dict(
      beam_size=5,
      length_penalty=0.0,
      # A summary has at most 60 tokens.
      max_ratio=0.0,
      max_extra=60,
      # The best checkpoint has the highest 'rouge_sum', that of ROUGE-1, -2 and
      # -L, or the lowest 'loss'.
      metric='rouge_sum',
      # Also score by the package rouge, as the tables of word2ket do, see
      # scores.rouge.
      rouge_package=False,
    )
    return found

  @classmethod
  def shrink(cls, config) -> None:
    text_pair_settings.shrink(config)
    config.data.source = 'embedded_headlines'

  def prepare(self) -> dict:
    if self._config.evaluation.rouge_package:
      rouge.check_package()
    return super().prepare()

  def _read_part(self, texts: sequences.Ragged) -> sequences.Ragged:
    """The beginnings of texts; the share that is cut is logged."""
    share = self._share_cut(texts)
    if share:
      logging.info(
        'cut %.1f %% of %d texts after %d tokens, the longest of '
        'data.bucket_lengths without the end',
        100 * share,
        len(texts),
        self._longest(),
      )
    return texts.first(self._longest())

  def _share_cut(self, texts: Sequence[sequences.Ids]) -> float:
    lengths = sequences.lengths(texts)
    # There are none where all lines are blank.
    return float(np.sum(lengths > self._longest())) / max(1, len(lengths))

  def _scores(
    self, outputs: Sequence[str], references: Sequence[str]
  ) -> dict[str, float | str]:
    """ROUGE; summaries without words are counted in 'num_empty'."""
    outputs = _without_unknown(outputs)
    result = {
      **rouge.f1(outputs, references),
      'signature': rouge.signature(),
      'num_empty': sum(not text.strip() for text in outputs),
    }
    if self._config.evaluation.rouge_package:
      result['package'] = rouge.package_f1(outputs, references)
    return result

  def evaluate(
    self,
    variables: Mapping,
    split: str,
    *,
    max_sentences: int | None = None,
    beam_size: int | None = None,
  ) -> dict:
    """See `TextPairs.evaluate`.

    Returns:
      Also, if all of the split is decoded: the scores of 'greedy' search and of
      the baselines 'copy' and 'lead', and 'share_cut', that of the texts that
      are longer than what the model reads.
    """
    found = super().evaluate(
      variables, split, max_sentences=max_sentences, beam_size=beam_size
    )
    if max_sentences is not None:
      return found
    source, target = self._picked(split, None)
    greedy = self.generate(variables, source, beam_size=1)
    found['greedy'] = self._scores([best[0].text for best in greedy], target)
    found['share_cut'] = self._share_cut(self.source.value.encode(source))
    return found | self._baselines(source, target)

  def _baselines(
    self, source: Sequence[str], target: Sequence[str]
  ) -> dict[str, dict[str, float]]:
    number = self._lead_words()
    lead = rouge.f1(_leads(source, number), target)
    return {
      'copy': rouge.f1(_without_unknown(source), target),
      'lead': {'num_words': number, **lead},
    }

  def _lead_words(self) -> int:
    """The number of first words that makes the best summaries."""
    source, target = self._picked(
      'validation', self._config.evaluation.max_sentences
    )
    score = lambda number: rouge.f1(_leads(source, number), target)['rouge_sum']
    return max(_LEADS, key=score)

  def progress(self, scores: dict) -> str:
    return (
      f'validation loss {scores["loss"]:.4f}  greedy ROUGE-1 + 2 + L '
      f'{scores["rouge_sum"]:.2f}'
    )

  def headline(self, scores: dict) -> str:
    return f'ROUGE-1, 2, L = {_shown(scores)}'

  def _report_scores(self, scores: dict) -> list[str]:
    lines = []
    if scores.get('share_cut'):
      lines.append(f'{scores["share_cut"]:.1%} of the texts are cut')
    if scores['num_empty']:
      lines.append(f'{scores["num_empty"]} summaries without words')
    if 'lead' in scores:
      number = scores['lead']['num_words']
      lines += [
        f'copy of the text: {_shown(scores["copy"])}',
        f'lead, its first {number} words: {_shown(scores["lead"])}',
        f'greedy: {_shown(scores["greedy"])}',
      ]
    if 'package' in scores:
      lines.append(f'by the package rouge: {_shown(scores["package"])}')
    return lines


def _leads(texts: Sequence[str], number: int) -> list[str]:
  """The first words of each text."""
  return _without_unknown(' '.join(text.split()[:number]) for text in texts)


def _without_unknown(texts: Iterable[str]) -> list[str]:
  """Texts with a word that no reference has for each unknown one."""
  return [_UNKNOWN.sub(_WRONG, text) for text in texts]


def _shown(scores: Mapping[str, float]) -> str:
  return ', '.join(f'{scores[name]:.2f}' for name in rouge.NAMES)
