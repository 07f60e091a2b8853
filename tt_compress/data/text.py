"""Parallel text in files: two aligned files, one with columns, or .jsonl."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tt_compress.data import corpus, holding_out, text_files

SIDES = ('source', 'target')

Fields = Iterable[Sequence[str]]


def load(
  split: str,
  *,
  files: Mapping[str, str | Sequence[str]],
  columns: Sequence[str] = SIDES,
  source_key: str = 'source',
  target_key: str = 'target',
  num_validation: int | None = None,
  num_test: int | None = None,
) -> corpus.Corpus:
  """Reads one split of a corpus kept in files, plain or .gz or .xz.

  Pairs with a blank side are left out, both sides, and counted in the log.

  Args:
    split: name of the split, a key of `files`.
    files: mapping from split to a pair of paths of aligned files, or to one
      path of a .tsv or .txt file with TAB between columns, or of a .jsonl file.
      `~` and environment variables such as `$TT_COMPRESS_DATA` are expanded.
    columns: the name of each column, or of each aligned file: 'source',
      'target', or any other name for a column that is left out. ('target',
      'source') reverses the direction.
    source_key: key of the source sentence in a .jsonl line.
    target_key: key of the target sentence in a .jsonl line.
    num_validation: number of pairs that are held out of the training files, for
      validation, see `holding_out.split`; None if `files` has the split.
    num_test: number of pairs that are held out for the test.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: an unset variable, an unknown split or form, a split that is
      both held out and in files, or bad content, with file and line.
  """
  columns = _checked(columns)
  sizes = {'validation': num_validation, 'test': num_test}
  sizes = {name: size for name, size in sizes.items() if size is not None}
  for name in sizes:
    if name in files:
      raise ValueError(
        f'num_{name}={sizes[name]} holds out {name} pairs, but files has '
        f'{name!r}: {files[name]!r}; leave out one of them'
      )
  pairs_of = lambda name: FilePairs(
    tuple(text_files.paths(name, files, max_paths=len(columns))),
    columns,
    source_key,
    target_key,
  )
  if split in sizes or (sizes and split == 'train'):
    return _held_out(pairs_of('train'), tuple(sizes.items()))[split]
  return _read(pairs_of(split))


def _checked(columns: Sequence[str]) -> tuple[str, ...]:
  columns = tuple(columns)
  if any(columns.count(side) != 1 for side in SIDES):
    raise ValueError(
      f"columns={columns} must have 'source' and 'target' once each; other "
      'names are left out'
    )
  return columns


# Three splits are read once.
@functools.lru_cache(maxsize=1)
def _held_out(
  pairs: 'FilePairs', sizes: tuple[tuple[str, int], ...]
) -> dict[str, corpus.Corpus]:
  return holding_out.split(_read(pairs), dict(sizes))


@dataclasses.dataclass(frozen=True)
class FilePairs:
  """The pairs of files, which are read in every pass.

  Attributes:
    paths: of one file, or of aligned ones.
    columns, source_key, target_key: as of `load`.
  """

  paths: tuple[str, ...]
  columns: tuple[str, ...]
  source_key: str
  target_key: str

  def __iter__(self) -> Iterator[corpus.Pair]:
    suffix = text_files.suffix(self.paths[0])
    if len(self.paths) > 1:
      return self._sides(_aligned(self.paths, self.columns))
    if suffix in ('.tsv', '.txt'):
      return self._sides(_tsv(self.paths[0], self.columns))
    if suffix != '.jsonl':
      raise ValueError(
        f'{self.paths[0]}: a single file must be .tsv, .txt or .jsonl (also '
        '.gz or .xz); for plain text give a pair (source path, target path)'
      )
    if self.columns != SIDES:
      raise ValueError(
        f'columns={self.columns} but {self.paths[0]} has keys; set source_key '
        'and target_key instead'
      )
    keys = dict(source_key=self.source_key, target_key=self.target_key)
    return _jsonl(self.paths[0], keys)

  def _sides(self, entries: Fields) -> Iterator[corpus.Pair]:
    source, target = (self.columns.index(side) for side in SIDES)
    return ((fields[source], fields[target]) for fields in entries)


def _read(pairs: FilePairs) -> corpus.Corpus:
  # The name goes into results, which move between machines; paths do not.
  names = ['/'.join(path.split(os.sep)[-2:]) for path in pairs.paths]
  form = [pairs.columns, pairs.source_key, pairs.target_key]
  return corpus.of_files(pairs, ' | '.join(names), pairs.paths, form)


def _aligned(paths: Sequence[str], columns: Sequence[str]) -> Fields:
  if len(paths) != len(columns):
    raise ValueError(f'{len(paths)} aligned files for the columns {columns}')
  lines = [text_files.each_line(path) for path in paths]
  number = 0
  for fields in itertools.zip_longest(*lines):
    if None in fields:
      counts = [
        number if field is None else number + 1 + sum(1 for _ in rest)
        for field, rest in zip(fields, lines, strict=True)
      ]
      other = next(i for i, n in enumerate(counts) if n != counts[0])
      raise ValueError(
        f'{counts[0]} lines in {paths[0]} but {counts[other]} in '
        f'{paths[other]}; line i of one must translate line i of the other'
      )
    number += 1
    yield fields


def _tsv(path: str, columns: Sequence[str]) -> Iterator[Sequence[str]]:
  for number, line in enumerate(text_files.read_lines(path), 1):
    fields = line.split('\t') if line.strip() else [''] * len(columns)
    if len(fields) != len(columns):
      raise ValueError(
        f'{path}:{number}: {len(fields)} columns, not {len(columns)} with TAB '
        f'between them: {", ".join(columns)}'
      )
    yield fields


def _jsonl(path: str, keys: Mapping[str, str]) -> Iterator[Sequence[str]]:
  for number, line in enumerate(text_files.read_lines(path), 1):
    if not line.strip():
      yield '', ''
      continue
    where = f'{path}:{number}'
    values = text_files.json_values(line, keys, where)
    yield [
      text_files.check_text(value, key, where)
      for key, value in zip(keys.values(), values, strict=True)
    ]
