"""A classifier of texts: an embedding and layers of LSTMs."""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int

from tt_compress.nn import embed, linear, recurrent
from tt_compress.nn.dropout import Noise, dropout

_PAD_ID = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextClassifierConfig:
  """Sizes and choices of a `TextClassifier`.

  Attributes:
    vocab_size: rows of the embedding.
    num_classes: of the texts.
    embed_dim: columns of the embedding.
    embed_std: standard deviation at which its entries start.
    hidden_dim: size of the state of one LSTM.
    num_layers: layers of LSTMs, each with one per direction.
    dropout: rate on the embedded words, between layers and on the final state.
    variational: whether all words of a text have the same dropout mask between
      layers.
    two_biases: whether an LSTM has a second vector of biases, as in PyTorch.
    forget_bias: at which the bias of the forget gate starts.
    zero_padding: whether padding has the embedding 0 instead of a trained one;
      without effect unless padding is read.
    reads_padding: whether the final state is that after the padding of the
      text, as in the released code of the paper, which pads to 1,000 words,
      instead of that after its last word.
  """

  vocab_size: int = 25_000
  num_classes: int = 2
  embed_dim: int = 256
  embed_std: float = 0.1
  hidden_dim: int = 128
  num_layers: int = 2
  dropout: float = 0.5
  variational: bool = False
  two_biases: bool = True
  forget_bias: float = 0.0
  zero_padding: bool = False
  reads_padding: bool = False

  def __post_init__(self):
    if self.num_classes < 2:
      raise ValueError(
        f'model.num_classes={self.num_classes} must be at least 2'
      )
    if not 0 <= self.dropout < 1:
      raise ValueError(
        f'model.dropout={self.dropout} must be at least 0 and below 1'
      )


class TextClassifier(nnx.Module):
  """Logits h W + b of h, the final states of the last layer.

  h holds the state after the last word of a text and, of the LSTM that reads
  backward, the state after its first word. Two classes have one column in W and
  b: the logit of the second class, where that of the first is 0.

  Its matrices are 'embed', 'lstm/layers/K/DIRECTION/input' and '.../recurrent',
  and 'out'.

  Args:
    config: sizes and choices.
    rngs: source of the keys for the matrices.
    dtype: of the products; parameters, states and logits are float32.

  Reference: "Tensorized Embedding Layers for Efficient Model Compression",
    section 5.1.
  """

  def __init__(
    self,
    config: TextClassifierConfig,
    *,
    rngs: nnx.Rngs,
    dtype: DTypeLike = jnp.float32,
  ):
    self.config = config
    self.embed = embed.Embed(
      config.vocab_size,
      config.embed_dim,
      std=config.embed_std,
      dtype=dtype,
      rngs=rngs,
    )
    self.lstm = recurrent.Recurrent(
      'lstm',
      config.embed_dim,
      config.hidden_dim,
      num_layers=config.num_layers,
      directions=recurrent.DIRECTIONS,
      dropout=config.dropout,
      variational=config.variational,
      two_biases=config.two_biases,
      forget_bias=config.forget_bias,
      rngs=rngs,
    )
    self.out = linear.Linear(
      len(recurrent.DIRECTIONS) * config.hidden_dim,
      1 if config.num_classes == 2 else config.num_classes,
      rngs=rngs,
    )

  def __call__(
    self, ids: Int[ArrayLike, 'batch length'], noise: Noise | None = None
  ) -> Float[Array, 'batch classes']:
    """Logits, float32.

    Args:
      ids: words of each text, followed by padding, id 0.
      noise: keys of dropout and of stochastic matrices; None means
        deterministic.
    """
    config, is_word = self.config, ids != _PAD_ID
    x = self.embed(ids, noise)
    if config.zero_padding:
      x = jnp.where(is_word[..., None], x, 0)
    x = dropout(x, config.dropout, noise)
    lengths = None if config.reads_padding else jnp.sum(is_word, axis=1)
    _, states = self.lstm(x, lengths, noise=noise)
    last = states['h'][:, -len(recurrent.DIRECTIONS) :].reshape(len(ids), -1)
    logits = self.out(dropout(last, config.dropout, noise), noise)
    if config.num_classes == 2:
      logits = jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
    return logits.astype(jnp.float32)
