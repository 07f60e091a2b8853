"""Continuations of texts of any length, sampled over devices."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import nnx
from jaxtyping import Int, UInt32
from ml_collections import config_dict

from tt_compress.algebra import context
from tt_compress.data import sequences
from tt_compress.nn import serving
from tt_compress.parallel import evaluation
from tt_compress.tasks.decoding import (
  extending,
  protocol,
  remembering,
  sampling,
)

_SHORTEST = 16  # tokens of the texts of a batch, padding included


def defaults() -> dict:
  """The group `sampling` of a configuration."""
  return dict(
    max_tokens=64,  # of a continuation
    temperature=1.0,  # 0 takes the likeliest token
    # Tokens to draw from: the top_k likeliest ones, and of these as many as
    # have the probability top_p together.
    top_k=config_dict.placeholder(int),
    top_p=1.0,
    seed=0,
    batch_size=16,  # texts continued together
    # Largest size in bytes of the matrices that sampling materializes to be
    # faster; None sets no limit.
    expand_bytes=config_dict.placeholder(int),
  )


class Sampler:
  """Samples with a model that is prepared once for each set of arrays.

  Args:
    graphdef: of a `TokenModel` that is `protocol.Continuing` or reads with a
      memory.
    settings: `config.sampling`, see `defaults`.
    max_length: positions of the model; None if they have no limit.
    memory: options of `Remembering`.
  """

  def __init__(
    self,
    graphdef: nnx.GraphDef,
    settings: config_dict.ConfigDict,
    *,
    max_length: int | None = None,
    memory: Mapping[str, Any] | None = None,
  ):
    self._settings = settings
    self._max_length = max_length
    self._memory = memory or {}
    self._serve = serving.Server(graphdef, self._prepare)
    self._compiled = evaluation.over_devices(self._sample)

  @property
  def longest(self) -> int | None:
    """Tokens of the longest text that leaves room for its continuation."""
    if self._max_length is None:
      return None
    return self._max_length - self._settings.max_tokens

  def check(self) -> None:
    """Refuses continuations that leave no room for a text.

    Raises:
      ValueError: naming both limits.
    """
    longest = self.longest
    if longest is not None and longest < 1:
      raise ValueError(
        f'sampling.max_tokens={self._settings.max_tokens} must be less than '
        f'model.max_length={self._max_length}, which is the limit of a text '
        'and its continuation together'
      )

  def __call__(
    self,
    variables: Mapping,
    texts: Sequence[Int[np.ndarray, ' ids']],
    num_samples: int,
    **limits: int | tuple[int, ...] | None,
  ) -> list[list[tuple[Int[np.ndarray, ' ids'], float]]]:
    """Continuations of every text, the likeliest first, with their scores.

    They depend on the text, its index and the seed, not on the other texts. A
    text longer than `longest` is continued from its last tokens alone.

    Args:
      variables: {'params': ..., 'buffers': ...}.
      texts: ids; the continuations of an empty text are empty.
      num_samples: continuations per text.
      **limits: `eos_id`, `never` and `num_ids` of `sampling.Options`.
    """
    self.check()
    options = _options(self._settings, **limits)
    results = [[] for _ in texts]
    for indices, batch in self._batches(self._cut(texts), num_samples):
      examples = -(-len(batch['lengths']) // evaluation.parts(variables))
      form, arrays = self._serve(variables, examples * num_samples)
      found = self._compiled(arrays, batch, form=form, options=options)
      found = extending.Outputs(*map(np.asarray, found))
      for i, *each in zip(indices, *found, strict=False):
        results[i] = [
          (tokens[:length], float(score))
          for tokens, score, length in zip(*each, strict=True)
        ]
        results[i].sort(key=lambda answer: -answer[1])
    return results

  def _cut(self, texts):
    """The texts, long ones without their beginnings, which is logged."""
    longest = self.longest
    if longest is None:
      return texts
    number = sum(len(ids) > longest for ids in texts)
    if number:
      logging.warning(
        '%d of %d texts are longer than %d tokens, model.max_length less '
        'sampling.max_tokens: they are continued from their last tokens alone',
        number,
        len(texts),
        longest,
      )
    return [ids[-longest:] for ids in texts]

  def _batches(
    self, texts, num_samples
  ) -> Iterator[tuple[Int[np.ndarray, ' texts'], dict[str, np.ndarray]]]:
    """Yields batches of texts of similar length, with their indices.

    Sizes and lengths are powers of two, so that few programs are compiled.
    """
    flat, most = sequences.Sequences(texts), self._settings.batch_size
    keys = _keys(self._settings.seed, len(texts), num_samples)
    order = np.argsort(flat.lengths, kind='stable')
    for start in range(0, len(order), most):
      indices = order[start : start + most]
      size = min(most, _power_of_two(len(indices)))
      length = max(_SHORTEST, _power_of_two(flat.lengths[indices[-1]]))
      length = min(length, self._max_length or length)
      pad = lambda a, size=size: np.pad(
        a, [(0, size - len(a))] + [(0, 0)] * (a.ndim - 1)
      )
      batch = {
        'tokens': flat.padded(indices, size, length),
        'lengths': pad(flat.lengths[indices].astype(np.int32)),
        'keys': pad(keys[indices]),
      }
      yield indices, batch

  def _prepare(self, model, tokens):
    with context.use(gradients=False):
      model.prepare(tokens=tokens, max_bytes=self._settings.expand_bytes)

  @context.use(gradients=False)
  def _sample(self, arrays, batch, form, options):
    model = form.merge(arrays)
    if not isinstance(model, protocol.Continuing):
      model = remembering.Remembering(model, **self._memory)
    lengths = batch['lengths']
    return sampling.sample(
      model,
      batch['tokens'],
      lengths,
      jax.random.wrap_key_data(batch['keys']),
      options,
      # Nothing precedes the first id of an empty text, or of padding.
      limits=jnp.where(lengths > 0, options.max_tokens, 0),
    )


def check(settings: config_dict.ConfigDict) -> None:
  """Refuses values of the group `sampling` that are out of range."""
  if not 0 <= settings.seed < 2**32:  # A key has 32 bits of it.
    raise ValueError(
      f'sampling.seed={settings.seed} must be at least 0 and less than 2^32'
    )
  if settings.batch_size < 1:
    raise ValueError(
      f'sampling.batch_size={settings.batch_size} must be at least 1'
    )
  try:
    _options(settings)
  except ValueError as error:
    raise ValueError(f'sampling.{error}') from None


def _options(settings, **limits):
  return sampling.Options(
    max_tokens=settings.max_tokens,
    temperature=settings.temperature,
    top_k=settings.top_k,
    top_p=settings.top_p,
    **limits,
  )


def _power_of_two(size: int) -> int:
  """The least power of two from `size` on."""
  return 1 << (int(size) - 1).bit_length()


def _keys(
  seed: int, num_texts: int, num_samples: int
) -> UInt32[np.ndarray, 'texts samples 2']:
  """Keys by the index of a text and of its continuation, as plain numbers."""
  fold = lambda k: jax.vmap(jax.random.fold_in, (None, 0))(k, samples)
  samples = jnp.arange(num_samples)
  of_texts = jax.vmap(jax.random.fold_in, (None, 0))(
    jax.random.key(seed), jnp.arange(num_texts)
  )
  return np.asarray(jax.random.key_data(jax.vmap(fold)(of_texts)))
