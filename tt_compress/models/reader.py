"""A reader: where in a context is the answer to a question?"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int

from tt_compress.nn import embed, linear, recurrent
from tt_compress.nn.dropout import Noise, dropout

_PAD_ID = 0
# Finite, so that examples of padding have gradients.
_NEVER = -1e30


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReaderConfig:
  """Sizes and choices of a `Reader`.

  Attributes:
    vocab_size: rows of the embedding.
    embed_dim: columns of the embedding.
    embed_std: standard deviation at which its entries start.
    num_features: of each token of a context, besides its embedding.
    hidden_dim: size of the state of one LSTM.
    num_layers: layers of LSTMs that read the context; as many read the
      question.
    dropout: rate on the embedded words, on the inputs of every layer of LSTMs
      and on their outputs.
    two_biases: whether an LSTM has a second vector of biases, as in PyTorch.
    forget_bias: at which the bias of the forget gate starts.
  """

  vocab_size: int = 118_655
  embed_dim: int = 300
  embed_std: float = 1.0
  num_features: int = 3
  hidden_dim: int = 128
  num_layers: int = 3
  dropout: float = 0.4
  two_biases: bool = True
  forget_bias: float = 0.0

  def __post_init__(self):
    if self.num_layers < 1:
      raise ValueError(f'model.num_layers={self.num_layers} must be at least 1')
    if not 0 <= self.dropout < 1:
      raise ValueError(
        f'model.dropout={self.dropout} must be at least 0 and below 1'
      )


class Reader(nnx.Module):
  """Probabilities that a token of a context begins or ends the answer.

  With embeddings c_i of the context and q_j of the question,

    a_i = sum_j softmax_j(relu(c_i A) relu(q_j A)) q_j
    h = LSTMs(c, a, features),   g = LSTMs(q)
    v = sum_j softmax_j(g_j w) g_j
    p(start = i) = softmax_i(h_i (v S)),   p(end = i) = softmax_i(h_i (v E)),

  where relu(c A), v S and v E have biases, and LSTMs returns the outputs of all
  of its layers, concatenated.

  Its matrices are 'embed', 'align' (A), 'context/layers/K/...' and
  'question/layers/K/...', 'weigh' (w), 'start' (S) and 'end' (E).

  Args:
    config: sizes and choices.
    rngs: source of the keys for the matrices.
    dtype: of the products; parameters, states and results are float32.

  Reference: Chen et al., "Reading Wikipedia to Answer Open-Domain Questions",
    section 3.2.
  """

  def __init__(
    self,
    config: ReaderConfig,
    *,
    rngs: nnx.Rngs,
    dtype: DTypeLike = jnp.float32,
  ):
    self.config = config
    dim = config.embed_dim
    self.embed = embed.Embed(
      config.vocab_size, dim, std=config.embed_std, dtype=dtype, rngs=rngs
    )
    self.align = linear.Linear(dim, dim, rngs=rngs)
    self.context = Layers(2 * dim + config.num_features, config, rngs=rngs)
    self.question = Layers(dim, config, rngs=rngs)
    hidden = self.context.output_dim
    self.weigh = linear.Linear(hidden, 1, rngs=rngs)
    self.start = linear.Linear(hidden, hidden, rngs=rngs)
    self.end = linear.Linear(hidden, hidden, rngs=rngs)

  def __call__(
    self,
    context: Int[ArrayLike, 'batch length'],
    features: Float[ArrayLike, 'batch length features'],
    question: Int[ArrayLike, 'batch words'],
    noise: Noise | None = None,
  ) -> tuple[Float[Array, 'batch length'], Float[Array, 'batch length']]:
    """Log-probabilities of the first and of the last token of the answer.

    Args:
      context: words of each context, followed by padding, id 0.
      features: of these words.
      question: words of each question, followed by padding.
      noise: keys of dropout and of stochastic matrices; None means
        deterministic.
    """
    rate = self.config.dropout
    context, question = jnp.asarray(context), jnp.asarray(question)
    is_word, is_asked = context != _PAD_ID, question != _PAD_ID
    # One lookup for both shares its work.
    ids = jnp.concatenate([context, question], axis=1)
    x = jnp.where((ids != _PAD_ID)[..., None], self.embed(ids, noise), 0)
    c, q = jnp.split(dropout(x, rate, noise), [context.shape[1]], axis=1)
    a = self._aligned(c, q, is_asked, noise)
    read = jnp.concatenate([c, a, jnp.asarray(features, c.dtype)], axis=-1)
    h = self.context(read, jnp.sum(is_word, axis=1), noise)
    g = self.question(q, jnp.sum(is_asked, axis=1), noise)
    weights = _softmax(self.weigh(g, noise)[..., 0], is_asked)
    v = jnp.einsum('bj,bjd->bd', weights.astype(g.dtype), g)
    starts, ends = (
      jnp.einsum('bid,bd->bi', h, layer(v, noise))
      for layer in (self.start, self.end)
    )
    return _log_softmax(starts, is_word), _log_softmax(ends, is_word)

  def _aligned(
    self,
    c: Float[Array, 'batch length dim'],
    q: Float[Array, 'batch words dim'],
    is_asked: Bool[Array, 'batch words'],
    noise: Noise | None,
  ) -> Float[Array, 'batch length dim']:
    """The question as each word of the context sees it."""
    both = jnp.concatenate([c, q], axis=1)
    projected = jax.nn.relu(self.align(both, noise))
    left, right = jnp.split(projected, [c.shape[1]], axis=1)
    scores = jnp.einsum('bid,bjd->bij', left, right)
    weights = _softmax(scores, is_asked[:, None])
    return jnp.einsum('bij,bjd->bid', weights.astype(q.dtype), q)


class Layers(nnx.Module):
  """Layers of LSTMs in both directions; all of their outputs, concatenated.

  Args:
    input_dim: size of the feature axis of the inputs.
    config: of the reader.
    rngs: source of the keys for the matrices.
  """

  def __init__(self, input_dim: int, config: ReaderConfig, *, rngs: nnx.Rngs):
    layer_dim = len(recurrent.DIRECTIONS) * config.hidden_dim
    self.output_dim = config.num_layers * layer_dim
    self.dropout = config.dropout
    dims = [input_dim] + (config.num_layers - 1) * [layer_dim]
    self.layers = nnx.List(
      [
        recurrent.Recurrent(
          'lstm',
          dim,
          config.hidden_dim,
          directions=recurrent.DIRECTIONS,
          two_biases=config.two_biases,
          forget_bias=config.forget_bias,
          rngs=rngs,
        )
        for dim in dims
      ]
    )

  def __call__(
    self,
    x: Float[Array, 'batch length input'],
    lengths: Int[Array, ' batch'],
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length output']:
    """Outputs, zero at padding; arguments as of `recurrent.Recurrent`."""
    outputs = []
    for layer in self.layers:
      x, _ = layer(dropout(x, self.dropout, noise), lengths, noise=noise)
      outputs.append(x)
    return dropout(jnp.concatenate(outputs, axis=-1), self.dropout, noise)


def _softmax(
  scores: Float[Array, '*shape'], is_valid: Bool[Array, '*#shape']
) -> Float[Array, '*shape']:
  return jnp.exp(_log_softmax(scores, is_valid))


def _log_softmax(
  scores: Float[Array, '*shape'], is_valid: Bool[Array, '*#shape']
) -> Float[Array, '*shape']:
  """Over the last axis, in float32; invalid entries have no weight."""
  scores = jnp.where(is_valid, scores.astype(jnp.float32), _NEVER)
  return jax.nn.log_softmax(scores)
