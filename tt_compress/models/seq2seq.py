"""Recurrent encoder and decoder with attention between them."""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int

from tt_compress.models.transformer import encoder_decoder, transformer_config
from tt_compress.nn import (
  cells,
  embed,
  global_attention,
  linear,
  recurrent,
  recurrent_decoder,
)
from tt_compress.nn.dropout import Noise, dropout


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seq2SeqConfig:
  """Sizes and choices of a `Seq2Seq`.

  Attributes:
    vocab_size: rows of the target embedding and number of logits.
    source_vocab_size: rows of the source embedding, which is then not shared;
      None means vocab_size.
    cell: of all recurrent layers, a name in `cells.CELLS`.
    embed_dim: columns of the embeddings.
    embed_std: standard deviation at which their entries start.
    hidden_dim: size of the state of one cell.
    output_dim: columns of the matrix of the logits.
    num_layers: layers of the encoder, each with one cell per direction, and of
      the decoder.
    input_feeding: whether a step of the decoder reads the output of the step
      before, besides its token. Training then takes its steps one by one.
    dropout: rate on the inputs of cells.
    share_embeddings: one embedding for source and target.
    tie_logits: logits by the transposed target embedding.
    logits_bias: a bias of the logits; it starts at zero.
  """

  vocab_size: int
  source_vocab_size: int | None = None
  cell: str = 'lstm'
  embed_dim: int = 256
  embed_std: float = 0.1
  hidden_dim: int = 256
  output_dim: int = 256
  num_layers: int = 1
  input_feeding: bool = False
  dropout: float = 0.2
  share_embeddings: bool = False
  tie_logits: bool = False
  logits_bias: bool = True

  def __post_init__(self):
    transformer_config.check_sizes(self)
    transformer_config.check_rates(self)
    transformer_config.check_vocabularies(self)
    if self.cell not in cells.CELLS:
      known = ', '.join(cells.CELLS)
      raise ValueError(f'model.cell={self.cell!r} must be one of {known}')
    if not self.embed_std > 0:  # NaN fails, too
      raise ValueError(f'model.embed_std={self.embed_std} must be above 0')
    if self.tie_logits and self.output_dim != self.embed_dim:
      raise ValueError(
        f'model.tie_logits=True needs model.output_dim={self.output_dim} equal '
        f'to model.embed_dim={self.embed_dim}: one matrix has both columns'
      )


