"""Recurrent layers whose outputs attend to the outputs of an encoder."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tt_compress.nn import cells, global_attention, linear, recurrent
from tt_compress.nn.dropout import Noise, dropout
from tt_compress.parallel import partition

# By name, [batch, beam, cells, hidden_dim]; 'fed', [batch, beam, out_dim], is
# the last output if it is an input of the next step.
Cache = dict[str, Float[Array, 'batch beam ...']]


class RecurrentDecoder(nnx.Module):
  """a_t = attention(h_t), with h_t = RNN(x_t, h_{t-1}).

  With input feeding, h_t = RNN([x_t; a_{t-1}], h_{t-1}) and a_0 = 0.

  Paths of its matrices: those of `Recurrent` in `rnn/...`, those of
  `GlobalAttention` in `attention/...`, and `feed`, the rows of the first
  cell's input matrix for a_{t-1}.

  Args:
    cell: a name in `cells.CELLS`.
    input_dim: size of the feature axis of x.
    hidden_dim: size of the state of one cell.
    value_dim: size of the feature axis of the outputs of the encoder.
    out_dim: size of the feature axis of a.
    num_layers: layers of the RNN.
    input_feeding: whether a step reads the output of the step before.
    dropout: rate on a_{t-1} and between layers.
    rngs: source of the keys.

  Reference: Luong et al., "Effective Approaches to Attention-based Neural
    Machine Translation", section 3.
  """

  def __init__(
    self,
    cell: str,
    input_dim: int,
    hidden_dim: int,
    value_dim: int,
    out_dim: int,
    *,
    num_layers: int = 1,
    input_feeding: bool = False,
    dropout: float = 0.0,
    rngs: nnx.Rngs,
  ):
    self.dropout = dropout
    self.rnn = recurrent.Recurrent(
      cell,
      input_dim,
      hidden_dim,
      num_layers=num_layers,
      dropout=dropout,
      rngs=rngs,
    )
    self.attention = global_attention.GlobalAttention(
      hidden_dim, value_dim, out_dim, rngs=rngs
    )
    self.feed = self._make_feed(out_dim, rngs) if input_feeding else None

  def _make_feed(self, out_dim: int, rngs: nnx.Rngs) -> linear.Linear:
    cell = self._cells[0]
    std = (2 / (out_dim + cell.hidden_dim)) ** 0.5
    return linear.Linear(
      out_dim, cell.num_cols, use_bias=False, std=std, rngs=rngs
    )

  @property
  def _cells(self) -> list[cells.Cell]:
    return [layer['forward'] for layer in self.rnn.layers]

  def __call__(
    self,
    x: Float[Array, 'batch length input'],
    states: recurrent.States,
    source: global_attention.Source,
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length out']:
    """a of all steps.

    Args:
      x: inputs; products are in their dtype.
      states: before the first step.
      source: what the outputs attend to.
      noise: keys of dropout and of stochastic matrices; None means
        deterministic.
    """
    if self.feed is None:
      h, _ = self.rnn(x, states=states, noise=noise)
      return self.attention(h, source, noise)
    batch, length, _ = x.shape
    layers = [self.feed, self.attention.out]
    for cell in self._cells:
      layers += [cell.input, cell.recurrent]
    bound = {
      id(layer): layer.bound(batch, x.dtype, calls=length) for layer in layers
    }

    def step(cache, inputs):
      t, first = inputs
      at_step = None if noise is None else noise.at(t)
      call = lambda layer, x, noise: bound[id(layer)](x, noise)
      a, cache = self._advance(first, cache, source, at_step, call)
      return cache, a[:, 0]

    first = jnp.swapaxes(self._cells[0].project(x, noise), 0, 1)[:, :, None]
    start = self.start(states, 1, x.dtype)
    _, a = jax.lax.scan(step, start, (jnp.arange(length), first))
    return jnp.swapaxes(a, 0, 1)

  def start(
    self, states: recurrent.States, beam_size: int, dtype: DTypeLike
  ) -> Cache:
    """The cache of equal hypotheses before the first step.

    Args:
      states: before the first step.
      beam_size: hypotheses per example.
      dtype: of the outputs.
    """
    cache = dict(states)
    if self.feed is not None:
      h = states['h']
      shape = len(h), self.attention.out.spec.cols
      # Zeros made from h vary over the mesh axes of h, as a scan demands.
      cache['fed'] = jnp.zeros_like(h, dtype, shape=shape)
    return jax.tree.map(
      lambda a: jnp.repeat(a[:, None], beam_size, axis=1), cache
    )

  def step(
    self,
    x: Float[Array, 'batch beam input'],
    cache: Cache,
    source: global_attention.Source,
  ) -> tuple[Float[Array, 'batch beam out'], Cache]:
    """a of the next step of every hypothesis, and the cache after it."""
    call = lambda layer, x, noise: layer(x, noise)
    return self._advance(self._cells[0].project(x), cache, source, None, call)

  def _advance(
    self,
    projected: Float[Array, 'batch beam gates'],
    cache: Cache,
    source: global_attention.Source,
    noise: Noise | None,
    call: global_attention.Call,
  ) -> tuple[Float[Array, 'batch beam out'], Cache]:
    """One step, from the product x W + b of the first cell.

    Args:
      projected: that product.
      cache: before the step.
      source: what the outputs attend to.
      noise: keys of this step; None means deterministic.
      call: computes the products of the layers.
    """
    dtype = projected.dtype
    if self.feed is not None:
      fed = dropout(cache['fed'], self.dropout, noise)
      projected += call(self.feed, fed, noise)
    after = []
    for number, cell in enumerate(self._cells):
      if number:
        below = dropout(after[-1]['h'].astype(dtype), self.dropout, noise)
        projected = partition.replicate(call(cell.input, below, noise))
      state = {name: cache[name][:, :, number] for name in cell.state_names}
      of_h = call(cell.recurrent, state['h'].astype(dtype), noise)
      after.append(cell.advance(cell.join(projected, of_h), state))
    h = after[-1]['h'].astype(dtype)
    a = self.attention(h, source, noise, call=call)
    cache = jax.tree.map(lambda *each: jnp.stack(each, axis=2), *after)
    return a, cache if self.feed is None else {**cache, 'fed': a}
