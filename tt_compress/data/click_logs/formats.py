"""Formats of click logs: one example per line, one field per column."""

import dataclasses
from typing import Literal

Kind = Literal['label', 'count', 'integer', 'hexadecimal', 'hour', 'ignored']


@dataclasses.dataclass(frozen=True)
class Format:
  """The columns of a file.

  Kinds of columns:
    label: 1 for a click, 0 for none.
    count: an integer x that is bucketed, x for x <= 2 and 2 + floor(ln(x)^2)
      above.
    integer: an integer that names a category.
    hexadecimal: a category of 8 hexadecimal digits.
    hour: digits that end in the hour of the day, from which the category is.
    ignored: anything.

  An empty field is a category of its own in each column.

  Attributes:
    delimiter: one character between the fields.
    columns: pairs of name and kind, exactly one of them a label.
    has_header: whether the first line of a file may name the columns.
  """

  delimiter: str
  columns: tuple[tuple[str, Kind], ...]
  has_header: bool = False

  @property
  def features(self) -> tuple[str, ...]:
    """Names of the columns that are features."""
    return tuple(
      name for name, kind in self.columns if kind not in ('label', 'ignored')
    )

  def places(self, kind: Kind) -> list[int]:
    """The columns of a kind."""
    return [k for k, (_, other) in enumerate(self.columns) if other == kind]


def _columns(names: str, kind: Kind) -> tuple[tuple[str, Kind], ...]:
  return tuple((name, kind) for name in names.split())


_COUNTS = ' '.join(f'I{k}' for k in range(1, 14))
_CATEGORIES = ' '.join(f'C{k}' for k in range(1, 27))

# {name: format}. 'criteo' is train.txt of the Kaggle challenge, 'avazu' its
# train.csv, 'indexed' the columns of 'criteo' with categories by number.
FORMATS = {
  'criteo': Format(
    '\t',
    _columns('label', 'label')
    + _columns(_COUNTS, 'count')
    + _columns(_CATEGORIES, 'hexadecimal'),
  ),
  'avazu': Format(
    ',',
    _columns('id', 'ignored')
    + _columns('click', 'label')
    + _columns('hour', 'hour')
    + _columns('C1 banner_pos', 'integer')
    + _columns('site_id site_domain site_category', 'hexadecimal')
    + _columns('app_id app_domain app_category', 'hexadecimal')
    + _columns('device_id device_ip device_model', 'hexadecimal')
    + _columns('device_type device_conn_type', 'integer')
    + _columns('C14 C15 C16 C17 C18 C19 C20 C21', 'integer'),
    has_header=True,
  ),
  'indexed': Format(
    ',',
    _columns('label', 'label')
    + _columns(f'{_COUNTS} {_CATEGORIES}', 'integer'),
  ),
}
