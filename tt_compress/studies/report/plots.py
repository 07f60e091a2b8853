"""The figures of a study as PNG files."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator

from tt_compress.studies import results
from tt_compress.studies.report import (
  curves,
  lines,
  palette,
  progress,
  scatter,
)

# Not the user's settings: the same result gives the same file everywhere.
_SETTINGS = {
  'axes.axisbelow': True,
  'axes.edgecolor': palette.GRAY,
  'axes.grid': True,
  'axes.labelsize': 11,
  'axes.spines.right': False,
  'axes.spines.top': False,
  'axes.titlelocation': 'left',
  'grid.color': palette.GRID,
  'text.color': palette.INK,
  'text.parse_math': False,
}
_TRAINING = 'training'


def captions(result: results.Result) -> dict[str, str]:
  """The names of a study's figures, and a caption of each."""
  return {name: caption for name, (caption, _) in _drawings(result).items()}


def write(result: results.Result, folder: str | os.PathLike) -> list[str]:
  """Draws every figure of a study.

  Returns:
    Their paths.

  Raises:
    ImportError: a package is missing; the message says what to install.
  """
  paths = []
  for name, (_, draw) in _drawings(result).items():
    paths.append(os.path.join(folder, name))
    with axes(result) as drawn:
      draw(drawn)
      save(drawn.figure, paths[-1])
  return paths


def _drawings(result) -> dict[str, tuple[str, Callable]]:
  """Captions, and functions that draw on given axes, by file."""
  if not any(row.runs for row in result.rows):
    return {}
  kinds = {'scatter': scatter, 'lines': lines, 'progress': progress}
  found = {
    figure.file: (
      kinds[figure.kind].caption(result, figure),
      functools.partial(kinds[figure.kind].draw, result=result, figure=figure),
    )
    for figure in result.figures
  }
  if curves.rows(result):
    draw = functools.partial(curves.draw, result=result)
    found[_TRAINING] = curves.caption(result), draw
  return {
    f'{result.name}-{ending}.png' if ending else f'{result.name}.png': drawing
    for ending, drawing in found.items()
  }


@contextlib.contextmanager
def axes(result: results.Result) -> Iterator:
  """Empty axes; data of another kind are named above them."""
  with figure(9, 6.2) as drawn:
    if result.notice:
      style = dict(color=palette.WARNING, weight='bold', ha='right', size=13)
      drawn.text(0.98, 0.955, result.notice.partition(':')[0], **style)
    yield drawn.add_axes((0.09, 0.2, 0.89, 0.74))


def library():
  """The package that draws.

  Raises:
    ImportError: it is missing; the message says what to install.
  """
  try:
    import adjustText  # noqa: F401 - for labels
    import matplotlib
    import matplotlib.figure
  except ImportError as error:
    raise ImportError(
      f"plots need {error.name}: pip install 'tt-compress[studies]', or "
      "'.[studies]' in a clone"
    ) from error
  return matplotlib


@contextlib.contextmanager
def figure(width: float, height: float) -> Iterator:
  """A new figure of so many inches; settings hold until it is saved.

  Raises:
    ImportError: as `library`.
  """
  matplotlib = library()
  with matplotlib.rc_context():
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(_SETTINGS)
    yield matplotlib.figure.Figure((width, height), dpi=72)


def save(drawn, path: str | os.PathLike, dpi: int = 160) -> None:
  """Writes a figure as PNG."""
  drawn.savefig(path, dpi=dpi, bbox_inches='tight', metadata={'Software': None})
