"""The rows of a study, and the configuration of each of their runs."""

import copy
import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from tt_compress import configuration

_FIGURES = frozenset(('score', 'ratio'))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """A line of a table: how its runs differ, and what it is measured by.

  A ratio is that of numbers: of the dense network over those stored.

  Attributes:
    id: unique, such as 'slides-M6'.
    method: in a few words.
    overrides: settings of the study's configuration that differ, by dotted
      name.
    init_from: id of an earlier row: every run starts from its run of the same
      seed.
    published: 'score' and 'ratio' as printed, or nothing.
    corrected: 'score', 'ratio' and 'why', where what is printed does not hold.
    goal: 'score' and 'ratio' that are wanted at least, or nothing.
    counted: pattern of the paths of the matrices that the published ratio
      counts; everything if None.
    uncounted: pattern of those that it leaves out.
    note: what a reader must know beside that.

  Raises:
    ValueError: an entry of another form, named with the id of the row.
  """

  id: str
  method: str
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  init_from: str | None = None
  published: Mapping[str, float] = dataclasses.field(default_factory=dict)
  corrected: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  goal: Mapping[str, float] = dataclasses.field(default_factory=dict)
  counted: str | None = None
  uncounted: str | None = None
  note: str = ''

  def __post_init__(self):
    if not re.fullmatch(r'[\w.-]+', self.id):
      raise ValueError(
        f'row id {self.id!r} names a folder: use letters, digits, -, _ and .'
      )
    for name, known in (
      ('published', _FIGURES),
      ('goal', _FIGURES),
      ('corrected', _FIGURES | {'why'}),
    ):
      found = getattr(self, name)
      if found and set(found) != known:
        raise ValueError(
          f'row {self.id}: {name} has {sorted(found)}, not {sorted(known)}'
        )
    if self.counted and self.uncounted:
      raise ValueError(
        f'row {self.id}: counted={self.counted!r} and '
        f'uncounted={self.uncounted!r}; give one'
      )

  def counts(self, path: str) -> bool:
    """Whether the published ratio counts the matrix at a path."""
    if self.counted is not None:
      return re.fullmatch(self.counted, path) is not None
    return self.uncounted is None or not re.fullmatch(self.uncounted, path)

  @property
  def counted_text(self) -> str | None:
    """What the published ratio counts, for a reader; None if everything."""
    if self.counted is not None:
      return f'{self.counted} alone'
    return self.uncounted and f'all but {self.uncounted}'


def parse(study: Mapping) -> list[Row]:
  """The rows of a study.

  Raises:
    ValueError: no rows, an unknown entry, two rows of one id, or a row that
      starts from none of those before it.
  """
  rows, ids = [], []
  known = {field.name for field in dataclasses.fields(Row)}
  for number, entries in enumerate(study['rows']):
    where = f'row {entries.get("id", number)}'
    for name in entries:
      if name not in known:
        raise ValueError(
          f'{where}: unknown entry {name!r}; a row has {sorted(known)}'
        )
    row = Row(**entries)
    if row.id in ids:
      raise ValueError(f'{where}: there are two rows of this id')
    if row.init_from is not None and row.init_from not in ids:
      raise ValueError(
        f'{where}: init_from={row.init_from!r} is none of the rows before it, '
        f'{ids}'
      )
    rows.append(row)
    ids.append(row.id)
  if not rows:
    raise ValueError('a study needs rows')
  return rows


def select(rows: Sequence[Row], ids: Sequence[str]) -> list[Row]:
  """Rows by their ids; all for no ids.

  With them come those that they start from, and the first row, which all are
  compared with.

  Raises:
    ValueError: an unknown id.
  """
  by_id = {row.id: row for row in rows}
  wanted = {rows[0].id, *(ids or by_id)}
  for name in ids:
    if name not in by_id:
      raise ValueError(f'there is no row {name!r}; there are {list(by_id)}')
  for row in reversed(rows):
    if row.id in wanted and row.init_from is not None:
      wanted.add(row.init_from)
  return [row for row in rows if row.id in wanted]


def configure(
  config: ml_collections.ConfigDict, row: Row, seed: int
) -> ml_collections.ConfigDict:
  """The configuration of one run of a row.

  Args:
    config: of the study.
    row: one of its rows.
    seed: of the run.

  Raises:
    ValueError: an override of an unknown setting or of another type.
  """
  made = copy.deepcopy(config)
  is_tiny = config.study.is_tiny
  with made.unlocked():
    del made.study
  made.name = f'{config.name}/{row.id}'
  made.seed = seed
  for name, value in row.overrides.items():
    _override(made, name, value)
  if is_tiny:
    configuration.shrink(made)
  return made.lock()


def _override(config, name, value):
  if name in ('seed', 'init_from', 'name'):
    raise ValueError(
      f'{name} is set for every run of a study; leave the override out'
    )
  known = configuration.flatten(config.to_dict())
  groups = {key.rpartition('.')[0] for key in known}
  if name not in known and name not in groups:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    raise ValueError(
      f'unknown override {name!r}'
      + (f'; nearest: {", ".join(near)}' if near else '')
    )
  try:
    config.update_from_flattened_dict({name: value})
  except (KeyError, TypeError) as error:
    raise ValueError(f'override {name}={value!r}: {error}') from error
