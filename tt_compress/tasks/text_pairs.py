"""Texts from texts: batches, loss, decoding and evaluation."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import nnx
from jaxtyping import Int

from tt_compress.data import (
  batching,
  corpus,
  filters,
  sequences,
  token_files,
)
from tt_compress.nn import dropout, modules
from tt_compress.parallel import evaluation
from tt_compress.tasks import base, losses, run_vocabulary, text_pair_settings
from tt_compress.tasks.decoding import decoder


class TextPairs(base.Task):
  """The ground of tasks whose model writes a text for each text that it reads.

  A task adds the scores of its outputs: `metrics`, `_scores`, `progress`,
  `headline`.

  Attributes:
    output: name of an output in reports.
    source: vocabulary of the texts that are read.
    target: vocabulary of the outputs; the same object if both sides share it.

  Raises:
    ValueError: label smoothing is out of range, or the model does not take
      sentences.
  """

  kind = 'pairs'
  called_with = ('inputs', 'targets')
  unit = 'tokens'
  output: ClassVar[str] = 'output'
  reporting = (
    'data.options.test',
    'data.options.files.test',
    'evaluation.batch_size',
    'evaluation.beam_size',
    'evaluation.expand_bytes',
    'evaluation.length_penalty',
    'evaluation.num_samples',
    'evaluation.timed',
    'evaluation.train_loss',
  )
  # Ids mean what they meant in the run that this one starts from.
  inputs = ('data.vocabulary', 'data.joint_vocabulary')
  reads_lines = True
  distills = True
  shrink = staticmethod(text_pair_settings.shrink)
  batch_shapes = staticmethod(text_pair_settings.batch_shapes)

  def __init__(self, config, graphdef: nnx.GraphDef, workdir: str | None):
    super().__init__(config, graphdef, workdir)
    losses.check_smoothing(config.label_smoothing)
    if config.model.get('vocab_size') is None:
      raise ValueError(
        f'task={config.task} needs a model of sentences, such as transformer; '
        f'model.name={config.model.name!r}'
      )
    make = lambda lines, prefix='': run_vocabulary.RunVocabulary(
      workdir,
      lines,
      name=config.data.vocabulary,
      options=text_pair_settings.vocabulary_options(config),
      model=config.model,
      prefix=prefix,
    )
    sides = lambda *sides: corpus.Sentences(self.load('train'), sides)
    if config.data.joint_vocabulary:
      self.target = make(lambda: sides(0, 1))
      self.source = self.target
    else:
      self.target = make(lambda: sides(1))
      self.source = make(lambda: sides(0), 'source_')
    self._loss = evaluation.over_devices(self._batch_loss)
    self._decoder = decoder.Decoder(graphdef, config.evaluation)

  @classmethod
  def batch_rows(cls, config) -> int:
    return config.data.batch_tokens

  @classmethod
  def check(cls, config) -> None:
    super().check(config)
    text_pair_settings.check(config)

  def prepare(self) -> dict:
    for side in self.vocabularies:
      if side.value.eos_id != corpus.EOS_ID:
        raise ValueError(
          f'task={self._config.task} needs an end-of-sentence token of id '
          f'{corpus.EOS_ID}, but that of '
          f'data.vocabulary={self._config.data.vocabulary!r} has '
          f"id {side.value.eos_id}; take 'sentencepiece', or 'words' with "
          'specials left out of data.vocabulary_options, or all of them listed'
        )
    for split in ('validation', 'test'):
      self._split_batches(split)
    facts = {
      'num_pairs': len(self.load('train')),
      'train_sha256': self.load('train').digest,
    }
    for side in self.vocabularies:
      facts |= side.facts()
    return facts

  @property
  def vocabularies(self) -> list[run_vocabulary.RunVocabulary]:
    is_joint = self.source is self.target
    return [self.target] if is_joint else [self.source, self.target]

  def _source_ids(self, lines: Sequence[str]) -> sequences.Ragged:
    """What the model reads of source texts."""
    return self._read_part(sequences.Ragged.of(self.source.value.encode(lines)))

  def _read_part(self, texts: sequences.Ragged) -> sequences.Ragged:
    """The part of encoded source texts that the model reads."""
    return texts

  def _encoded(
    self, split: str, **limits: float | None
  ) -> tuple[sequences.Ragged, sequences.Ragged, Int[np.ndarray, ' kept']]:
    """Token ids of the pairs, and which are within the limits."""
    pairs = self.load(split)
    source, target = token_files.encode_pairs(
      pairs, [self.source.value, self.target.value]
    )
    source = self._read_part(source)
    if split != 'train':  # All of its texts are decoded.
      self._check_longest(source, lambda i: f'{pairs.name}: pair {i + 1}')
    kept, counts = filters.keep(
      source, target, max_target_length=self._longest_target(), **limits
    )
    logging.info('%s: %s', pairs.name, filters.report(counts, len(source)))
    return source, target, kept

  def train_batches(self, **share: int) -> batching.Batches:
    """Shuffled batches of the training pairs within the limits.

    Args:
      **share: `batch_multiple`, `process_index`, `process_count` of `Batches`.
    """
    data = self._config.data
    source, target, kept = self._encoded(
      'train',
      min_length=data.min_length,
      max_length=min(self._longest(), data.max_length or self._longest()),
      max_difference=data.max_difference,
      max_ratio=data.max_ratio,
    )
    batches = batching.of_pairs(
      source,
      target,
      bucket_lengths=data.bucket_lengths,
      target_length=data.target_length,
      batch_tokens=data.batch_tokens,
      members=kept,
      seed=self._config.seed,
      **share,
    )
    # Otherwise counting would encode all pairs a second time.
    self.num_examples = batches.num_ids('targets')
    return batches

  @functools.cached_property
  def num_examples(self) -> int:
    """Target tokens per epoch, ends of sentences included."""
    return self.train_batches().num_ids('targets')

  def _check_longest(
    self, texts: Sequence[sequences.Ids], name: Callable[[int], str]
  ) -> None:
    """Refuses a text whose decoding would fill the memory."""
    multiple = sequences.MAX_BUCKETS * max(self._config.data.bucket_lengths)
    most = max(sequences.MAX_DECODED, multiple)
    for i, ids in enumerate(texts):
      if len(ids) > most:
        raise ValueError(
          f'{name(i)} has {len(ids)} tokens; texts of at most {most} are '
          f'decoded, or {sequences.MAX_BUCKETS} times the longest of '
          'data.bucket_lengths if that is more; cut it into sentences'
        )

  def _longest(self) -> int:
    """Tokens of the longest text in a batch, without its end."""
    return max(self._config.data.bucket_lengths) - 1

  def _longest_target(self) -> int | None:
    """Tokens of the longest target, without its end; None if as `_longest`."""
    length = self._config.data.target_length
    return None if length is None else length - 1

  @functools.lru_cache(maxsize=3)  # noqa: B019 - a task lives as long as a run
  def _split_batches(self, split: str) -> batching.Batches:
    """Batches of a split in order, as large as those of decoding."""
    lengths = self._config.data.bucket_lengths
    source, target, kept = self._encoded(
      split,
      min_length=None,
      max_length=self._longest(),
      max_difference=None,
      max_ratio=None,
    )
    return batching.of_pairs(
      source,
      target,
      bucket_lengths=lengths,
      target_length=self._config.data.target_length,
      batch_tokens=self._config.evaluation.batch_size * max(lengths),
      members=kept,
      shuffle=False,
    )

  def loss(
    self,
    model: nnx.Module,
    batch: Mapping[str, jax.Array],
    noise: dropout.Noise | None = None,
    carry: Any = None,
    smoothing: float | None = None,
  ) -> tuple[jax.Array, jax.Array, Any]:
    """Sum of the loss over target tokens, their number, and the carry.

    Args:
      model: has `features` and their `cross_entropy`, as a Transformer.
      batch: 'inputs' and 'targets', int32 [batch, length].
      noise: keys of the dropout; None means deterministic.
      carry: returned unchanged; sentences are independent.
      smoothing: label smoothing; the configured one if None.
    """
    if smoothing is None:
      smoothing = self._config.label_smoothing
    targets = batch['targets']
    begin = jnp.full_like(targets[:, :1], corpus.BOS_ID)
    decoder_inputs = jnp.concatenate([begin, targets[:, :-1]], axis=1)
    x = model.features(batch['inputs'], decoder_inputs, noise=noise)
    weights = (targets != corpus.PAD_ID).astype(jnp.float32)
    total = model.cross_entropy(
      x,
      targets,
      weights,
      noise=noise,
      smoothing=smoothing,
      blocks=self._config.logits_blocks,
    )
    return total, jnp.sum(weights), carry

  def _batch_loss(
    self, variables: Mapping, batch: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, jax.Array]:
    model = modules.merge(self._graphdef, **variables)
    total, weight, _ = self.loss(model, batch, smoothing=0.0)
    return jnp.reshape(total, 1), jnp.reshape(weight, 1)

  def generate(
    self,
    variables: Mapping,
    lines: Sequence[str],
    *,
    beam_size: int | None = None,
  ) -> list[list[base.Answer]]:
    """The n best outputs for every line, best first; n = beam_size.

    Args:
      variables: {'params': ..., 'buffers': ...}.
      lines: source texts; a blank line has an empty output.
      beam_size: of the search; None uses the configured one.
    """
    config = self._config
    beam_size = beam_size or config.evaluation.beam_size
    results = [[base.Answer('', 0.0)] for _ in lines]
    filled = [i for i, line in enumerate(lines) if line.strip()]
    encoded = self._source_ids([lines[i] for i in filled])
    self._check_longest(encoded, lambda i: f'line {filled[i] + 1}')
    search = self._decoder.searcher(
      variables, beam_size=beam_size, num_ids=len(self.target.value)
    )
    for indices, inputs in sequences.sentence_batches(
      encoded,
      bucket_lengths=config.data.bucket_lengths,
      batch_size=config.evaluation.batch_size,
    ):
      found = search(inputs)
      tokens, scores = np.asarray(found.tokens), np.asarray(found.scores)
      for row, index in enumerate(indices):
        results[filled[index]] = [
          base.Answer(self.target.value.decode(ids), float(score))
          for ids, score in zip(tokens[row], scores[row], strict=True)
          if np.isfinite(score)
        ]
    return results

  def mean_loss(self, variables: Mapping, split: str) -> float:
    """Cross-entropy per target token in nats, without label smoothing."""
    batches = self._split_batches(split)
    sums = [
      self._loss(variables, batches.batch(step))
      for step in range(batches.steps_per_epoch)
    ]
    total, weight = np.sum(
      np.asarray(jax.device_get(sums), np.float64), axis=(0, 2)
    )
    return float(total / weight)

  def _picked(
    self, split: str, max_sentences: int | None
  ) -> tuple[list[str], list[str]]:
    """Sources and targets of some pairs of a split, evenly spaced."""
    pairs = self.load(split)
    picked = range(len(pairs.source))
    if max_sentences is not None and max_sentences < len(picked):
      picked = np.linspace(0, len(picked) - 1, max_sentences).astype(int)
    return [pairs.source[i] for i in picked], [pairs.target[i] for i in picked]

  def evaluate(
    self,
    variables: Mapping,
    split: str,
    *,
    max_sentences: int | None = None,
    beam_size: int | None = None,
  ) -> dict:
    """Loss and scores of the outputs of a split.

    Args:
      variables: {'params': ..., 'buffers': ...}.
      split: 'validation' or 'test'.
      max_sentences: largest number of outputs, evenly spaced; None takes all.
      beam_size: of the search; None uses the configured one.

    Returns:
      'loss' (nats per token), the scores of the task, 'num_sentences', the name
      of the 'data', and 'samples', triples of source, output and reference;
      'seconds' of the test split if it is timed; 'train_loss' if it is asked
      for and all of the validation split is decoded.
    """
    source, target = self._picked(split, max_sentences)
    generate = functools.partial(
      self.generate, variables, source, beam_size=beam_size
    )
    outputs = [best[0].text for best in generate()]
    result = {
      'loss': self.mean_loss(variables, split),
      **self._scores(outputs, target),
      'num_sentences': len(source),
      'data': self.load(split).name,
      'beam_size': beam_size or self._config.evaluation.beam_size,
    }
    if self._config.evaluation.timed and split == 'test':
      # The first search has compiled programs and prepared matrices.
      began = time.monotonic()
      generate()
      result['seconds'] = time.monotonic() - began
    is_final = split == 'validation' and max_sentences is None
    if is_final and self._config.evaluation.train_loss:
      result['train_loss'] = self.mean_loss(variables, 'train')
    num_samples = self._config.evaluation.num_samples
    spread = np.linspace(0, len(source) - 1, num_samples).astype(int)
    result['samples'] = [[source[i], outputs[i], target[i]] for i in spread]
    return result

  def _scores(
    self, outputs: Sequence[str], references: Sequence[str]
  ) -> dict[str, float | str]:
    """All scores that the settings ask for, and the 'signature' of a score."""
    raise NotImplementedError(f'{type(self).__name__} has no _scores')

  def validate(self, variables: Mapping) -> dict[str, float]:
    """Loss, and scores of greedy outputs for some texts."""
    found = self.evaluate(
      variables,
      'validation',
      max_sentences=self._config.evaluation.max_sentences,
      beam_size=1,
    )
    return {name: found[name] for name in ('loss', *self.metrics)}

  def predict(
    self, variables: Mapping, lines: Sequence[str], num_best: int
  ) -> list[list[base.Answer]]:
    beam_size = max(num_best, self._config.evaluation.beam_size)
    found = self.generate(variables, lines, beam_size=beam_size)
    return [best[:num_best] for best in found]

  def report(self, split: str, scores: dict) -> str:
    width = max(map(len, ('reference', self.output)))
    lines = []
    for sample in scores['samples']:
      names = ('source', self.output, 'reference')
      shown = [
        f'  {name:{width}}  {text}'
        for name, text in zip(names, sample, strict=True)
      ]
      lines.append('\n' + '\n'.join(shown))
    lines.append(f'\n{split} loss {scores["loss"]:.4f}  {scores["signature"]}')
    lines += self._report_scores(scores)
    if 'seconds' in scores:
      lines.append(f'decoded again in {scores["seconds"]:.2f} seconds')
    return '\n'.join([*lines, self.headline(scores)])

  def _report_scores(self, scores: dict) -> list[str]:
    """Lines of a report about the scores of `_scores`."""
    return []
