"""Click logs in files of any size, encoded once and then memory-mapped."""

import os
from collections.abc import Mapping, Sequence

from tt_compress.data import corpus, disk_cache, text_files
from tt_compress.data.click_logs import click_log, encoding, formats

CACHE = disk_cache.root('click_logs')
# Changes when the same files and options give other ids.
_VERSION = 1
_MAX_PATHS = 10_000


def load(
  split: str,
  *,
  files: Mapping[str, str | Sequence[str]],
  format: str = 'criteo',
  min_count: int = 4,
  modulus: int | None = None,
  held_out: float = 0.1,
  drop_repeats: bool = False,
  folder: str = CACHE,
) -> click_log.ClickLog:
  """Reads one split of a click log.

  The first call encodes all splits into a subfolder of `folder`, which needs
  disk space of 4 bytes per value and memory for the distinct values alone;
  later calls with the same files and options map it into memory. A value gets
  an id by how often it occurs in training rows, 1 for the most frequent one of
  a feature. Rare and unseen values share id 0.

  Args:
    split: 'train', 'validation' or 'test'.
    files: {split: path or paths}, 'train' among them, plain or .gz or .xz. `~`
      and environment variables such as `$TT_COMPRESS_DATA` are expanded.
    format: a key of `formats.FORMATS`.
    min_count: rarer values share id 0.
    modulus: M for ids modulo M; None to keep them.
    held_out: share of the rows of the training files that each of 'validation'
      and 'test' takes if `files` does not name it.
    drop_repeats: whether to leave out rows of the other files that are equal to
      a row of the training files; this needs memory of 8 bytes per row.
    folder: of the encoded logs.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: an option out of range, or bad content, with file and line.
  """
  _check(files, format, min_count, modulus, held_out)
  how = encoding.Encoding(
    paths={
      name: text_files.paths(name, files, _MAX_PATHS)
      for name in corpus.SPLITS
      if name in files
    },
    taken=[name for name in corpus.SPLITS if name not in files],
    layout=formats.FORMATS[format],
    min_count=min_count,
    modulus=modulus,
    held_out=held_out,
    drop_repeats=drop_repeats,
  )
  root = text_files.expand(folder)
  facts = {name: disk_cache.identities(own) for name, own in how.paths.items()}
  options = [_VERSION, format, min_count, held_out, how.taken, drop_repeats]
  with text_files.unchanged(
    [path for own in how.paths.values() for path in own]
  ):
    counted = disk_cache.folder(root, [options, facts['train']], how.count)
    encoded = disk_cache.folder(
      root, [options, facts, modulus], lambda path: how.encode(counted, path)
    )
  first, *others = how.paths.get(split, how.paths['train'])
  name = os.path.basename(first) + ', ...' * bool(others)
  return encoding.open_split(
    encoded, split, name if split in files else f'{split} of {name}'
  )


def _check(files, format, min_count, modulus, held_out):
  if 'train' not in files or set(files) - set(corpus.SPLITS):
    raise ValueError(
      f"files are given for {sorted(files)}; they must be given for 'train', "
      "and may be for 'validation' and 'test'"
    )
  if format not in formats.FORMATS:
    raise ValueError(
      f'format={format!r} is unknown; choose one of {sorted(formats.FORMATS)}'
    )
  for name, value in (('min_count', min_count), ('modulus', modulus)):
    if value is not None and value < 1:
      raise ValueError(f'{name}={value} must be at least 1')
  if not 0 < held_out < 0.5:
    raise ValueError(f'held_out={held_out} must be between 0 and 0.5')
