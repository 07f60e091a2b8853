"""Small models as others write them, for tests of `compress`."""

import jax
import jax.numpy as jnp
from flax import linen, nnx


class RMSNorm(nnx.Module):
  def __init__(self, dim):
    self.scale = nnx.Param(jnp.ones(dim))

  def __call__(self, x):
    mean = jnp.mean(x**2, axis=-1, keepdims=True)
    return self.scale[...] * x * jax.lax.rsqrt(mean + 1e-6)


def attend(query, key, value, bias=0.0):
  """[batch length heads dim] thrice; grouped if there are fewer keys."""
  groups = query.shape[2] // key.shape[2]
  key, value = (jnp.repeat(a, groups, axis=2) for a in (key, value))
  scores = jnp.einsum('bqhd,bkhd->bhqk', query, key) + bias
  return jnp.einsum('bhqk,bkhd->bqhd', jax.nn.softmax(scores), value)


class T5(nnx.Module):
  """Linear layers without biases, a bias of distances, a shared table."""

  def __init__(self, rngs, dim=12, heads=3):
    self.heads = heads
    self.shared = nnx.Embed(20, dim, rngs=rngs)
    self.distances = nnx.Embed(8, heads, rngs=rngs)
    make = lambda rows, cols: nnx.Linear(rows, cols, use_bias=False, rngs=rngs)
    self.q, self.k, self.v, self.o = (make(dim, dim) for _ in range(4))
    self.gate, self.up, self.down = make(dim, 16), make(dim, 16), make(16, dim)
    self.norms = nnx.List([RMSNorm(dim) for _ in range(2)])
    self.lm_head = make(dim, 20)

  def __call__(self, ids):
    x = self.shared(ids)
    places = jnp.arange(ids.shape[1])
    bias = self.distances(jnp.abs(places[:, None] - places)).transpose(2, 0, 1)
    y = self.norms[0](x)
    split = lambda a: a.reshape(*a.shape[:2], self.heads, -1)
    y = attend(*(split(each(y)) for each in (self.q, self.k, self.v)), bias)
    x += self.o(y.reshape(x.shape))
    y = self.norms[1](x)
    x += self.down(jax.nn.gelu(self.gate(y)) * self.up(y))
    return self.lm_head(x)


class Whisper(nnx.Module):
  """Convolutions over sound, blocks of nnx.Sequential, attention across."""

  def __init__(self, rngs, dim=12):
    self.convolution = nnx.Conv(
      4, dim, kernel_size=(3,), strides=(2,), rngs=rngs
    )
    self.places = nnx.Variable(jnp.sin(jnp.arange(5.0 * dim)).reshape(5, dim))
    self.table = nnx.Embed(20, dim, rngs=rngs)
    self.cross = nnx.Dict(
      {
        name: nnx.Linear(dim, dim, use_bias=name != 'key', rngs=rngs)
        for name in ('query', 'key', 'value', 'out')
      }
    )
    self.mlp = nnx.Sequential(
      nnx.Linear(dim, 4 * dim, rngs=rngs),
      jax.nn.gelu,
      nnx.Linear(4 * dim, dim, rngs=rngs),
    )

  def __call__(self, ids):
    sound = jnp.sin(jnp.arange(2 * 10 * 4.0)).reshape(2, 10, 4)
    sound = jax.nn.gelu(self.convolution(sound)) + self.places[...]
    x, cross = self.table(ids), self.cross
    split = lambda a: a[:, :, None]
    y = attend(
      split(cross.query(x)), split(cross.key(sound)), split(cross.value(sound))
    )
    x += cross.out(y[:, :, 0])
    return self.table.attend(x + self.mlp(x))


class OwnEinsum(nnx.Module):
  def __init__(self, equation, shape, rngs):
    self.equation = equation
    init = jax.nn.initializers.normal(0.3)
    self.w = nnx.Param(init(rngs.params(), shape))

  def __call__(self, x):
    return jnp.einsum(self.equation, x, self.w[...])


class Qwen(nnx.Module):
  """Own classes around nnx.Param; grouped queries; a table used twice."""

  # The axes that are rows, which only the model itself knows.
  row_axes = {
    'table': (0,),
    'query/w': (0,),
    'key/w': (1,),
    'value/w': (1,),
    'out/w': (0, 1),
  }

  def __init__(self, rngs, dim=12, heads=4, groups=2, size=5):
    init = jax.nn.initializers.normal(0.3)
    self.table = nnx.Param(init(rngs.params(), (20, dim)))
    self.query = OwnEinsum('btd,dnh->btnh', (dim, heads, size), rngs)
    self.key = OwnEinsum('bsd,kdh->bskh', (groups, dim, size), rngs)
    self.value = OwnEinsum('bsd,kdh->bskh', (groups, dim, size), rngs)
    self.out = OwnEinsum('btnh,nhd->btd', (heads, size, dim), rngs)
    self.gate, self.up = (
      nnx.Linear(dim, 16, use_bias=False, rngs=rngs) for _ in range(2)
    )
    self.down = nnx.Linear(16, dim, use_bias=False, rngs=rngs)
    self.norms = nnx.List([RMSNorm(dim) for _ in range(2)])

  def __call__(self, ids):
    x = self.table[(ids,)]
    y = self.norms[0](x)
    x += self.out(attend(self.query(y), self.key(y), self.value(y)))
    y = self.norms[1](x)
    x += self.down(jax.nn.silu(self.gate(y)) * self.up(y))
    return x @ self.table.get_value().T


