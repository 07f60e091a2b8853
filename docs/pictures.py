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
  names = _order(factors)
  factors = {name: factors[name] for name in names}
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


def _order(factors):
  """The names of the factors, one that all others share in their middle."""
  names = list(factors)
  first, *others = names
  is_hub = len(names) > 3 and all(
    factors[first].keys() & factors[name].keys() for name in others
  )
  if is_hub:
    half = len(others) // 2
    names = [*others[:half], first, *others[half:]]
  return names


def _sizes(factors):
  sizes = {}
  for indices in factors.values():
    sizes |= indices
  return {index: size for index, size in sizes.items() if size > 1}


def _draw_index(axes, index, size, places, factors):
  is_open = index[0] in 'ij'
  if not is_open:
    for left, right in itertools.pairwise(places):
      between = [factors[k] for k in list(factors)[left + 1 : right]]
      bend = 0.35 if between else 0
      if between and not any(k[0] == 'j' for each in between for k in each):
        bend = -bend  # Below them, where no digit leaves.
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
    0.12 + bend * (right - left) / 2 - 0.25 * (bend < 0),
    label,
    ha='center',
    fontsize=8,
    bbox=dict(color='white', pad=1),
    zorder=2,
  )