class Seq2Seq(encoder_decoder.EncoderDecoder):
  """Recurrent networks of the source and of the target; token 0 is padding.

  The encoder reads in both directions. Its last states, one vector of both
  directions for each layer, times a matrix for each kind of state start the
  decoder, whose outputs attend to those of the encoder.

  Paths of its matrices: `embed` (shared) or `source_embed` and `target_embed`;
  `encoder/layers/K/DIRECTION/{input,recurrent}`; `bridge/h` and, of LSTMs,
  `bridge/c`; `decoder/rnn/layers/K/forward/{input,recurrent}`,
  `decoder/attention/{keys,out}` and, with input feeding, `decoder/feed`;
  `logits` unless tied. `logits_bias` is a vector. It is decoded by `start` and
  `step`, see `tasks.decoding.protocol`.

  Args:
    config: sizes and choices.
    rngs: source of the keys.
    dtype: of the activations and of the products with them; parameters and
      states are float32, and logits are returned as float32.

  Reference: Luong et al., "Effective Approaches to Attention-based Neural
    Machine Translation"; "Improving Space Efficiency of Deep Neural Networks",
    section 3.4, for the sizes.
  """

  def __init__(
    self,
    config: Seq2SeqConfig,
    *,
    rngs: nnx.Rngs,
    dtype: DTypeLike = jnp.float32,
  ):
    self.config = config
    self.dtype = dtype
    hidden_dim = config.hidden_dim
    self._make_tables(rngs)
    self.encoder = recurrent.Recurrent(
      config.cell,
      config.embed_dim,
      hidden_dim,
      num_layers=config.num_layers,
      directions=recurrent.DIRECTIONS,
      dropout=config.dropout,
      rngs=rngs,
    )
    both = len(recurrent.DIRECTIONS) * hidden_dim
    names = cells.CELLS[config.cell].state_names
    self.bridge = nnx.Dict(
      {name: linear.Linear(both, hidden_dim, rngs=rngs) for name in names}
    )
    self.decoder = recurrent_decoder.RecurrentDecoder(
      config.cell,
      config.embed_dim,
      hidden_dim,
      both,
      config.output_dim,
      num_layers=config.num_layers,
      input_feeding=config.input_feeding,
      dropout=config.dropout,
      rngs=rngs,
    )

  def _make_tables(self, rngs: nnx.Rngs) -> None:
    config, dim, std = self.config, self.config.embed_dim, self.config.embed_std
    self._make_embeddings(
      lambda rows, role: embed.Embed(rows, dim, std=std, role=role, rngs=rngs)
    )
    if not config.tie_logits:
      self.logits = embed.Embed(
        config.vocab_size, config.output_dim, role='logits', rngs=rngs
      )
    self.logits_bias = (
      nnx.Param(jnp.zeros(config.vocab_size)) if config.logits_bias else None
    )

  def _embed(
    self,
    side: str,
    tokens: Int[ArrayLike, 'batch length'],
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
    x = self._table(side)(tokens, noise).astype(self.dtype)
    return dropout(x, self.config.dropout, noise)

  def _output(self) -> tuple[embed.Embed, Float[Array, ' vocab'] | None]:
    table = self._table('target') if self.config.tie_logits else self.logits
    if self.logits_bias is None:
      return table, None
    return table, self.logits_bias.get_value()

  def encode(
    self, inputs: Int[ArrayLike, 'batch source'], noise: Noise | None = None
  ) -> tuple[global_attention.Source, recurrent.States]:
    """What the decoder attends to, and its states before the first step."""
    mask = inputs != 0
    x = self._embed('source', inputs, noise)
    values, last = self.encoder(x, jnp.sum(mask, axis=1), noise=noise)
    # The states of the directions of a layer follow each other.
    shape = len(inputs), self.config.num_layers, -1
    states = {
      name: self.bridge[name](
        last[name].reshape(shape).astype(self.dtype), noise
      ).astype(jnp.float32)
      for name in last
    }
    return self.decoder.attention.source(values, mask, noise), states

  def features(
    self,
    inputs: Int[ArrayLike, 'batch source'],
    decoder_inputs: Int[ArrayLike, 'batch length'],
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
    """The output of the decoder at every position, the input of `project`.

    Args:
      inputs: source tokens.
      decoder_inputs: target tokens shifted right, starting with the begin
        token.
      noise: keys of dropout and of stochastic matrices; None means
        deterministic.
    """
    source, states = self.encode(inputs, noise)
    x = self._embed('target', decoder_inputs, noise)
    return self.decoder(x, states, source, noise)

  def start(
    self,
    inputs: Int[ArrayLike, 'batch source'],
    max_length: int,
    beam_size: int,
  ) -> tuple[global_attention.Source, recurrent_decoder.Cache]:
    """See `tasks.decoding.protocol.Decodable`."""
    del max_length  # The state of a recurrent network does not grow.
    source, states = self.encode(inputs)
    return source, self.decoder.start(states, beam_size, self.dtype)

  def step(
    self,
    context: global_attention.Source,
    cache: recurrent_decoder.Cache,
    tokens: Int[Array, 'batch beam'],
    index: Int[Array, ''],
  ) -> tuple[Float[Array, 'batch beam vocab'], recurrent_decoder.Cache]:
    """See `tasks.decoding.protocol.Decodable`; logits are float32."""
    del index
    x = self._embed('target', tokens)
    a, cache = self.decoder.step(x, cache, context)
    return self.project(a), cache
