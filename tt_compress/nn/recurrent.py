"""Recurrent layers over padded batches, in one direction or in both."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Float32, Int

from tt_compress.nn import cells, recurrence
from tt_compress.nn.dropout import Noise, dropout

# By name, each [batch, cells, hidden_dim].
States = dict[str, Float32[ArrayLike, 'batch cells hidden']]

DIRECTIONS = ('forward', 'backward')


class Recurrent(nnx.Module):
  """Layers of recurrent cells.

  Paths of its matrices: `layers/K/DIRECTION/input` and `.../recurrent`.

  Args:
    cell: a name in `cells.CELLS`.
    input_dim: size of the feature axis of the inputs.
    hidden_dim: size of the state of one cell.
    num_layers: layers; each reads the outputs of the layer before.
    directions: 'forward', 'backward' or both, whose outputs are concatenated.
    dropout: rate of dropout between layers.
    variational: whether all steps of an example have the same dropout mask.
    rngs: source of the keys.
    **options: of every cell.

  Raises:
    ValueError: an unknown cell or direction, or no layer.

  Reference: Schuster and Paliwal, "Bidirectional Recurrent Neural Networks";
    Gal and Ghahramani, "A Theoretically Grounded Application of Dropout in
    Recurrent Neural Networks", for the masks of `variational`.
  """

  def __init__(
    self,
    cell: str,
    input_dim: int,
    hidden_dim: int,
    *,
    num_layers: int = 1,
    directions: Sequence[str] = ('forward',),
    dropout: float = 0.0,
    variational: bool = False,
    rngs: nnx.Rngs,
    **options,
  ):
    _check(cell, num_layers, directions)
    # An `nnx.Dict` is sorted by name when a model is merged.
    self.directions = tuple(name for name in DIRECTIONS if name in directions)
    self.dropout = dropout
    self.variational = variational
    make = lambda dim: cells.CELLS[cell](dim, hidden_dim, rngs=rngs, **options)
    output_dim = len(self.directions) * hidden_dim
    dims = [input_dim] + (num_layers - 1) * [output_dim]
    self.layers = nnx.List(
      [nnx.Dict({name: make(dim) for name in self.directions}) for dim in dims]
    )

  def __call__(
    self,
    x: Float[ArrayLike, 'batch length input'],
    lengths: Int[ArrayLike, ' batch'] | None = None,
    states: States | None = None,
    noise: Noise | None = None,
  ) -> tuple[Float[Array, 'batch length output'], States]:
    """Outputs of the last layer, and the last states of all cells.

    Padding changes no state, and outputs at padding are zero. So the last state
    of the forward direction is that after the last token of an example, and
    that of the backward direction the one after the first token.

    Args:
      x: inputs; products are in their dtype.
      lengths: number of tokens of each example, which padding follows. None
        reads padding as tokens, as the released code of "Tensorized Embedding
        Layers" does: its last state is that after 1,000 steps, most of them
        padding.
      states: before the first step; zeros if None. Cells are in the order of
        layers and, in a layer, of directions.
      noise: keys of dropout and of stochastic matrices; None means
        deterministic.

    Returns:
      Outputs [batch, length, directions * hidden_dim], and the states.
    """
    is_token = None
    if lengths is not None:
      is_token = jnp.arange(x.shape[1]) < jnp.asarray(lengths)[:, None]
    last = []
    for number, layer in enumerate(self.layers):
      if number:
        x = self._drop(x, noise)
      layer = {name: layer[name] for name in self.directions}
      first = {}
      if states is not None:
        first = {
          name: _take(states, len(last) + k) for k, name in enumerate(layer)
        }
      x, after = _run(layer, x, is_token, first, noise)
      last += after
    return x, jax.tree.map(lambda *each: jnp.stack(each, axis=1), *last)

  def _drop(
    self, x: Float[Array, 'batch length dim'], noise: Noise | None
  ) -> Float[Array, 'batch length dim']:
    if self.variational:
      return x * dropout(jnp.ones_like(x[:, :1]), self.dropout, noise)
    return dropout(x, self.dropout, noise)


def _run(
  layer: Mapping[str, cells.Cell],
  x: Float[ArrayLike, 'batch length input'],
  is_token: Bool[Array, 'batch length'] | None,
  states: Mapping[str, cells.State],
  noise: Noise | None,
) -> tuple[Float[Array, 'batch length output'], list[cells.State]]:
  """The outputs of one layer, and the last state of each direction.

  Args:
    layer: its cells by direction.
    x: inputs.
    is_token: false at padding; None if there is none.
    states: before the first step, by direction; zeros if empty.
    noise: keys of stochastic matrices.
  """
  outputs, last = [], []
  swap = lambda a: jnp.swapaxes(a, 0, 1)
  for direction, cell in layer.items():
    turn = slice(None, None, 1 if direction == 'forward' else -1)
    tokens = None if is_token is None else swap(is_token)[turn]
    first = states.get(direction) or cell.start(x[:, 0])
    y, state = recurrence.run(cell, swap(x)[turn], tokens, first, noise)
    outputs.append(swap(y[turn]))
    last.append(state)
  y = jnp.concatenate(outputs, axis=-1)
  if is_token is not None:
    y = jnp.where(is_token[..., None], y, 0)
  return y, last


def _take(states: States, number: int) -> cells.State:
  return {name: a[:, number] for name, a in states.items()}


def _check(cell: str, num_layers: int, directions: Sequence[str]) -> None:
  if cell not in cells.CELLS:
    raise ValueError(f'cell={cell!r} must be one of {", ".join(cells.CELLS)}')
  if num_layers < 1:
    raise ValueError(f'num_layers={num_layers} must be at least 1')
  if sorted(directions) not in (['backward'], ['forward'], sorted(DIRECTIONS)):
    raise ValueError(
      f"directions={directions!r} must be ('forward',), ('backward',) or both"
    )
