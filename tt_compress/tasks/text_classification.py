"""Classification of texts by a model of their words."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from flax import nnx
from jaxtyping import Array, Float

from tt_compress.data import batching, labeled_text, sequences, token_files
from tt_compress.nn import dropout, modules
from tt_compress.parallel import evaluation
from tt_compress.tasks import base, classification, run_vocabulary

CUTS = ('begin', 'end')


class TextClassification(classification.Classification):
  """A task that predicts the class of a text.

  Raises:
    ValueError: a setting is out of range, or the model does not take words.
  """

  kind = 'labeled text'
  called_with = ('inputs',)
  unit = 'texts'
  inputs = ('data.vocabulary',)
  reporting = (
    *classification.Classification.reporting,
    'evaluation.class_names',
  )
  reads_lines = True

  def __init__(self, config, graphdef: nnx.GraphDef, workdir: str | None):
    super().__init__(config, graphdef, workdir)
    self._log_probabilities = evaluation.over_devices(
      self._batch_log_probabilities
    )
    if config.model.get('vocab_size') is None:
      raise ValueError(
        'task=text_classification needs a model of words, such as '
        f'text_classifier; model.name={config.model.name!r}'
      )
    self.words = run_vocabulary.RunVocabulary(
      workdir,
      lambda: self.load('train').texts,
      name=config.data.vocabulary,
      options=config.data.vocabulary_options,
      model=config.model,
    )

  @property
  def vocabularies(self) -> list[run_vocabulary.RunVocabulary]:
    return [self.words]

  @classmethod
  def defaults(cls) -> dict:
    settings = super().defaults()
    settings['data'].update(
      # A name in data.sources.SOURCES['labeled text'], and its options.
      source='labeled_text_files',
      options={},
      # Lengths that batches are padded to; longer texts are cut to the longest.
      bucket_lengths=(64, 128, 256, 400),
      # Which side of a text that is too long is left out: 'begin' or 'end'.
      cut='end',
      vocabulary='words',  # a name in data.vocabularies.VOCABULARIES
      vocabulary_options=dict(specials=('<pad>', '<unk>')),
    )
    settings['evaluation'].update(
      batch_size=256,
      # Of predictions, in the order of the classes; their numbers if empty.
      class_names=(),
    )
    return settings

  @classmethod
  def check(cls, config) -> None:
    super().check(config)
    if config.data.cut not in CUTS:
      raise ValueError(f'data.cut={config.data.cut!r} must be one of {CUTS}')
    names = config.evaluation.class_names
    if names and len(names) != config.model.num_classes:
      raise ValueError(
        f'evaluation.class_names={tuple(names)} has {len(names)} names for '
        f'model.num_classes={config.model.num_classes}; () stands for numbers'
      )

  @classmethod
  def batch_rows(cls, config) -> int:
    return config.data.batch_size * max(config.data.bucket_lengths)

  @classmethod
  def batch_shapes(
    cls, config, batch_multiple: int
  ) -> dict[str, jax.ShapeDtypeStruct]:
    longest = [[0] * max(config.data.bucket_lengths)]
    batches = batching.of_sequences(
      longest,
      {'labels': np.zeros(1, np.int32)},
      bucket_lengths=config.data.bucket_lengths,
      batch_size=config.data.batch_size,
      batch_multiple=batch_multiple,
    )
    return jax.eval_shape(lambda: batches.batch(0))

  @classmethod
  def shrink(cls, config) -> None:
    config.data.source = 'generated'
    config.data.options = dict(num_classes=config.model.num_classes)
    config.data.bucket_lengths = (20, 40)
    config.data.batch_size = min(32, config.data.batch_size)
    config.model.update(
      vocab_size=600, embed_dim=32, hidden_dim=16, dropout=0.1
    )

  def check_examples(self, examples: labeled_text.LabeledText) -> None:
    num_classes = self._config.model.num_classes
    is_outside = examples.labels >= num_classes
    if is_outside.any():
      first = int(np.argmax(is_outside))
      raise ValueError(
        f'{examples.place(first)}: label {examples.labels[first]} is outside '
        f'0 to {num_classes - 1}; {is_outside.sum()} of {len(examples)} labels '
        f'are; correct the file, or raise model.num_classes={num_classes}'
      )

  def prepare(self) -> dict:
    facts = {**super().prepare(), **self.words.facts()}
    return facts | {'share_cut': self._encoded('train')[1]}

  @functools.lru_cache(maxsize=3)  # noqa: B019 - a task lives as long as a run
  def _encoded(self, split: str) -> tuple[sequences.Ragged, float]:
    """Ids of the texts of a split, and the share of texts that are cut."""
    found = self.load(split)
    ids = token_files.encode_texts(
      found.texts, self.words.value, name=found.name, digest=found.digest
    )
    num_empty = int(np.sum(ids.lengths == 0))
    if num_empty:
      logging.warning('%s: %d texts have no words', found.name, num_empty)
    longest = max(self._config.data.bucket_lengths)
    share = float(np.mean(ids.lengths > longest))
    logging.info(
      '%s: %.1f %% of the texts are cut to %d words',
      found.name,
      100 * share,
      longest,
    )
    return self._cut(ids), share

  def _cut(self, ids: sequences.Ragged) -> sequences.Ragged:
    data = self._config.data
    longest = max(data.bucket_lengths)
    return ids.first(longest) if data.cut == 'end' else ids.last(longest)

  def batches(
    self, split: str, batch_size: int, **options: Any
  ) -> batching.Batches:
    ids, _ = self._encoded(split)
    return batching.of_sequences(
      ids,
      {'labels': self.load(split).labels},
      bucket_lengths=self._config.data.bucket_lengths,
      batch_size=batch_size,
      **options,
    )

  def logits(
    self,
    model: nnx.Module,
    batch: Mapping[str, jax.Array],
    noise: dropout.Noise | None = None,
  ) -> Float[Array, 'batch classes']:
    return model(batch['inputs'], noise)

  def evaluate(self, variables: Mapping, split: str) -> base.Scores:
    """Scores of a split, and 'share_cut', that of the texts that are cut."""
    scores = super().evaluate(variables, split)
    return scores | {'share_cut': self._encoded(split)[1]}

  def _batch_log_probabilities(
    self, variables: Mapping, batch: Mapping[str, jax.Array]
  ) -> Float[Array, 'batch classes']:
    model = modules.merge(self._graphdef, **variables)
    return jax.nn.log_softmax(self.logits(model, batch))

  def _log_probabilities_of(
    self, variables: Mapping, ids: Sequence[sequences.Ids]
  ) -> Float[np.ndarray, 'texts classes']:
    """Those of texts, in the order in which they are given."""
    config = self._config
    batches = batching.of_sequences(
      ids,
      {'texts': np.arange(len(ids))},
      bucket_lengths=config.data.bucket_lengths,
      batch_size=config.evaluation.batch_size,
      shuffle=False,
    )
    found = np.zeros((len(ids), config.model.num_classes))
    for step in range(batches.steps_per_epoch):
      batch = batches.batch(step)
      is_text = batch['weights'] > 0
      each = np.asarray(self._log_probabilities(variables, batch))
      found[batch['texts'][is_text]] = each[: len(is_text)][is_text]
    return found

  def example_losses(
    self, variables: Mapping, split: str
  ) -> Float[np.ndarray, ' examples']:
    labels = self.load(split).labels
    found = self._log_probabilities_of(variables, self._encoded(split)[0])
    return -found[np.arange(len(labels)), labels]

  def predict(
    self, variables: Mapping, lines: Sequence[str], num_best: int
  ) -> list[list[base.Answer]]:
    """The likeliest classes of every line, with their probabilities.

    The answer to a line without words is empty.
    """
    config = self._config
    ids = self._cut(sequences.Ragged.of(self.words.value.encode(lines)))
    with_words = [i for i, each in enumerate(ids) if len(each)]
    answers = [[base.Answer('', 0.0)] for _ in lines]
    if not with_words:
      return answers
    names = config.evaluation.class_names or range(config.model.num_classes)
    found = np.exp(
      self._log_probabilities_of(variables, [ids[i] for i in with_words])
    )
    for line, each in zip(with_words, found, strict=True):
      best = np.argsort(-each, kind='stable')[:num_best]
      answers[line] = [base.Answer(str(names[k]), float(each[k])) for k in best]
    return answers

  def report_answer(self, answer: base.Answer) -> str:
    """The class and its probability; empty for a line without words."""
    return answer.text and f'{answer.text}\t{answer.score:.4f}'
