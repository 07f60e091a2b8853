"""A study's result as plots: scores against ratios, and training curves."""

import contextlib
import io
import os

from tt_compress.studies.report import about, curves, palette, scatter

# Not the user's settings: the same result is the same file everywhere.
_SETTINGS = {
  'axes.axisbelow': True,
  'axes.edgecolor': palette.GRAY,
  'axes.grid': True,
  'axes.labelsize': 11,
  'axes.spines.right': False,
  'axes.spines.top': False,
  'axes.titlelocation': 'left',
  'grid.color': palette.GRID,
  'svg.fonttype': 'none',
  'svg.hashsalt': 'tt_compress',
  'text.color': palette.INK,
  'text.parse_math': False,
}


def drawings(result: dict) -> tuple[tuple[str, str], ...]:
  """Every plot of a study.

  Args:
    result: of a study, as in `results/`.

  Returns:
    (caption, SVG) of score against ratio in stored numbers and in stored
    bits, and of the training curves where anything was trained.

  Raises:
    ImportError: matplotlib is missing; the message says what to install.
  """
  made = [(scatter.caption(key), ratios(result, key)) for key in scatter.AXES]
  if curves.rows(result):
    made.append((curves.CAPTION, training(result)))
  return tuple(made)


def ratios(result: dict, key: str = 'ratio') -> str:
  """Score against compression ratio as SVG.

  Args:
    result: of a study, as in `results/`.
    key: 'ratio' (of stored numbers) or 'bits_ratio'.

  Raises:
    ImportError: as `drawings`.
  """
  with _axes(result) as axes:
    scatter.draw(axes, result, key)
    return _svg(axes.figure)


def training(result: dict) -> str:
  """Validation score against steps as SVG; the rest as `ratios`."""
  with _axes(result) as axes:
    curves.draw(axes, result)
    return _svg(axes.figure)


def write(result: dict, folder: str | os.PathLike) -> str:
  """Writes score against ratio to `NAME.png` and returns its path."""
  os.makedirs(folder, exist_ok=True)
  path = os.path.join(folder, f'{result["name"]}.png')
  with _axes(result) as axes:
    scatter.draw(axes, result, 'ratio')
    save(axes.figure, path)
  return path


def save(drawn, path: str | os.PathLike, dpi: int = 160):
  """Writes a figure as PNG."""
  drawn.savefig(path, dpi=dpi, bbox_inches='tight', metadata={'Software': None})


def library():
  """The package that draws.

  Raises:
    ImportError: as `drawings`.
  """
  try:
    import matplotlib
    import matplotlib.figure
  except ImportError as error:
    raise ImportError(
      f"plots need {error.name}: pip install 'tt-compress[studies]', or "
      "'.[studies]' in a clone"
    ) from error
  return matplotlib


@contextlib.contextmanager
def figure(width: float, height: float):
  """A new figure of so many inches; settings hold until it is saved.

  Raises:
    ImportError: as `drawings`.
  """
  matplotlib = library()
  with matplotlib.rc_context():
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(_SETTINGS)
    # With 72 dots an inch a pixel is a point: labels are placed in either.
    yield matplotlib.figure.Figure((width, height), dpi=72)


@contextlib.contextmanager
def _axes(result):
  with figure(9, 6.2) as drawn:
    if about.stand_in(result):
      style = dict(color=palette.WARNING, weight='bold', ha='right', size=13)
      drawn.text(0.98, 0.955, 'STAND-IN DATA', **style)
    yield drawn.add_axes((0.09, 0.2, 0.89, 0.74))


def _svg(figure):
  """The figure, without the prolog, which has no place inside a page."""
  file = io.StringIO()
  nothing = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
  figure.savefig(file, format='svg', bbox_inches='tight', metadata=nothing)
  text = file.getvalue()
  return text[text.index('<svg') :]
