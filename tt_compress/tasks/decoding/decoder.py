"""Decoding batches of sentences by an encoder-decoder model."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from tt_compress.algebra import context
from tt_compress.data import corpus
from tt_compress.nn import serving
from tt_compress.parallel import evaluation
from tt_compress.tasks.decoding import beam, hypotheses


class Decoder:
  """Beam searches: one compiled program for a batch, and one before the first.

  Args:
    graphdef: of a model such as `models.transformer`.
    settings: those of `config.evaluation`.
  """

  def __init__(self, graphdef: nnx.GraphDef, settings: Mapping):
    self._settings = settings
    self._serve = serving.Server(graphdef, self._prepare)
    self._compiled = evaluation.over_devices(self._search)

  def searcher(
    self, variables: Mapping, *, beam_size: int, num_ids: int
  ) -> Callable[[jax.Array], hypotheses.Hypotheses]:
    """A function of source tokens [evaluation.batch_size, length].

    Each device translates some of the rows; all of them get the results.

    Args:
      variables: {'params': ..., 'buffers': ...}.
      beam_size: hypotheses for a sentence.
      num_ids: ids from here on are never produced.
    """
    # Of a step in the loop, which takes most of the time.
    rows = -(-self._settings.batch_size // evaluation.parts(variables))
    tokens = rows * beam_size
    form, arrays = self._serve(variables, tokens)
    return functools.partial(
      self._compiled, arrays, form=form, beam_size=beam_size, num_ids=num_ids
    )

  def _prepare(self, model, tokens):
    max_bytes = self._settings.expand_bytes
    with context.use(gradients=False):
      model.prepare(tokens=tokens, max_bytes=max_bytes)

  @context.use(gradients=False)
  def _search(self, arrays, inputs, form, beam_size, num_ids):
    settings = self._settings
    options = hypotheses.Options(
      max_length=int(inputs.shape[1] * settings.max_ratio) + settings.max_extra,
      bos_id=corpus.BOS_ID,
      eos_id=corpus.EOS_ID,
      pad_id=corpus.PAD_ID,
      length_penalty=settings.length_penalty,
      num_ids=num_ids,
    )
    return beam.search(
      form.merge(arrays),
      inputs,
      options,
      beam_size=beam_size,
      limits=self._limits(inputs),
    )

  def _limits(self, inputs):
    """The most ids of every translation; none of a row of padding."""
    settings = self._settings
    lengths = jnp.sum(inputs != corpus.PAD_ID, axis=1)
    limits = (lengths * settings.max_ratio).astype(jnp.int32)
    return jnp.where(lengths > 0, limits + settings.max_extra, 0)
