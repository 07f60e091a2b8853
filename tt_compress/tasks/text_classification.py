"""Classification of texts by a model of their words."""

import functools
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from flax import nnx
from jaxtyping import Array, Float, Int32

from tt_compress.data import batching, encoded, labeled_text
from tt_compress.nn import dropout
from tt_compress.tasks import base, classification, run_vocabulary

CUTS = ('begin', 'end')


class TextClassification(classification.Classification):
  """A task that predicts the class of a text.

  Raises:
    ValueError: a setting is out of range, or the model does not take words.
  """

  kind = 'labeled text'
  unit = 'texts'
  inputs = ('data.vocabulary',)

  def __init__(self, config, graphdef: nnx.GraphDef, workdir: str | None):
    super().__init__(config, graphdef, workdir)
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
    settings['evaluation']['batch_size'] = 256
    return settings

  @classmethod
  def check(cls, config) -> None:
    super().check(config)
    if config.data.cut not in CUTS:
      raise ValueError(f'data.cut={config.data.cut!r} must be one of {CUTS}')

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
    if examples.labels.max() >= num_classes:
      raise ValueError(
        f'{examples.name}: label {examples.labels.max()} needs more classes '
        f'than model.num_classes={num_classes}'
      )

  def prepare(self) -> dict:
    facts = {**super().prepare(), **self.words.facts()}
    return facts | {'share_cut': self._encoded('train')[1]}

  @functools.lru_cache(maxsize=3)  # noqa: B019 - a task lives as long as a run
  def _encoded(self, split: str) -> tuple[list[Int32[Array, ' ids']], float]:
    """Ids of the texts of a split, and the share of texts that are cut."""
    data, found = self._config.data, self.load(split)
    ids = encoded.encode(
      self.words.value,
      found.texts,
      digest=found.digest,
      cache_dir=os.path.join(os.path.dirname(run_vocabulary.CACHE), 'encoded'),
    )
    num_empty = sum(len(each) == 0 for each in ids)
    if num_empty:
      logging.warning('%s: %d texts have no words', found.name, num_empty)
    longest = max(data.bucket_lengths)
    kept = slice(longest) if data.cut == 'end' else slice(-longest, None)
    share = math.fsum(len(each) > longest for each in ids) / len(ids)
    logging.info(
      '%s: %.1f %% of the texts are cut to %d words',
      found.name,
      100 * share,
      longest,
    )
    return [each[kept] for each in ids], share

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
