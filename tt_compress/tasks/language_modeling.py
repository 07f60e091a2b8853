"""Language modeling: pieces of a running text, loss and perplexity."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int32

from tt_compress.data import batching, token_files, token_streams, vocabulary
from tt_compress.nn import dropout, modules
from tt_compress.parallel import evaluation
from tt_compress.tasks import base, language_settings, run_vocabulary
from tt_compress.tasks.decoding import sampler


class LanguageModeling(base.Task):
  """Prediction of the next token in a text.

  A model without memory reads independent windows: the first token of a window
  predicts the second one without the text before. A model with memory, whose
  options have `memory_shapes`, reads contiguous streams, a segment per step,
  and its memory is the carry.

  Attributes:
    tokens: vocabulary of the text.
  """

  kind = 'token streams'
  called_with = ('inputs',)
  unit = 'tokens'
  reporting = (
    'evaluation.batch_size',
    'evaluation.window',
    'evaluation.memory_length',
    'evaluation.clamp_length',
    'evaluation.same_length',
    'evaluation.final_tokens',
  )
  inputs = ('data.vocabulary',)
  reads_lines = True
  distills = True

  defaults = staticmethod(language_settings.defaults)
  shrink = staticmethod(language_settings.shrink)
  batch_shapes = staticmethod(language_settings.batch_shapes)

  def __init__(self, config, graphdef: nnx.GraphDef, workdir: str | None):
    super().__init__(config, graphdef, workdir)
    self.tokens = run_vocabulary.RunVocabulary(
      workdir,
      lambda: self.load('train'),
      name=config.data.vocabulary,
      options=config.data.vocabulary_options,
      model=config.model,
      is_padded=False,
    )
    self._has_memory = language_settings.has_memory(config)
    self._sums = evaluation.fold(self._batch_sums)
    self._losses = evaluation.in_order(self._piece_losses)
    self._reading = language_settings.reading(config)
    self._sampler = sampler.Sampler(
      graphdef,
      config.sampling,
      max_length=config.model.get('max_length'),
      memory={
        'memory_length': config.evaluation.memory_length,
        **self._reading,
      },
    )

  @classmethod
  def batch_rows(cls, config) -> int:
    return config.data.batch_size * config.data.window

  @classmethod
  def carry_shapes(cls, config) -> dict[str, Any]:
    return language_settings.memory_shapes(config, config.data.batch_size)

  @classmethod
  def check(cls, config) -> None:
    super().check(config)
    language_settings.check(config)

  def prepare(self) -> dict:
    for split in ('validation', 'test'):
      self._split_batches(split, None)
    return {
      'num_tokens': self.num_examples,
      'train_sha256': self.load('train').digest,
      **self.tokens.facts(),
    }

  @property
  def vocabularies(self) -> list[run_vocabulary.RunVocabulary]:
    return [self.tokens]

  def _batches(
    self, split: str, group: str, order: Mapping[str, Any], **options: Any
  ) -> batching.Batches:
    """Windows of a split in an order, or streams for a model with memory.

    Their sizes are settings of the group 'data' or 'evaluation'.
    """
    config, cut = self._config, token_streams.windows
    if self._has_memory:
      cut, order = token_streams.batches, {}
    batch_size = config[group].batch_size
    of_window = 'data' if config[group].window is None else group
    length = config[of_window].window
    ids = self._ids(split)
    try:
      return cut(ids, batch_size=batch_size, length=length, **order, **options)
    except ValueError as error:
      raise ValueError(
        f'{split} split, {group}.batch_size={batch_size}, '
        f'{of_window}.window={length}: {error}'
      ) from error

  def _ids(self, split: str) -> Int32[np.ndarray, ' ids']:
    return token_files.encode(self.load(split), self.tokens.value)

  def train_batches(self, **share: int) -> batching.Batches:
    """Windows of the training text in random order, or streams.

    Args:
      **share: `batch_multiple`, `process_index`, `process_count` of `Batches`.
    """
    order = {'seed': self._config.seed}
    return self._batches('train', 'data', order, **share)

  @functools.lru_cache(maxsize=4)  # noqa: B019 - a task lives as long as a run
  def _split_batches(
    self, split: str, max_tokens: int | None
  ) -> batching.Batches:
    """Windows or streams of a split in order, those that are scored."""
    order = {'shuffle': False}
    return self._batches(split, 'evaluation', order, max_tokens=max_tokens)

  @functools.cached_property
  def num_examples(self) -> int:
    """Tokens of the training text that are predicted, ends included."""
    return len(self._ids('train')) - 1

  def loss(
    self,
    model: nnx.Module,
    batch: Mapping[str, jax.Array],
    noise: dropout.Noise | None = None,
    carry: Any = None,
  ) -> tuple[jax.Array, jax.Array, Any]:
    """Sum of the loss over tokens, their number, and the carry.

    Args:
      model: has `features` of tokens, or with memory `read`, and the
        `cross_entropy` of the result, as a `TokenModel`.
      batch: see `token_streams.windows` and `token_streams.batches`.
      noise: keys of the dropout; None means deterministic.
      carry: the memory of the model; empty without one.
    """
    x, carry = self._read(model, batch, carry, noise)
    total = model.cross_entropy(
      x, batch['targets'], batch['weights'], noise=noise
    )
    return total, jnp.sum(batch['weights']), carry

  def _read(self, model, batch, memory, noise=None, **options):
    """What the model predicts targets by, and its memory after the batch."""
    if not self._has_memory:
      return model.features(batch['inputs'], noise=noise), memory

    def forget(a):
      starts = batch['starts'].reshape(-1, *[1] * (a.ndim - 1))
      return jnp.where(starts, jnp.zeros_like(a), a)

    memory = jax.tree.map(forget, memory)
    x, memory = model.read(batch['inputs'], memory, noise, **options)
    return x, jax.lax.stop_gradient(memory)

  def _batch_sums(
    self, variables: Mapping, memory: Any, batch: Mapping[str, jax.Array]
  ) -> tuple[dict[str, jax.Array], Any]:
    """Sums over the targets of a batch, and the memory."""
    model = modules.merge(self._graphdef, **variables)
    x, memory = self._read(model, batch, memory, **self._reading)
    scored = x, batch['targets'], batch['weights']
    sums = {'tokens': jnp.sum(batch['weights'])}
    if self._config.model.get('cutoffs'):
      losses, tokens = model.cluster_losses(*scored)
      sums |= {'cluster_losses': losses, 'cluster_tokens': tokens}
      return sums | {'loss': jnp.sum(losses)}, memory
    return sums | {'loss': model.cross_entropy(*scored)}, memory

  def _piece_losses(
    self, variables: Mapping, memory: Any, batch: Mapping[str, jax.Array]
  ) -> tuple[tuple[jax.Array, jax.Array], Any]:
    """The loss and the number of targets of every piece, and the memory."""
    model = modules.merge(self._graphdef, **variables)
    x, memory = self._read(model, batch, memory, **self._reading)
    weights = batch['weights']
    # The loss of a token is the gradient of their sum by its weight.
    losses = jax.grad(
      lambda weights: model.cross_entropy(x, batch['targets'], weights)
    )(weights)
    return (jnp.sum(losses * weights, -1), jnp.sum(weights, -1)), memory

  def _inputs(
    self, variables: Mapping, split: str, max_tokens: int | None
  ) -> tuple[Mapping, Any, Iterator[Mapping[str, np.ndarray]]]:
    """Arrays, an empty memory and the batches of a split that are scored."""
    batches = self._split_batches(split, max_tokens)
    scored = self._config.evaluation
    shapes = language_settings.memory_shapes(
      self._config, scored.batch_size, scored.memory_length
    )
    memory = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
    numbers = range(batches.steps_per_epoch)
    return variables, memory, map(batches.batch, numbers)

  def _scores(
    self, variables: Mapping, split: str, max_tokens: int | None
  ) -> base.Scores:
    config = self._config
    sums = self._sums(*self._inputs(variables, split, max_tokens))
    scores = {'loss': float(sums['loss'] / sums['tokens'])}
    scores['perplexity'] = _perplexity(sums['loss'], sums['tokens'])
    if 'cluster_losses' in sums:
      pairs = zip(sums['cluster_losses'], sums['cluster_tokens'], strict=True)
      scores['cluster_perplexity'] = {
        str(k): _perplexity(loss, tokens) if tokens else None
        for k, (loss, tokens) in enumerate(pairs)
      }
    if config.data.vocabulary == 'bytes':
      scores['bits_per_byte'] = scores['loss'] / math.log(2)
    if config.data.vocabulary != 'words':
      stream = self.load(split)
      has_ends = self.tokens.value.eos_id is not None
      num_words = stream.num_words - (0 if has_ends else len(stream))
      # The first token is no target, nor is the first word.
      num_words = max(1, num_words - 1)
      num_ids = len(self._ids(split)) - 1
      scores['word_perplexity'] = _perplexity(
        scores['loss'] * num_ids, num_words
      )
    name = self.load(split).name
    return {**scores, 'num_tokens': int(sums['tokens']), 'data': name}

  def validate(self, variables: Mapping) -> dict[str, float]:
    max_tokens = self._config.evaluation.max_tokens
    scores = self._scores(variables, 'validation', max_tokens)
    return {name: scores[name] for name in ('loss', 'perplexity')}

  def evaluate(self, variables: Mapping, split: str) -> base.Scores:
    """Scores of a split.

    Returns:
      'loss' (nats per token), 'perplexity' (its exponential), 'num_tokens'
      that were scored, and 'data', the name of the data. With an adaptive
      softmax, 'cluster_perplexity' of the tokens of each cluster by its number,
      None where there are none. If tokens are no words, 'word_perplexity',
      normalized by the words between spaces and the ends of lines, if these are
      tokens; if tokens are bytes, 'bits_per_byte'.
    """
    return self._scores(variables, split, self._config.evaluation.final_tokens)

  def example_losses(
    self, variables: Mapping, split: str
  ) -> Float[np.ndarray, ' pieces']:
    """The losses of the windows or segments that the final evaluation scores.

    Pieces are in the order in which they are read. Each is the sum of the
    losses of its targets, divided by the mean number of targets of a piece, so
    that the mean is the loss per token.
    """
    most = self._config.evaluation.final_tokens
    found = self._losses(*self._inputs(variables, split, most))
    losses, targets = np.concatenate(found, axis=1, dtype=np.float64)
    # The last streams may end early, and devices add examples of padding.
    return (losses / targets.mean(where=targets > 0))[targets > 0]

  def check_lines(self) -> None:
    super().check_lines()
    self._sampler.check()
    language_settings.check_lines(self._config)

  def predict(
    self, variables: Mapping, lines: Sequence[str], num_best: int
  ) -> list[list[base.Answer]]:
    """Every line with the samples that continue it, and their scores.

    A line begins after the end of the line before, as in the text that the
    model was trained on, and a sample ends with the line. The score is the
    log-probability of the sample. A line without tokens stays empty if the
    vocabulary has no end of a line. Words that the vocabulary lacks are in the
    answer as they are in the line.
    """
    words = self.tokens.value
    begin = [] if words.eos_id is None else [words.eos_id]
    encoded = words.encode(lines)
    texts = [np.array([*begin, *ids], np.int32) for ids in encoded]
    found = self._sampler(
      variables,
      texts,
      num_best,
      eos_id=words.eos_id,
      never=tuple({words.pad_id, words.bos_id} - {None, words.eos_id}),
      num_ids=len(words),
    )
    return [
      [
        base.Answer(_continued(words, line, ids, new), score)
        for new, score in each
      ]
      for line, ids, each in zip(lines, encoded, found, strict=True)
    ]

  def headline(self, scores: base.Scores) -> str:
    if 'bits_per_byte' in scores:
      return f'bits per byte = {scores["bits_per_byte"]:.4f}'
    return f'perplexity = {scores["perplexity"]:.2f}'

  def report(self, split: str, scores: base.Scores) -> str:
    lines = [
      f'\n{split} loss {scores["loss"]:.4f} nats per token  '
      f'{scores["num_tokens"]:,} tokens, {scores["data"]}'
    ]
    if 'cluster_perplexity' in scores:
      found = '  '.join(
        '-' if perplexity is None else f'{perplexity:,.2f}'
        for perplexity in scores['cluster_perplexity'].values()
      )
      lines.append(f'perplexity by cluster, frequent words first: {found}')
    if 'word_perplexity' in scores:
      lines.append(
        f'perplexity per word {scores["word_perplexity"]:,.2f}, normalized by '
        'words between spaces and by the ends of lines that are tokens'
      )
    return '\n'.join([*lines, self.headline(scores)])


def _continued(
  words: vocabulary.Vocabulary,
  line: str,
  ids: Sequence[int],
  new: Sequence[int],
) -> str:
  """A line and the ids that continue its ids, as text."""
  start, text = words.decode(ids), words.decode([*ids, *new])
  if not text.startswith(start):
    return text
  return line + text.removeprefix(start)


def _perplexity(loss: float, tokens: float) -> float:
  """exp(loss / tokens), infinite if that is too large."""
  with np.errstate(over='ignore'):
    return float(np.exp(np.float64(loss) / tokens))
