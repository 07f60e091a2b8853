"""Translation: texts of another language, scored by BLEU."""

from collections.abc import Sequence

from tt_compress.tasks import text_pair_settings, text_pairs
from tt_compress.tasks.scores import bleu, detokenization, nearest_sentence


class Translation(text_pairs.TextPairs):
  """Translation of sentences from one language into another."""

  metrics = {'bleu': 'max', 'loss': 'min'}
  output = 'translation'
  reporting = (
    *text_pairs.TextPairs.reporting,
    'evaluation.baseline',
    'evaluation.nltk_bleu',
  )

  @classmethod
  def defaults(cls) -> dict:
    found = text_pair_settings.defaults()
    found['evaluation'] |= dict(
      # The best checkpoint has the highest 'bleu' or the lowest 'loss'.
      metric='bleu',
      # Also score the translation of the nearest training sentence.
      baseline=False,
      # Also score as the "Compressed Transformer" slides did, see scores.bleu.
      nltk_bleu=False,
      # BLEU ignores case; for text of data.vocabulary_options.normalization
      # 'nmt_nfkc_cf', which folds it.
      lowercase=False,
      # The text is tokenized as by Moses: BLEU is that of plain text, and
      # `token_bleu` that of the tokens as they are, as fairseq reports it.
      detokenize=False,
    )
    return found

  def _scores(
    self, outputs: Sequence[str], references: Sequence[str]
  ) -> dict[str, float | str]:
    """Every BLEU that the settings of the evaluation ask for."""
    evaluation, result = self._config.evaluation, {}
    case = dict(lowercase=evaluation.lowercase)
    if evaluation.detokenize:
      found = bleu.corpus_bleu(outputs, references, tokens=True, **case)
      result['token_bleu'] = found.score
      outputs, references = map(
        detokenization.detokenize, (outputs, references)
      )
    found = bleu.corpus_bleu(outputs, references, **case)
    result |= {'bleu': found.score, 'signature': found.signature}
    if evaluation.nltk_bleu:
      result['nltk_bleu'] = bleu.nltk_bleu(
        bleu.tokenize(outputs), bleu.tokenize(references)
      )
    return result

  def baselines(self) -> dict:
    """BLEU of the translation of the nearest training sentence."""
    if not self._config.evaluation.baseline:
      return {}
    train, pairs = self.load('train'), self.load('test')
    nearest = nearest_sentence.nearest_translations(
      train.source, train.target, pairs.source
    )
    score = self._scores(nearest, pairs.target)['bleu']
    return {'nearest_sentence_bleu': score}

  def progress(self, scores: dict) -> str:
    return (
      f'validation loss {scores["loss"]:.4f}  greedy BLEU {scores["bleu"]:.2f}'
    )

  def headline(self, scores: dict) -> str:
    return f'BLEU = {scores["bleu"]:.2f}'

  def _report_scores(self, scores: dict) -> list[str]:
    lines = []
    if 'token_bleu' in scores:
      lines.append(
        f'BLEU of the tokens of the text: {scores["token_bleu"]:.2f}'
      )
    if 'nltk_bleu' in scores:
      score = scores['nltk_bleu']
      lines.append(f'lower-cased, 13a tokens, 0 to 1: {score:.4f}')
    return lines

  def report_baselines(self, results: dict) -> str:
    if 'nearest_sentence_bleu' not in results:
      return ''
    score = results['nearest_sentence_bleu']
    return f'\nnearest training sentence: BLEU = {score:.2f}'
