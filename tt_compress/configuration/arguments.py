"""Config files, their arguments and the flags that override settings."""

import difflib
import os
import runpy
from collections.abc import Collection, Mapping, Sequence

import ml_collections

from tt_compress.configuration import flat


def parse(arguments: str, **options) -> dict:
  """Parses the arguments of a config file, `FILE:flag,key=value`.

  Every config file has the flags `dense` (the dense twin) and `tiny` (small
  enough for a laptop, with data that need no files).

  Args:
    arguments: the text after the colon.
    **options: further names and their default values, which give the types.

  Returns:
    The value of each name; 'given' lists the arguments that name a run.

  Raises:
    ValueError: an unknown name or a value of another type.
  """
  known = {**options, 'dense': False, 'tiny': False}
  parsed = dict(known)
  for part in filter(None, (arguments or '').split(',')):
    name, given, value = part.partition('=')
    if name not in known:
      raise ValueError(
        f'unknown config argument {name!r}; this config has '
        f'{", ".join(sorted(known))}'
      )
    if isinstance(known[name], bool):
      if given and value not in ('true', 'false'):
        raise ValueError(
          f'config argument {name}={value!r} must be true or false'
        )
      parsed[name] = value != 'false'
      continue
    try:
      parsed[name] = type(known[name])(value)
    except ValueError:
      raise ValueError(
        f'config argument {name}={value!r} must be of type '
        f'{type(known[name]).__name__}, e.g. {name}={known[name]}'
      ) from None
  # In the order of the config file, so that each run has one name. `twin` adds
  # the suffix of the dense one.
  parsed['given'] = tuple(
    name if value is True else f'{name}={value}'
    for name, value in parsed.items()
    if value != known[name] and name != 'dense'
  )
  return parsed


def choose(
  arguments: Mapping[str, str], name: str, known: Collection[str]
) -> str:
  """The value of an argument that must be one of the known ones.

  Args:
    arguments: of a config file, see `parse`.
    name: of the argument.
    known: the possible values.

  Raises:
    ValueError: naming the argument, its value and the possible ones.
  """
  value = arguments[name]
  if value not in known:
    raise ValueError(f'{name}={value!r} is none of {", ".join(known)}')
  return value


def load(path: str) -> ml_collections.ConfigDict:
  """Loads the configuration of a config file, as `--config` does.

  Args:
    path: 'FILE.py' or 'FILE.py:flag,key=value'.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file has no function get_config, or not such an argument.
  """
  file, _, arguments = path.partition(':')
  if not os.path.exists(file):
    raise FileNotFoundError(f'no config file {file!r}{_near(file)}')
  found = runpy.run_path(file)
  if 'get_config' not in found:
    raise ValueError(f'config file {file!r} has no function get_config')
  return found['get_config'](arguments).lock()


def _near(file: str) -> str:
  """The similar names in the folder of a file or `configs/`, for a message."""
  name = os.path.basename(file).removesuffix('.py') + '.py'
  for folder in (os.path.dirname(file), 'configs'):
    names = os.listdir(folder or '.') if os.path.isdir(folder or '.') else []
    if near := difflib.get_close_matches(name, names):
      paths = ', '.join(os.path.join(folder, name) for name in near)
      return f'; nearest: {paths}'
  return ''


def check_flags(flags: Sequence[str]) -> None:
  """Refuses a config file, argument or setting that does not exist.

  Args:
    flags: a command line, with `--config=FILE:arguments` and
      `--config.name=value` among others.

  Raises:
    FileNotFoundError: there is no such config file.
    ValueError: there is no such argument or setting.
  """
  split = [flag.partition('=') for flag in flags]
  files = [value for name, _, value in split if name == '--config']
  if not files:
    settings = [name for name, _, _ in split if name.startswith('--config.')]
    if settings:
      raise ValueError(
        f'{settings[0]} overrides a setting of a config file; give it, too: '
        '--config=FILE'
      )
    return
  config = load(files[-1])
  for name, _, _ in split:
    if name.startswith('--config.'):
      # A flag may set one entry of a tuple: `--config.name[0]=value`.
      flat.check_name(config, name.removeprefix('--config.').partition('[')[0])
