"""Pages of the configurations, the flags and the settings of a run."""

import ast
import pathlib
import re
from collections.abc import Mapping

import ml_collections

from docs import markdown
from tt_compress import configuration, models, tasks
from tt_compress.configuration import options

_MAIN = 'tt_compress/main.py'
_SETTINGS = 'tt_compress/configuration/settings.py'


def write(root: pathlib.Path, folder: pathlib.Path) -> None:
  """Writes `configs.md`, `flags.md` and `settings.md`."""
  markdown.write(
    folder / 'configs.md',
    '# Configurations',
    'Each file in `configs/` is a short difference from the defaults. `:dense` '
    'is the dense twin of a configuration, `:tiny` shrinks it to a minute or '
    'two on a laptop, on data that need no download. Files in '
    '`configs/studies/` are tables of runs, for `--mode=study`.',
    *_docstrings(root, 'configs/*.py'),
    '# Studies',
    *_docstrings(root, 'configs/studies/*.py'),
  )
  markdown.write(
    folder / 'flags.md',
    '# Flags',
    '`python -m tt_compress.main --config=FILE:argument,key=value` with:',
    markdown.table(('flag', 'default', 'meaning'), sorted(_flags(root))),
  )
  markdown.write(
    folder / 'settings.md',
    '# Settings',
    'Any of them can be overridden on the command line, '
    '`--config.optimizer.learning_rate=1e-3`; an unknown one is refused. '
    'Comments on each are in `' + _SETTINGS + '`, those of a task and of a '
    'model in their own files.',
    *_settings(),
  )


def _docstrings(root, pattern):
  for path in sorted(root.glob(pattern)):
    text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
    yield f'## `{path.relative_to(root)}`'
    yield _paragraphs(text)


def _paragraphs(text):
  """Indented blocks become code, and lists stay lists."""
  found = []
  for block in text.split('\n\n'):
    if block.startswith(('  ', '\t')):
      code = re.sub('^ +', '', block, flags=re.MULTILINE)
      found.append(f'```bash\n{code}\n```')
    else:
      items = re.split(r'\n(?=- )', block)
      lines = [markdown.escaped(' '.join(item.split())) for item in items]
      found.append('\n'.join(lines))
  return '\n\n'.join(found)


def _flags(root):
  """Name, default and help of each flag, from the source of `main`.

  Importing `main` would define its flags in the importing program, too.
  """
  source = (root / _MAIN).read_text(encoding='utf-8')
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Call) and 'flags.DEFINE' in ast.unparse(node.func):
      name, default, *_, text = node.args
      default = ast.literal_eval(default)
      shown = '' if default is None else f'`{default}`'
      help_text = markdown.escaped(ast.literal_eval(text))
      yield f'`--{name.value}`', shown, help_text


def _settings():
  common = _flat(configuration.defaults('docs', {'given': ()}))
  parts = {f'the task `{name}`': _of_task(name) for name in tasks.TASKS}
  parts |= {
    f'the model `{name}`': _flat({'model': options.model_defaults(name)})
    for name in models.MODELS
  }
  own = set().union(*parts.values()) | {'model.name', 'name', 'task'}
  yield '## Every run'
  yield _table({k: v for k, v in common.items() if k not in own})
  for part, found in parts.items():
    yield f'## Runs of {part}'
    yield _table(found)


def _of_task(name):
  return _flat(tasks.TASKS[name].defaults())


def _table(settings):
  return markdown.table(
    ('setting', 'default'),
    [(f'`{name}`', f'`{value!r}`') for name, value in settings.items()],
  )


def _flat(settings, prefix=''):
  found = {}
  for name, value in settings.items():
    if isinstance(value, Mapping | ml_collections.ConfigDict) and len(value):
      found |= _flat(value, f'{prefix}{name}.')
    else:
      found[prefix + name] = _plain(value)
  return found


def _plain(value):
  """None for a placeholder, which has no value of its own."""
  is_empty = isinstance(value, ml_collections.FieldReference)
  value = value.get() if is_empty else value
  return {} if isinstance(value, ml_collections.ConfigDict) else value
