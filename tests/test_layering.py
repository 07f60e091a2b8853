"""Imports point down: every file uses its own folder and lower layers only."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / 'tt_compress'
LAYERS = (
  ('rules', 'timing', 'parallel'),
  ('algebra',),
  ('parameterizations',),
  ('nn',),
  ('models',),
  ('data',),
  ('tasks',),
  ('configuration',),
  ('training',),
  ('planning',),
  ('studies',),
  ('main',),
)
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}
# Below these, methods do not know each other: they share only the ground.
GROUND = {'parameterizations': {'base', 'reshaped', 'wrapped'}}


def imports(path):
  """Yields (line, dotted module) for every import inside the package."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield node.lineno, alias.name
    elif isinstance(node, ast.ImportFrom):
      if node.level:
        yield node.lineno, '.' * node.level + (node.module or '')
      else:
        for alias in node.names:
          yield node.lineno, f'{node.module}.{alias.name}'


def place(path):
  """Folder (or file) below the package, and the module inside it."""
  parts = path.relative_to(PACKAGE).with_suffix('').parts
  return parts[0], parts[1] if len(parts) > 1 else ''


def problem(path, module):
  """Why a file may not import a module, or None."""
  if module.startswith('.'):
    return 'relative import'
  if module.split('.')[0] != 'tt_compress':
    return None
  target, *rest = module.split('.')[1:] or ['']
  folder, name = place(path)
  if target not in LEVELS:
    # `from tt_compress import __version__`
    return None if target.startswith('__') or not target else 'no such layer'
  if folder not in LEVELS:
    return 'a file outside the layers'
  if target == folder:
    sibling = rest[0] if rest else '__init__'
    closed = folder in GROUND and name != '__init__'
    if closed and sibling not in GROUND[folder] | {name}:
      return 'sibling method'
    return None
  if LEVELS[target] >= LEVELS[folder]:
    return f'layer {LEVELS[target]} is not below layer {LEVELS[folder]}'
  return None


def test_every_folder_has_a_layer():
  for path in PACKAGE.rglob('*.py'):
    folder, _ = place(path)
    assert folder in LEVELS or folder == '__init__', path


def test_imports_point_down():
  problems = [
    f'{path.relative_to(PACKAGE)}:{line}: {module}: {why}'
    for path in sorted(PACKAGE.rglob('*.py'))
    for line, module in imports(path)
    if (why := problem(path, module))
  ]
  assert not problems, '\n'.join(problems)


@pytest.mark.parametrize(
  'path, module, why',
  [
    ('nn/linear.py', 'tt_compress.models.mlp', 'not below'),
    ('algebra/modes.py', 'tt_compress.parameterizations.base', 'not below'),
    (
      'parameterizations/dense.py',
      'tt_compress.parameterizations.low_rank',
      'sib',
    ),
    ('parameterizations/dense.py', 'tt_compress.parameterizations', 'sib'),
    ('nn/linear.py', '.embed', 'relative'),
    ('nn/linear.py', 'tt_compress.utils.stuff', 'no such layer'),
    ('nn/linear.py', 'tt_compress.nn.embed', None),
    ('nn/linear.py', 'tt_compress.rules', None),
    ('parameterizations/dense.py', 'tt_compress.parameterizations.base', None),
    (
      'parameterizations/__init__.py',
      'tt_compress.parameterizations.dense',
      None,
    ),
  ],
)
def test_the_check_itself(path, module, why):
  found = problem(PACKAGE / path, module)
  assert found is None if why is None else why in found
