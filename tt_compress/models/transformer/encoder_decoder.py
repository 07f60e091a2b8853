"""The parts that encoder-decoder models have in common."""

from collections.abc import Callable
from typing import NamedTuple

from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from tt_compress.algebra import networks
from tt_compress.models.transformer import output
from tt_compress.nn import attention, embed, past
from tt_compress.nn.dropout import Noise


class Context(NamedTuple):
  """The source sentences, as the steps of the decoder need them.

  Attributes:
    keys_values: per decoder layer, those of its cross-attention.
    mask: False at padding.
  """

  keys_values: tuple[attention.KeysValues, ...]
  mask: Bool[ArrayLike, 'batch 1 1 source']


class EncoderDecoder(output.TokenModel):
  """A model of target tokens, given source tokens; token 0 is padding.

  A subclass defines `encode`, `features` and `step`, and has `embed` (shared),
  or `source_embed` and `target_embed`.

  Attributes:
    decoder: a stack of layers with `self_attention` and `cross_attention`.
  """

  def _make_embeddings(
    self, table: Callable[[int, networks.Role], embed.Embed]
  ) -> None:
    """Makes the embeddings by a function of their rows and their role."""
    config = self.config
    role = 'tied' if config.tie_logits else 'rows'
    if config.share_embeddings:
      self.embed = table(config.vocab_size, role)
    else:
      rows = config.source_vocab_size or config.vocab_size
      self.source_embed = table(rows, 'rows')
      self.target_embed = table(config.vocab_size, role)

  def _table(self, side: str) -> embed.Embed:
    """The embedding of 'source' or 'target'."""
    if self.config.share_embeddings:
      return self.embed
    return getattr(self, f'{side}_embed')

  def __call__(
    self,
    inputs: Int[ArrayLike, 'batch source'],
    decoder_inputs: Int[ArrayLike, 'batch length'],
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length vocab']:
    """Logits of the next target token at every position, float32.

    See `features`.
    """
    return self.project(self.features(inputs, decoder_inputs, noise), noise)

  def start(
    self,
    inputs: Int[ArrayLike, 'batch source'],
    max_length: int,
    beam_size: int,
  ) -> tuple[Context, past.Past]:
    """See `tasks.decoding.protocol.Decodable`."""
    x, mask = self.encode(inputs)
    batch_size, layers = inputs.shape[0], self.decoder.unrolled()
    keys_values = tuple(
      layer.cross_attention.keys_values(x) for layer in layers
    )
    shape = batch_size, max_length * beam_size
    entries = tuple(
      layer.self_attention.empty(shape, self.dtype) for layer in layers
    )
    return Context(keys_values, mask), past.start(
      entries, batch_size, beam_size, max_length
    )