class GPT(nnx.Module):
  """Attention of Flax, places, logits by the table of tokens."""

  def __init__(self, rngs, dim=12):
    self.tokens = nnx.Embed(20, dim, rngs=rngs)
    self.places = nnx.Embed(6, dim, rngs=rngs)
    self.norm = nnx.LayerNorm(dim, rngs=rngs)
    self.attn = nnx.MultiHeadAttention(
      num_heads=3, in_features=dim, decode=False, dropout_rate=0.1, rngs=rngs
    )
    self.mlp = nnx.Sequential(
      nnx.Linear(dim, 16, rngs=rngs),
      jax.nn.gelu,
      nnx.Linear(16, dim, rngs=rngs),
    )

  def __call__(self, ids):
    x = self.tokens(ids) + self.places(jnp.arange(ids.shape[1]))
    mask = nnx.make_causal_mask(ids)
    x += self.attn(self.norm(x), mask=mask, deterministic=True)
    return self.tokens.attend(x + self.mlp(x))


class Block(nnx.Module):
  def __init__(self, rngs, dim, metadata):
    self.up = nnx.Linear(dim, 16, kernel_metadata=metadata, rngs=rngs)
    self.down = nnx.Linear(16, dim, rngs=rngs)
    self.attn = nnx.MultiHeadAttention(3, dim, decode=False, rngs=rngs)

  def __call__(self, x):
    return x + self.attn(x) + self.down(jax.nn.relu(self.up(x)))


class Scanned(nnx.Module):
  """Layers made by nnx.vmap and run by nnx.scan."""

  layer_axis = {nnx.PARTITION_NAME: 'layers'}

  def __init__(self, rngs, dim=12, layers=3, metadata=None):
    @nnx.split_rngs(splits=layers)
    @nnx.vmap(transform_metadata=self.layer_axis)
    def make(rngs):
      return Block(rngs, dim, metadata or {})

    self.blocks = make(rngs)
    self.table = nnx.Embed(20, dim, rngs=rngs)

  def __call__(self, ids):
    @nnx.scan(
      in_axes=(0, nnx.Carry),
      out_axes=nnx.Carry,
      transform_metadata=self.layer_axis,
    )
    def run(block, x):
      return block(x)

    return self.table.attend(run(self.blocks, self.table(ids)))


class Mixer(nnx.Module):
  """Patches by a convolution, then tokens and channels are mixed."""

  def __init__(self, rngs, dim=8, patches=9):
    self.patches = nnx.Conv(
      2, dim, kernel_size=(2, 2), strides=(2, 2), rngs=rngs
    )
    self.tokens = nnx.LinearGeneral(patches, patches, axis=-2, rngs=rngs)
    self.both = nnx.LinearGeneral(
      (patches, dim), (patches, 4), axis=(-1, -2), rngs=rngs
    )
    self.up = nnx.Einsum('...d,hdk->...hk', (2, dim, 5), (2, 5), rngs=rngs)
    self.down = nnx.Einsum('bthk,dkh->tbd', (dim, 5, 2), (dim, 1), rngs=rngs)
    self.back = nnx.ConvTranspose(dim, 3, kernel_size=(2,), rngs=rngs)
    self.head = nnx.Linear(36, 20, rngs=rngs)

  def __call__(self, ids):
    image = jnp.sin(ids[:, :1, None, None] + jnp.arange(72.0).reshape(6, 6, 2))
    x = self.patches(image).reshape(len(ids), 9, -1)
    x += self.tokens(x).swapaxes(1, 2)
    y = self.down(jax.nn.gelu(self.up(x))).swapaxes(0, 1)
    back = self.back(x + y)
    x = self.both(x + y).reshape(len(ids), -1)
    return self.head(x) + back.mean((1, 2))[:, None]


class Recurrent(nnx.Module):
  """A classifier of texts by all cells of Flax, in both directions."""

  def __init__(self, rngs, dim=6):
    self.table = nnx.Embed(20, dim, rngs=rngs)
    both = lambda size, forward, backward: nnx.Bidirectional(
      nnx.RNN(forward(size, 4, rngs=rngs)),
      nnx.RNN(backward(size, 4, rngs=rngs), reverse=True, keep_order=True),
    )
    self.first = both(dim, nnx.LSTMCell, nnx.OptimizedLSTMCell)
    self.second = both(8, nnx.GRUCell, nnx.SimpleCell)
    self.head = nnx.Linear(8, 3, rngs=rngs)

  def __call__(self, ids):
    lengths = jnp.sum(ids > 0, axis=1)
    x = self.table(ids)
    x = self.first(x, seq_lengths=lengths)
    x = self.second(x, seq_lengths=lengths)
    return self.head(x.max(axis=1))


class LinenNetwork(linen.Module):
  @linen.compact
  def __call__(self, ids, train=False):
    x = linen.Embed(20, 12)(ids)
    x = linen.BatchNorm(use_running_average=not train)(x)
    x += linen.MultiHeadDotProductAttention(num_heads=3)(x)
    return linen.Dense(20)(x)


def linen_model(rngs):
  model = nnx.bridge.ToNNX(LinenNetwork(), rngs=rngs)
  return nnx.bridge.lazy_init(model, jnp.ones((2, 5), jnp.int32))


LINEN_AXES = {
  **dict.fromkeys(
    [
      f'MultiHeadDotProductAttention_0/{name}/kernel'
      for name in ('query', 'key', 'value')
    ],
    (0,),
  ),
  'MultiHeadDotProductAttention_0/out/kernel': (0, 1),
}
