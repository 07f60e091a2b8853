"""Language models that read with a memory, as models that continue texts."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree


class Remembering:
  """A `protocol.Continuing` model whose cache is the memory of each hypothesis.

  Texts are read a token at a time, because the memory of a shorter text must
  not change while longer ones are read.

  Args:
    model: has `read(tokens, memory) -> (x, memory)`, `project` of x to logits
      and `config.memory_shapes(examples, length)`, whose zeros are the empty
      memory.
    memory_length: entries that it remembers; None for its own number.
    **options: of `read`.
  """

  def __init__(
    self,
    model: nnx.Module,
    memory_length: int | None = None,
    **options: Any,
  ):
    self._model = model
    self._shapes = functools.partial(
      model.config.memory_shapes, length=memory_length
    )
    self._read = functools.partial(model.read, **options)

  def start_text(
    self,
    tokens: Int[Array, 'batch length'],
    lengths: Int[Array, ' batch'],
    max_length: int,
    beam_size: int,
  ) -> tuple[tuple[()], PyTree]:
    """See `protocol.Continuing`; there is no limit to the number of steps."""
    del max_length
    empty = jax.tree.map(
      lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self._shapes(len(tokens))
    )

    def advance(memory, position):
      index, ids = position
      _, new = self._read(ids[:, None], memory)
      is_text = index < lengths
      select = jax.vmap(jnp.where)  # one example at a time
      return jax.tree.map(lambda a, b: select(is_text, a, b), new, memory), None

    positions = jnp.arange(tokens.shape[1]), jnp.asarray(tokens).T
    memory, _ = jax.lax.scan(advance, empty, positions)
    repeat = lambda leaf: jnp.repeat(leaf[:, None], beam_size, axis=1)
    return (), jax.tree.map(repeat, memory)

  def step(
    self,
    context: tuple[()],
    cache: PyTree,
    tokens: Int[Array, 'batch beam'],
    index: Int[Array, ''],
  ) -> tuple[Float[Array, 'batch beam vocab'], PyTree]:
    """See `protocol.Continuing`."""
    del context, index
    flat = lambda leaf: leaf.reshape(-1, *leaf.shape[2:])
    x, memory = self._read(tokens.reshape(-1, 1), jax.tree.map(flat, cache))
    split = lambda leaf: leaf.reshape(*tokens.shape, *leaf.shape[1:])
    logits = self._model.project(x[:, 0])
    return split(logits), jax.tree.map(split, memory)
