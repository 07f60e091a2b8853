"""The factors of word2ket and word2ketXS as a figure, with their counts.

  python -m benchmarks.kets

Figure 3 of "Improving Space Efficiency of Deep Neural Networks": one word of
256 entries by word2ket, and 81 words of 16 entries by word2ketXS, both of order
4 and rank 5.
"""

import dataclasses
import math
import pathlib
from collections.abc import Sequence

from absl import app, flags

from tt_compress import parameterizations
from tt_compress.parameterizations import base
from tt_compress.studies.report import palette, plots

_FIGURE = flags.DEFINE_string(
  'kets', 'results/dissertation_f3.png', 'PNG file to write.'
)


@dataclasses.dataclass(frozen=True)
class Panel:
  """One of the two sides of the figure.

  Attributes:
    name: of the parameterization.
    spec: of the matrix.
    shape: rows and columns of one factor as it is drawn.
    whole: in words, what all factors stand for.
  """

  name: str
  spec: base.Parameterization
  shape: tuple[int, int]
  whole: str

  @property
  def num_factors(self) -> int:
    return self.spec.order * self.spec.rank

  @property
  def title(self) -> str:
    rows, cols = self.shape
    kind = f'vectors of {rows}' if cols == 1 else f'matrices of {rows} x {cols}'
    return (
      f'{self.name}, order {self.spec.order}, rank {self.spec.rank}\n'
      f'{self.num_factors} {kind}: {self.spec.num_params} numbers\n'
      f'for {self.whole}'
    )


def panels() -> tuple[Panel, Panel]:
  """Both sides of the figure.

  Raises:
    ValueError: the factors that are drawn are not those of the specs.
  """
  options = dict(order=4, rank=5)
  word = parameterizations.make('word2ket', 1, 256, **options)
  table = parameterizations.make('word2ketxs', 81, 16, **options)
  found = (
    Panel('word2ket', word, (4, 1), 'one word of 256 entries'),
    Panel('word2ketXS', table, (3, 2), 'an embedding of 81 x 16'),
  )
  for panel in found:
    drawn = panel.num_factors * math.prod(panel.shape)
    if drawn != panel.spec.num_params:
      raise ValueError(f'{panel.name} has {panel.spec.num_params}, not {drawn}')
  return found


def draw(axes, panel: Panel) -> None:
  """Draws the sum over the rank, a line of factors per term."""
  rows, cols = panel.shape
  wide, high = cols + 2, rows + 1
  order, rank = panel.spec.order, panel.spec.rank
  style = dict(ha='center', va='center', size=11, color=palette.INK)
  for k in range(rank):
    top = -k * high
    for j in range(order):
      for cell in range(rows * cols):
        i, column = divmod(cell, cols)
        corner = j * wide + column, top - i - 1
        axes.add_patch(_square(corner, palette.LINES[j]))
      if j:
        axes.text(j * wide - 1, top - rows / 2, '\u2297', **style)
    if k:
      axes.text(-1, top - rows / 2, '+', **style)
  axes.set(xlim=(-2, order * wide - 1), ylim=(-rank * high, 1), aspect='equal')
  axes.axis('off')
  axes.set_title(panel.title, size=10, color=palette.INK)


def _square(corner, color):
  patches = plots.library().patches
  return patches.Rectangle(corner, 1, 1, facecolor=color, edgecolor='white')


def write(path: str) -> None:
  """Draws both sides into a PNG file."""
  with plots.figure(9, 5) as drawn:
    for axes, panel in zip(drawn.subplots(1, 2), panels(), strict=True):
      draw(axes, panel)
    plots.save(drawn, path)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  write(_FIGURE.value)
  print('written:', pathlib.Path(_FIGURE.value))


if __name__ == '__main__':
  app.run(main)
