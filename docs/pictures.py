"""Pictures of parameterizations: the network of their factors."""

import io
import itertools
import pathlib
from collections.abc import Mapping

import matplotlib
from matplotlib import figure

_GRAY, _BLUE = '#6b7280', '#1d4ed8'
# Same bytes in every build.
matplotlib.rcParams['svg.hashsalt'] = 'tt_compress'


def network(
  path: pathlib.Path, factors: Mapping[str, Mapping[str, int]]
) -> None:
  """Draws factors as boxes, shared indices as lines between them.

  Digits of rows leave upwards, those of columns downwards. Numbers are sizes.

  Args:
    path: of an SVG file.
    factors: the sizes of the indices of each factor, as `network` of a spec.
  """
  names = list(factors)
  made = figure.Figure(figsize=(1.9 * len(names) + 0.6, 2.3))
  axes = made.add_axes((0, 0, 1, 1))
  axes.set(xlim=(-0.9, len(names) - 0.1), ylim=(-1.3, 1.3))
  axes.axis('off')
  for index, size in _sizes(factors).items():
    places = [k for k, name in enumerate(names) if index in factors[name]]
    _draw_index(axes, index, size, places, factors)
  for place, name in enumerate(names):
    axes.text(
      place,
      0,
      name,
      ha='center',
      va='center',
      color='white',
      bbox=dict(boxstyle='round,pad=0.5', color=_BLUE),
      zorder=3,
    )
  data = io.BytesIO()
  made.savefig(data, format='svg', metadata={'Date': None})
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(data.getvalue())


def _sizes(factors):
  sizes = {}
  for indices in factors.values():
    sizes |= indices
  return {index: size for index, size in sizes.items() if size > 1}


def _draw_index(axes, index, size, places, factors):
  is_open = index[0] in 'ij'
  if not is_open:
    for left, right in itertools.pairwise(places):
      bend = 0 if right == left + 1 else 0.45
      _line(axes, left, right, bend, f'{index} = {size}')
    return
  sign = 1 if index[0] == 'i' else -1
  for place in places:
    mine = [k for k in factors[list(factors)[place]] if k[0] == index[0]]
    x = place + 0.28 * (mine.index(index) - (len(mine) - 1) / 2)
    axes.plot([x, x], [0, 0.75 * sign], color=_GRAY, lw=1.5, zorder=1)
    axes.text(
      x, 0.95 * sign, f'{index}\n{size}', ha='center', va='center', fontsize=8
    )


def _line(axes, left, right, bend, label):
  middle = (left + right) / 2
  axes.annotate(
    '',
    (right, 0),
    (left, 0),
    arrowprops=dict(
      arrowstyle='-',
      color=_GRAY,
      lw=1.5,
      connectionstyle=f'arc3,rad={-bend}',
    ),
    zorder=1,
  )
  axes.text(
    middle,
    0.12 + bend * (right - left) / 2,
    label,
    ha='center',
    fontsize=8,
  )
