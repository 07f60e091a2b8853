"""Imports point down: every file uses its own folder and lower layers only."""

import ast
import graphlib
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / 'tt_compress'
LAYERS = (
  ('lazy', 'packed_files', 'rules', 'timing', 'parallel'),
  ('algebra',),
  ('parameterizations',),
  ('nn',),
  ('models',),
  ('pretrained',),
  ('data',),
  ('tasks',),
  ('configuration',),
  ('training',),
  ('planning',),
  ('studies',),
  ('main', 'demo'),
)
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}
# Folders inside a layer are above or below the files of the layer.
ABOVE = {'algebra/fit', 'algebra/theory', 'studies/report'}
BELOW = {
  'data/click_logs',
  'data/phrases',
  'models/transformer',
  'tasks/decoding',
  'tasks/scores',
  'training/checkpoints',
}
# Parameterizations do not import each other: they share the ground files.
GROUND = {
  'parameterizations': {
    'base',
    'checks',
    'composed',
    'random_factors',
    'ranks',
    'reshaped',
    'similar',
    'train_backed',
    'train_shaped',
    'tree_backed',
    'block_backed',
    'weighted',
    'wrapped',
  }
}


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
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == 'lazy.Module':
      yield node.lineno, ast.literal_eval(node.args[0])


def test_modules_imported_at_first_use_are_imports(tmp_path):
  (tmp_path / 'file.py').write_text("step = lazy.Module('training.step')")
  assert list(imports(tmp_path / 'file.py')) == [(1, 'training.step')]


def place(path):
  """Folder (or file) below the package, and the module inside it."""
  parts = path.relative_to(PACKAGE).with_suffix('').parts
  return parts[0], parts[1] if len(parts) > 1 else ''


def is_folder(name):
  return (PACKAGE / name).is_dir()


def inner_problem(path, folder, rest):
  """Why a file may not import a module of its own layer, or None."""
  parent = path.relative_to(PACKAGE).parent.as_posix()
  target = '/'.join((folder, *rest[:1]))
  target = target if is_folder(target) else folder
  if target != parent and (target in ABOVE or parent in BELOW):
    return f'{target} is above {parent}'
  return None


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
    # The file of the package itself needs no other layer.
    return None if LEVELS[target] == 0 else 'a file outside the layers'
  if target == folder:
    sibling = rest[0] if rest else '__init__'
    closed = folder in GROUND and name != '__init__'
    if closed and sibling not in GROUND[folder] | {name}:
      return 'sibling method'
    return inner_problem(path, folder, rest)
  if LEVELS[target] >= LEVELS[folder]:
    return f'layer {LEVELS[target]} is not below layer {LEVELS[folder]}'
  return None


def test_every_folder_has_a_layer():
  for path in PACKAGE.rglob('*.py'):
    folder, _ = place(path)
    assert folder in LEVELS or folder == '__init__', path
    parent = path.relative_to(PACKAGE).parent.as_posix()
    assert '/' not in parent or parent in ABOVE | BELOW, parent


def test_imports_point_down():
  problems = [
    f'{path.relative_to(PACKAGE)}:{line}: {module}: {why}'
    for path in sorted(PACKAGE.rglob('*.py'))
    for line, module in imports(path)
    if (why := problem(path, module))
  ]
  assert not problems, '\n'.join(problems)


def dotted(path):
  parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
  return '.'.join(parts).removesuffix('.__init__')


def test_no_import_goes_round_in_a_cycle():
  modules = {dotted(path): path for path in PACKAGE.rglob('*.py')}
  graph = {
    name: {
      module if module in modules else module.rpartition('.')[0]
      for _, module in imports(path)
      if module.split('.')[0] == 'tt_compress'
    }
    for name, path in modules.items()
    # It imports what is asked for, at first use.
    if name != 'tt_compress'
  }
  graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


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
    ('algebra/trains.py', 'tt_compress.algebra.fit.svd', 'above'),
    ('algebra/fit/svd.py', 'tt_compress.algebra.trains', None),
    ('algebra/fit/svd.py', 'tt_compress.algebra.theory.kron', 'above'),
    ('tasks/scores/bleu.py', 'tt_compress.tasks.base', 'above'),
    ('tasks/scores/bleu.py', 'tt_compress.tasks.decoding.beam', 'above'),
    ('tasks/base.py', 'tt_compress.tasks.scores.bleu', None),
    ('tasks/scores/bleu.py', 'tt_compress.tasks.scores.words', None),
    ('nn/linear.py', 'tt_compress.utils.stuff', 'no such layer'),
    ('nn/linear.py', 'tt_compress.nn.embed', None),
    ('nn/linear.py', 'tt_compress.rules', None),
    ('__init__.py', 'tt_compress.lazy', None),
    ('__init__.py', 'tt_compress.algebra.modes', 'outside'),
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
