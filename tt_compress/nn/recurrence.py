"""The loop of a recurrent cell over the steps of a sequence."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Float32

from tt_compress.algebra import context
from tt_compress.nn import cells
from tt_compress.nn.dropout import Noise
from tt_compress.parallel import partition

# Arrays of one block, relative to the largest of them, that are used together.
_NUM_ARRAYS = 4


def run(
  cell: cells.Cell,
  x: Float[Array, 'length batch input'],
  is_token: Bool[Array, 'length batch'] | None,
  state: cells.State,
  noise: Noise | None = None,
) -> tuple[Float[Array, 'length batch hidden'], cells.State]:
  """The outputs h of all steps, in the dtype of x, and the last state.

  Steps are taken in blocks, whose arrays stay in the cache of a CPU. The
  product x W + b and the gradients of W and U are one product per block; h U
  and its gradient of h are one per step.

  Args:
    cell: whose steps are taken.
    x: inputs, in the order of the steps.
    is_token: false at padding, which changes no state; None if there is none.
    state: before the first step.
    noise: keys of stochastic matrices.
  """
  matrices = cell.input, cell.recurrent
  if noise is not None and any(each.spec.has_noise for each in matrices):
    return _run_with_noise(cell, x, is_token, state, noise)
  length, batch, _ = x.shape
  block = block_length(length, batch * cell.num_cols)
  project = cell.input.bound(block * batch, x.dtype, calls=length // block)
  take_steps = _differentiable(cell, state['h'].astype(x.dtype), length)

  def advance(state, inputs):
    x, is_token = inputs
    return take_steps(partition.replicate(project(x)), is_token, state)

  cut = lambda a: a.reshape(-1, block, *a.shape[1:])
  last, h = jax.lax.scan(advance, state, jax.tree.map(cut, (x, is_token)))
  return h.reshape(length, batch, -1), last


def block_length(length: int, size: int) -> int:
  """The number of steps of a block, which divides the length.

  Args:
    length: number of all steps.
    size: of the largest array of a step.
  """
  current = context.current()
  # On a mesh, devices would exchange x W in every block.
  if current.backend != 'cpu' or partition.size() > 1:
    return length
  most = max(1, current.machine.cache // (4 * _NUM_ARRAYS * size))
  found = max(n for n in range(1, length + 1) if not length % n and n <= most)
  # A prime length has short blocks alone, whose products are slow.
  return found if 4 * found >= most else length


def _run_with_noise(
  cell: cells.Cell,
  x: Float[Array, 'length batch input'],
  is_token: Bool[Array, 'length batch'] | None,
  state: cells.State,
  noise: Noise,
) -> tuple[Float[Array, 'length batch hidden'], cells.State]:
  """The same with W drawn once and U drawn anew in every step."""
  length, batch, _ = x.shape
  product = cell.recurrent.bound(batch, x.dtype, calls=length)

  def step(state, inputs):
    t, projected, is_token = inputs
    h = product(state['h'].astype(x.dtype), noise.at(t))
    state = _advance(cell, cell.join(projected, h), state, is_token)
    return state, state['h'].astype(x.dtype)

  steps = jnp.arange(length), cell.project(x, noise), is_token
  last, h = jax.lax.scan(step, state, steps)
  return h, last


def _differentiable(
  cell: cells.Cell, h: Float[Array, 'batch hidden'], length: int
) -> Callable[..., tuple[cells.State, Float[Array, 'block batch hidden']]]:
  """A function (projected, is_token, state) that takes the steps of a block.

  Returns the last state and the outputs. Its derivative computes the gradient
  of U as one product, where that of a scan would add one product per step.

  Args:
    cell: whose steps are taken.
    h: an example of its output, in the dtype of the products.
    length: number of steps of all blocks.
  """
  dtype = h.dtype
  # Functions with a derivative of their own must not close over parameters.
  product, constants = jax.closure_convert(
    cell.recurrent.bound(len(h), dtype, calls=length), h
  )

  def forward(constants, projected, is_token, state):
    def step(state, inputs):
      projected, is_token = inputs
      h = product(state['h'].astype(dtype), *constants)
      joined = cell.join(projected, h)
      after = _advance(cell, joined, state, is_token)
      return after, (after['h'].astype(dtype), joined, state)

    # Not unrolled: before steps were cut into blocks, gradients of 2 steps in
    # an iteration took 1.08 times as long on two cores.
    last, (h, *kept) = jax.lax.scan(step, state, (projected, is_token))
    return (last, h), (constants, is_token, *kept)

  def backward(residuals, gradients):
    constants, is_token, joined, states = residuals
    last, of_outputs = gradients

    def step(after, inputs):
      of_output, is_token, joined, state = inputs
      after = after | {'h': after['h'] + of_output.astype(jnp.float32)}
      advance = functools.partial(_advance, cell, is_token=is_token)
      of_joined, before = jax.vjp(advance, joined, state)[1](after)
      _, of_product = _of_products(cell, of_joined, dtype)
      h = state['h'].astype(dtype)
      [of_h] = jax.vjp(lambda h: product(h, *constants), h)[1](of_product)
      before['h'] += of_h.astype(jnp.float32)
      return before, of_joined

    first, of_joined = jax.lax.scan(
      step, last, (of_outputs, is_token, joined, states), reverse=True
    )
    of_projected, of_product = _of_products(cell, of_joined, dtype)
    all_steps = jax.vmap(product, (0, *len(constants) * [None]))
    before = states['h'].astype(dtype)
    _, pull = jax.vjp(functools.partial(all_steps, before), *constants)
    return list(pull(of_product)), of_projected, None, first

  @jax.custom_vjp
  def take_steps(*arguments):
    return forward(*arguments)[0]

  take_steps.defvjp(forward, backward)
  return functools.partial(take_steps, constants)


def _advance(
  cell: cells.Cell,
  joined: Float32[Array, 'batch joined'],
  state: cells.State,
  is_token: Bool[Array, ' batch'] | None,
) -> cells.State:
  """The next state; that of an example at padding is the state before."""
  after = cell.advance(joined, state)
  if is_token is None:
    return after
  return {
    name: jnp.where(is_token[:, None], after[name], old)
    for name, old in state.items()
  }


def _of_products(
  cell: cells.Cell, of_joined: Float32[Array, '*batch joined'], dtype: DTypeLike
) -> tuple[Float[Array, '*batch gates'], Float[Array, '*batch gates']]:
  """Gradients of the products x W + b and h U, from that of what they join."""
  shape = (*of_joined.shape[:-1], cell.num_cols)
  product = jnp.zeros_like(of_joined, dtype, shape=shape)
  return jax.linear_transpose(cell.join, product, product)(of_joined)
