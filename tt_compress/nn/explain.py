"""A table of the matrices of a model: what rules can reach, and what it is."""

import dataclasses
import math
import re

from flax import nnx

from tt_compress.nn import matrix, sites
from tt_compress.parameterizations import stacked


@dataclasses.dataclass(frozen=True)
class Line:
  """One matrix, or the matrices of a stack of layers.

  Attributes:
    path: that a rule matches; all paths of a shared matrix.
    layer: type of the layer, or of the module that holds the variable.
    shape: 'rows x cols', with the number of layers first.
    size: number of trained parameters; 0 for a weight that no rule reaches,
      which is counted among the others.
    form: how the matrix is written, or the reason why no rule reaches it.
    ratio: entries of the matrix per number that is kept.
  """

  path: str
  layer: str
  shape: str
  size: int
  form: str
  ratio: float


@dataclasses.dataclass(frozen=True)
class Table:
  """The matrices of a model; `print` shows a line for each.

  Attributes:
    lines: of all matrices, those that no rule reaches last.
    num_params: of the whole model.
  """

  lines: tuple[Line, ...]
  num_params: int

  def __str__(self):
    header = ('matrix', 'layer', 'shape', 'params', 'share', 'ratio', 'form')
    cells = [header] + [
      (
        line.path,
        line.layer,
        line.shape,
        f'{line.size:,}' if line.size else '',
        f'{line.size / self.num_params:.1%}' if line.size else '',
        f'{line.ratio:.2f}' if line.size else '',
        line.form,
      )
      for line in self.lines
    ]
    rest = self.num_params - sum(line.size for line in self.lines)
    cells.append(('all others', '', '', f'{rest:,}', '', '', ''))
    cells.append(('total', '', '', f'{self.num_params:,}', '', '', ''))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    align = lambda k, cell: (
      cell.rjust(widths[k]) if k in (3, 4, 5) else cell.ljust(widths[k])
    )
    return '\n'.join(
      '  '.join(align(k, cell) for k, cell in enumerate(row)).rstrip()
      for row in cells
    )

  __repr__ = __str__


def explain(model: nnx.Module) -> Table:
  """The matrices of any Flax NNX model, with the paths that rules match.

  For a model before or after `compress`. Layers that no rule reaches come last,
  with the reason.

  Args:
    model: its arrays may be abstract.
  """
  found = sites.find(model)
  lines = [_line(site) for site in found.sites]
  for site in found.variables:
    shape = site.weight.get_value().shape
    form = 'dense; a rule reaches it with row_axes='
    if len(shape) > 2:
      form += ', and stack_axes= for layers or experts'
    lines.append(_dense(site, shape, form))
  lines += [
    Line(path, '', '', 0, f'out of reach: {reason}', 1.0)
    for path, reason in found.unreached.items()
  ]
  return Table(tuple(lines), _num_params(model))


def _line(site: sites.Site) -> Line:
  axes = site.axes
  shape = (*axes.stack, axes.rows, axes.cols)
  if not isinstance(site.weight, matrix.Matrix):
    return _dense(site, shape, 'dense')
  spec = site.weight.spec
  # The shape has a column of its own.
  form = re.sub(r'rows=\d+, cols=\d+(, )?', '', str(stacked.first(spec)))
  ratio = spec.compression_ratio
  return Line(
    site.path, site.kind, _product(shape), spec.num_params, form, ratio
  )


def _dense(site: sites.Site, shape: tuple[int, ...], form: str) -> Line:
  return Line(
    site.path, site.kind, _product(shape), math.prod(shape), form, 1.0
  )


def _product(shape: tuple[int, ...]) -> str:
  return ' x '.join(map(str, shape))


def _num_params(model: nnx.Module) -> int:
  found = {
    id(node): node.get_value().size
    for _, node in nnx.iter_graph(model, graph=True)
    if isinstance(node, nnx.Param)
  }
  return sum(found.values())
