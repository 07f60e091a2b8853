"""Cells of recurrent layers: one step of an LSTM or of a GRU.

Gates are in the order of PyTorch, which is also that of Flax.
"""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32

from tt_compress.nn import linear
from tt_compress.nn.dropout import Noise
from tt_compress.parallel import partition

# By name, each [*batch, hidden_dim]; `h` is the output.
State = dict[str, Float32[Array, '*batch hidden']]


class Cell(nnx.Module):
  """One step of a recurrence: the products x W + b and h U, then the gates.

  W is `input` and U is `recurrent`; each has the columns of one gate after
  those of the other. W starts with the Glorot variance of one gate, and U with
  variance 1 / hidden_dim. Products are in the dtype of x, gates and state in
  float32.

  Args:
    input_dim: size of the feature axis of x.
    hidden_dim: size of the feature axis of h.
    two_biases: whether U has a bias, too, as in PyTorch.
    rngs: source of the keys.
  """

  num_gates: ClassVar[int]
  state_names: ClassVar[tuple[str, ...]]

  def __init__(
    self,
    input_dim: int,
    hidden_dim: int,
    *,
    two_biases: bool = False,
    rngs: nnx.Rngs,
  ):
    self.hidden_dim = hidden_dim
    cols = self.num_cols
    self.input = linear.Linear(
      input_dim,
      cols,
      std=(2 / (input_dim + hidden_dim)) ** 0.5,
      shard='cols',
      rngs=rngs,
    )
    # Not sharded: devices would have to exchange h in every step.
    self.recurrent = linear.Linear(
      hidden_dim, cols, use_bias=two_biases, std=hidden_dim**-0.5, rngs=rngs
    )

  @property
  def num_cols(self) -> int:
    """Columns of W and of U."""
    return self.num_gates * self.hidden_dim

  def start(self, x: Float[ArrayLike, 'batch _']) -> State:
    """The state before the first step, zeros, for a batch of any features."""
    # Zeros made from x vary over the mesh axes of x, as a scan demands.
    zeros = jnp.zeros_like(x, jnp.float32, shape=(len(x), self.hidden_dim))
    return dict.fromkeys(self.state_names, zeros)

  def project(
    self, x: Float[ArrayLike, '*batch input'], noise: Noise | None = None
  ) -> Float[Array, '*batch gates']:
    """x W + b, for one step or for all of them."""
    # Devices hold different gates of a feature, and each needs all of them.
    return partition.replicate(self.input(x, noise))

  def join(
    self, x: Float[Array, '*batch gates'], h: Float[Array, '*batch gates']
  ) -> Float32[Array, '*batch joined']:
    """The input of `advance` from x W + b and h U, linear in both."""
    return _float32(x) + _float32(h)

  def advance(
    self, joined: Float32[Array, '*batch joined'], state: State
  ) -> State:
    """The next state, from the joined products and the state before."""
    raise NotImplementedError

  def __call__(
    self,
    x: Float[ArrayLike, '*batch input'],
    state: State,
    noise: Noise | None = None,
  ) -> State:
    """The state after one more step; its `h` is the output."""
    h = self.recurrent(state['h'].astype(x.dtype), noise)
    return self.advance(self.join(self.project(x, noise), h), state)


class LSTM(Cell):
  """c' = f c + i g and h' = o tanh(c').

  i, f, o = sigmoid and g = tanh of x W + b + h U, in the order i, f, g, o.

  Args:
    forget_bias: at which the bias of f starts; see `Cell` for the others.

  Reference: Hochreiter and Schmidhuber, "Long Short-Term Memory"; Gers et al.,
    "Learning to Forget".
  """

  num_gates = 4
  state_names = ('h', 'c')

  def __init__(
    self,
    input_dim: int,
    hidden_dim: int,
    *,
    forget_bias: float = 0.0,
    two_biases: bool = False,
    rngs: nnx.Rngs,
  ):
    super().__init__(input_dim, hidden_dim, two_biases=two_biases, rngs=rngs)
    bias = self.input.bias.get_value()
    forget = slice(hidden_dim, 2 * hidden_dim)
    self.input.bias.set_value(bias.at[forget].set(forget_bias))

  def advance(
    self, joined: Float32[Array, '*batch joined'], state: State
  ) -> State:
    # sigmoid(z) = (1 + tanh(z / 2)) / 2: one tanh of the whole array takes half
    # the time of four functions of its parts on a CPU.
    scale = np.repeat(np.float32([0.5, 0.5, 1, 0.5]), self.hidden_dim)
    gates = jnp.tanh(joined * scale) * scale + (1 - scale)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = f * state['c'] + i * g
    return {'h': o * jnp.tanh(c), 'c': c}


class GRU(Cell):
  """h' = (1 - z) n + z h, with n = tanh((x W + b)_n + r (h U)_n).

  r, z = sigmoid of x W + b + h U, in the order r, z, n.

  Reference: Cho et al., "Learning Phrase Representations using RNN
    Encoder-Decoder for Statistical Machine Translation", with r applied after
    U, as in cuDNN.
  """

  num_gates = 3
  state_names = ('h',)

  def join(
    self, x: Float[Array, '*batch gates'], h: Float[Array, '*batch gates']
  ) -> Float32[Array, '*batch joined']:
    x, x_n = jnp.split(_float32(x), [2 * self.hidden_dim], axis=-1)
    h, h_n = jnp.split(_float32(h), [2 * self.hidden_dim], axis=-1)
    return jnp.concatenate([x + h, x_n, h_n], axis=-1)

  def advance(
    self, joined: Float32[Array, '*batch joined'], state: State
  ) -> State:
    r, z, x_n, h_n = jnp.split(joined, 4, axis=-1)
    z = nnx.sigmoid(z)
    n = jnp.tanh(x_n + nnx.sigmoid(r) * h_n)
    return {'h': (1 - z) * n + z * state['h']}


CELLS = {'gru': GRU, 'lstm': LSTM}


def _float32(a: Float[Array, '*shape']) -> Float32[Array, '*shape']:
  return a.astype(jnp.float32)
