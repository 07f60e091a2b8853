"""Decoding batches of sentences over devices, with a prepared model."""

import functools
from collections.abc import Callable, Mapping

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Int
from ml_collections import config_dict

from tt_compress.algebra import context
from tt_compress.data import corpus
from tt_compress.nn import serving
from tt_compress.parallel import evaluation
from tt_compress.tasks.decoding import beam, hypotheses


class Decoder:
  """Searches with a model that is prepared once for each set of arrays.

  Args:
    graphdef: of a `protocol.Preparable` model.
    settings: `config.evaluation`; `batch_size`, `expand_bytes`,
      `length_penalty`, `max_extra` and `max_ratio` are read.
  """

  def __init__(self, graphdef: nnx.GraphDef, settings: config_dict.ConfigDict):
    self._settings = settings
    self._serve = serving.Server(graphdef, self._prepare)
    self._compiled = evaluation.over_devices(self._search)

  def searcher(
    self, variables: Mapping, *, beam_size: int, num_ids: int
  ) -> Callable[[Int[Array, 'batch source']], hypotheses.Hypotheses]:
    """A compiled search for the sentences of a batch.

    Each device searches for some of the sentences, and every process gets all
    results.

    Args:
      variables: {'params': ..., 'buffers': ...}.
      beam_size: hypotheses per sentence.
      num_ids: ids from here on are never produced.

    Returns:
      A function of source ids [evaluation.batch_size, source].
    """
    sentences = -(-self._settings.batch_size // evaluation.parts(variables))
    tokens = sentences * beam_size  # per step, the loop takes most of the time
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

  def _limits(self, inputs: Int[Array, 'batch source']) -> Int[Array, ' batch']:
    """Largest number of ids per output; 0 for sentences of padding alone."""
    settings = self._settings
    lengths = jnp.sum(inputs != corpus.PAD_ID, axis=1)
    limits = (lengths * settings.max_ratio).astype(jnp.int32)
    return jnp.where(lengths > 0, limits + settings.max_extra, 0)
