"""Parallel text in plain files: two aligned files, a .tsv or a .jsonl."""

import codecs
import gzip
import json
import lzma
import os
import re
import zlib

from tt_compress.data import corpus

MAX_LINE = 1_000_000  # characters; a longer "line" is not a sentence

_MAX_BYTES = 4 * MAX_LINE + 8  # more than MAX_LINE characters in UTF-8
_OPENERS = {'.gz': gzip.open, '.xz': lzma.open}
_CORRUPT = (EOFError, OSError, zlib.error, lzma.LZMAError)
_VARIABLE = re.compile(r'\$(?:(\w+)|\{(\w+)\})')


def load(split, *, files, source_key='source', target_key='target'):
  """Reads one split of a corpus kept in files, plain or .gz or .xz.

  Pairs with a blank side are left out, both sides, and counted in the log.

  Args:
    split: name of the split, a key of `files`.
    files: mapping from split to a pair (source path, target path) of aligned
      files, or to one .tsv (source TAB target) or .jsonl path. `~` and
      environment variables such as `$TT_COMPRESS_DATA` are expanded.
    source_key: key of the source sentence in a .jsonl line.
    target_key: key of the target sentence in a .jsonl line.

  Returns:
    A `Corpus`.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: an unset variable, an unknown split or form, or bad content,
      with file and line.
  """
  paths = [expand(path) for path in _paths(split, files)]
  if len(paths) == 2:
    pairs = _aligned(*paths)
  elif _bare_suffix(paths[0]) == '.tsv':
    pairs = _tsv(paths[0])
  elif _bare_suffix(paths[0]) == '.jsonl':
    pairs = _jsonl(paths[0], source_key, target_key)
  else:
    raise ValueError(
      f'{paths[0]}: a single file must be .tsv or .jsonl (also .gz or .xz); '
      'for plain text give a pair (source path, target path)'
    )
  return corpus.from_pairs(pairs, ' | '.join(paths))


def expand(path):
  """Expands `~` and environment variables; an unset variable is an error."""
  path = os.fspath(path)
  for match in _VARIABLE.finditer(path):
    name = match[1] or match[2]
    if not os.environ.get(name):
      raise ValueError(
        f'{path}: the environment variable {name} is not set; set it to the '
        f'folder that holds the data (export {name}=/path/to/data)'
      )
  return os.path.expanduser(os.path.expandvars(path))


def read_lines(path):
  """Lists the lines of a UTF-8 file, plain or .gz or .xz.

  Lines end at `\\n` alone, so a line separator inside a sentence cannot shift
  one side against the other. A byte order mark and a final `\\r` are removed.

  Raises:
    FileNotFoundError: no such file.
    ValueError: empty or damaged file; invalid UTF-8, a NUL byte or an absurdly
      long line, with file and line.
  """
  if not os.path.exists(path):
    raise FileNotFoundError(f'{path}: no such file')
  if os.path.isdir(path):
    raise ValueError(f'{path}: a folder, not a file')
  opener = _OPENERS.get(os.path.splitext(path)[1].lower(), open)
  try:
    with opener(path, 'rb') as file:
      lines = decode_lines(file, path)
  except _CORRUPT as error:
    raise ValueError(
      f'{path}: cannot read it to its end ({error}); the file is damaged or '
      'not what its ending says'
    ) from error
  if not lines:
    raise ValueError(f'{path}: empty file')
  return lines


def decode_lines(file, name):
  """Lists the lines of an open binary file, as `read_lines` does.

  Args:
    file: what is read, e.g. `sys.stdin.buffer`.
    name: what errors call it.

  Raises:
    ValueError: invalid UTF-8, a NUL byte or an absurdly long line.
  """
  lines = []
  # The bound stops a file without line ends from filling the memory.
  while line := file.readline(_MAX_BYTES):
    lines.append(_decode(line, name, len(lines) + 1))
  return lines


def _decode(line, path, number):
  where = f'{path}:{number}'
  too_long = len(line) == _MAX_BYTES
  line = line.removesuffix(b'\n').removesuffix(b'\r')
  if number == 1:
    line = line.removeprefix(codecs.BOM_UTF8)
  if b'\0' in line:
    raise ValueError(f'{where}: NUL byte; is this UTF-8 text?')
  try:
    text = '' if too_long else line.decode('utf-8')
  except UnicodeDecodeError as error:
    raise ValueError(
      f'{where}: invalid UTF-8 at byte {error.start} of the line '
      f'({error.reason}); convert the file to UTF-8'
    ) from error
  if too_long or len(text) > MAX_LINE:
    raise ValueError(
      f'{where}: a line of more than {MAX_LINE} characters; one sentence a '
      'line is expected'
    )
  return text


def _paths(split, files):
  if split not in files:
    raise ValueError(
      f'no files for split {split!r}; files are given for {sorted(files)}'
    )
  paths = files[split]
  paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
  if len(paths) not in (1, 2):
    raise ValueError(
      f'files[{split!r}] has {len(paths)} paths; give a pair (source, target) '
      'or one .tsv or .jsonl'
    )
  return paths


def _bare_suffix(path):
  stem, suffix = os.path.splitext(path)
  return os.path.splitext(stem)[1] if suffix.lower() in _OPENERS else suffix


def _aligned(source_path, target_path):
  source, target = read_lines(source_path), read_lines(target_path)
  if len(source) != len(target):
    raise ValueError(
      f'{len(source)} lines in {source_path} but {len(target)} in '
      f'{target_path}; line i of one must translate line i of the other'
    )
  return zip(source, target, strict=True)


def _tsv(path):
  for number, line in enumerate(read_lines(path), 1):
    columns = line.split('\t') if line.strip() else ['', '']
    if len(columns) != 2:
      raise ValueError(
        f'{path}:{number}: {len(columns)} columns; source TAB target needs 2'
      )
    yield columns


def _jsonl(path, *keys):
  for number, line in enumerate(read_lines(path), 1):
    if line.strip():
      yield _json_pair(line, keys, f'{path}:{number}')
    else:
      yield '', ''


def _json_pair(line, keys, where):
  try:
    row = json.loads(line)
  except (json.JSONDecodeError, RecursionError) as error:
    raise ValueError(f'{where}: bad JSON ({error})') from error
  if not isinstance(row, dict):
    raise ValueError(f'{where}: a JSON object is expected, not {line[:40]!r}')
  for key in keys:
    if key not in row:
      raise ValueError(
        f'{where}: no key {key!r} among {sorted(row)}; name the keys with '
        'source_key and target_key'
      )
    if not isinstance(row[key], str):
      raise ValueError(f'{where}: {key!r} is {row[key]!r}, not a string')
    if re.search('[\0\ud800-\udfff]', row[key]):
      raise ValueError(f'{where}: {key!r} holds NUL or half a surrogate pair')
  return [row[key] for key in keys]
