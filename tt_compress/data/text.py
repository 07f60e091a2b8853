"""Parallel text in plain files: two aligned files, a .tsv or a .jsonl."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tt_compress.data import corpus, text_files

Pairs = Iterable[Sequence[str]]


def load(
  split: str,
  *,
  files: Mapping[str, str | Sequence[str]],
  source_key: str = 'source',
  target_key: str = 'target',
) -> corpus.Corpus:
  """Reads one split of a corpus kept in files, plain or .gz or .xz.

  Pairs with a blank side are left out, both sides, and counted in the log.

  Args:
    split: name of the split, a key of `files`.
    files: mapping from split to a pair (source path, target path) of aligned
      files, or to one .tsv (source TAB target) or .jsonl path. `~` and
      environment variables such as `$TT_COMPRESS_DATA` are expanded.
    source_key: key of the source sentence in a .jsonl line.
    target_key: key of the target sentence in a .jsonl line.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: an unset variable, an unknown split or form, or bad content,
      with file and line.
  """
  paths = text_files.paths(split, files, max_paths=2)
  if len(paths) == 2:
    pairs = _aligned(*paths)
  elif text_files.suffix(paths[0]) == '.tsv':
    pairs = _tsv(paths[0])
  elif text_files.suffix(paths[0]) == '.jsonl':
    keys = dict(source_key=source_key, target_key=target_key)
    pairs = _jsonl(paths[0], keys)
  else:
    raise ValueError(
      f'{paths[0]}: a single file must be .tsv or .jsonl (also .gz or .xz); '
      'for plain text give a pair (source path, target path)'
    )
  return corpus.from_pairs(pairs, ' | '.join(paths))


def _aligned(source_path: str, target_path: str) -> Pairs:
  source, target = (
    text_files.read_lines(source_path),
    text_files.read_lines(target_path),
  )
  if len(source) != len(target):
    raise ValueError(
      f'{len(source)} lines in {source_path} but {len(target)} in '
      f'{target_path}; line i of one must translate line i of the other'
    )
  return zip(source, target, strict=True)


def _tsv(path: str) -> Iterator[Sequence[str]]:
  for number, line in enumerate(text_files.read_lines(path), 1):
    columns = line.split('\t') if line.strip() else ['', '']
    if len(columns) != 2:
      raise ValueError(
        f'{path}:{number}: {len(columns)} columns; source TAB target needs 2'
      )
    yield columns


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
