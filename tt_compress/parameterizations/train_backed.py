"""The ground of parameterizations whose matrix is that of a tensor train."""

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Float, Int, Shaped

from tt_compress.algebra import contractions, modes, train_inner, trains
from tt_compress.parameterizations import base


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainBacked(base.Parameterization):
  """W is the upper left part of the matrix of a train.

  A subclass defines `_train`, and every product follows: one planner chooses
  how to contract the train. A sum of Kronecker products, for example, is a
  train of two cores.

  Attributes:
    contraction: restricts the contractions to choose from. A subclass makes it
      an option by a field of this name.
  """

  contraction: ClassVar[contractions.Restriction] = 'auto'

  def _train(self, factors: base.Factors) -> trains.Cores:
    """The cores of the train of these factors."""
    raise NotImplementedError(f'{type(self).__name__} has no _train')

  def full(self, factors):
    return trains.full(self._train(factors))[: self.rows, : self.cols]

  def _look_up(self, factors, ids):
    return trains.rows(
      self._train(factors),
      self._ids_of_train(ids),
      self.cols,
      restriction=self.contraction,
    )

  def _apply(self, factors, x):
    train = self._train(factors)
    x = self._rows_to_train(x, trains.matrix_shape(train)[0])
    return trains.apply(train, x, self.contraction)[..., : self.cols]

  def _attend(self, factors, x):
    train = self._train(factors)
    x = base.pad(x, trains.matrix_shape(train)[1])
    logits = trains.apply(trains.transpose(train), x, self.contraction)
    return self._rows_from_train(logits)

  def makes_full(self, factors, tokens):
    train = trains.transpose(self._train(factors))
    return trains.makes_full(train, tokens, self.contraction)

  def row_blocks(self, factors, count):
    make_block, slices = trains.blocks_of_rows(self._train(factors), count)
    return lambda piece: make_block(piece)[:, : self.cols], slices

  def squared_norm(self, factors):
    train = self._train(factors)
    _, row_modes, col_modes, _ = zip(*trains.shapes(train), strict=True)
    return trains.squared_norm(
      train, self._row_boxes(row_modes), modes.boxes(self.cols, col_modes)
    )

  def _inner(self, factors, ids, other_ids):
    train = self._train(factors)
    if train_inner.needs_rows(trains.shapes(train), self.cols):
      return super()._inner(factors, ids, other_ids)
    ids, other_ids = map(self._ids_of_train, (ids, other_ids))
    return train_inner.of_pairs(train, ids, other_ids, self.cols)

  def _ids_of_train(self, ids: Int[Array, '*batch']) -> Int[Array, '*batch']:
    """The rows of the train that are these rows of W."""
    return ids

  def _row_boxes(self, sizes: tuple[int, ...]) -> list[trains.Box]:
    """The digits of the rows of W, in boxes, for row modes of these sizes."""
    return modes.boxes(self.rows, sizes)

  def _rows_to_train(
    self, x: Shaped[Array, '*batch rows'], size: int
  ) -> Shaped[Array, '*batch size']:
    """An axis of rows of W as an axis of rows of the train, `size` of them."""
    return base.pad(x, size)

  def _rows_from_train(
    self, x: Float[Array, '*batch size']
  ) -> Float[Array, '*batch rows']:
    """An axis of rows of the train as an axis of rows of W."""
    return x[..., : self.rows]
