"""The frame: declared dependencies, pins, and the set-up."""

import ast
import configparser
import pathlib
import re
import subprocess
import sys
from importlib import metadata

import pytest
from packaging import requirements

ROOT = pathlib.Path(__file__).parents[1]
# Import names that differ from what pip calls the package, where the package
# need not be installed to be looked up.
DISTRIBUTIONS = {'sklearn': 'scikit-learn', 'tensorflow': 'tensorflow-cpu'}


# A program of its own, which says what to install.
DEMO = ROOT / 'tt_compress' / 'demo'


def normalize(name):
  return re.sub(r'[-_.]+', '-', name).lower()


def declared():
  """(core, core and extras) requirements of setup.cfg, by normalized name."""
  config = configparser.ConfigParser()
  config.read(ROOT / 'setup.cfg')
  parse = lambda text: {
    normalize(requirement.name): requirement
    for requirement in map(
      requirements.Requirement,
      (line for line in text.splitlines() if line and line[0] != '#'),
    )
  }
  core = parse(config['options']['install_requires'])
  extras = core.copy()
  for text in config['options.extras_require'].values():
    extras |= parse(text)
  return core, extras


def imports(path):
  """(top-level module, whether the whole file needs it) of each import."""
  tree = ast.parse(path.read_text())
  always = set(tree.body)
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name.split('.')[0], node in always
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}:{node.lineno}: relative import'
      yield node.module.split('.')[0], node in always
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == 'lazy.Module':
      yield ast.literal_eval(node.args[0]).split('.')[0], True


def test_every_import_is_declared():
  core, extras = declared()
  installed = metadata.packages_distributions()
  seen = set()
  for path in sorted(ROOT.glob('tt_compress/**/*.py')):
    for module, is_needed in imports(path):
      if module in sys.stdlib_module_names or module == 'tt_compress':
        continue
      names = installed.get(module, [DISTRIBUTIONS.get(module, module)])
      allowed = core if is_needed and path.parent != DEMO else extras
      found = {normalize(name) for name in names} & set(allowed)
      seen |= found
      assert found, (
        f'{path.relative_to(ROOT)} imports {module} ({names}): declare it in '
        f'setup.cfg, in {"install_requires" if is_needed else "an extra"}'
      )
  assert {'jax', 'flax', 'optax', 'absl-py', 'orbax-checkpoint'} <= seen


def pins(path):
  lines = path.read_text().splitlines()
  lines = [line for line in lines if line and not line.startswith('#')]
  pairs = [line.split('==') for line in lines]
  return {normalize(name): version for name, version in pairs}


@pytest.mark.parametrize(
  'name, jax_version',
  [
    ('py311-jax0.10.txt', '0.10.'),
    ('py312-jax0.11.txt', '0.11.'),
    ('py312-jax0.12.txt', '0.12.'),
  ],
)
def test_pins_are_exact_and_satisfy_setup_cfg(name, jax_version):
  pinned = pins(ROOT / 'constraints' / name)
  assert pinned['jax'].startswith(jax_version)
  _, extras = declared()
  # Those of the extra peers have their versions there.
  peers = {'torch', 'transformers'}
  for requirement in peers:
    assert str(extras[requirement].specifier).startswith('==')
  # Not part of the tested set.
  optional = peers | {
    'jax-cuda13-pjrt',
    'jax-cuda13-plugin',
    'libtpu',
    'tensorflow-cpu',
    'wandb',
  }
  for requirement in extras:
    if requirement not in optional:
      assert extras[requirement].specifier.contains(pinned[requirement])


@pytest.mark.parametrize(
  'path',
  sorted((ROOT / 'constraints').glob('*.txt')),
  ids=lambda path: path.stem,
)
def test_hashed_requirements_are_the_pins(path):
  # `launch/hashes.sh` writes them anew.
  text = (path.parent / 'hashed' / path.name).read_text()
  hashed = re.findall(
    r'^(\S+)==(\S+)((?: \\\n +--hash=sha256:[0-9a-f]{64})+)$', text, re.M
  )
  assert {normalize(name): version for name, version, _ in hashed} == pins(path)
  # Nothing else is in the file.
  rest = [line for line in text.splitlines() if '--hash=' not in line]
  assert len(rest) == len(hashed) + 1


# What would run code out of a file, by the calls that do.
RUNS_DATA = re.compile(
  r'(.*\.)?(eval|exec|__import__|system|popen)|builtins\.compile|'
  r'(c?[pP]ickle|dill|joblib|marshal|shelve|torch|cloudpickle)\.\w+|'
  r'yaml\.(unsafe_)?load(_all)?|runpy\.\w+'
)


def runs_data(tree):
  """(line, call) of each call that may run code out of data."""
  for node in ast.walk(tree):
    if not isinstance(node, ast.Call):
      continue
    called = ast.unparse(node.func)
    options = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if (
      RUNS_DATA.fullmatch(called)
      or options.get('allow_pickle', 'False') != 'False'
      or options.get('shell', 'False') != 'False'
      or 'trust_remote_code' in options
    ):
      yield node.lineno, called


def test_no_data_are_run_as_code():
  found = [
    f'{path.relative_to(ROOT)}: {called}'
    for path in ROOT.glob('tt_compress/**/*.py')
    for line, called in runs_data(ast.parse(path.read_text()))
  ]
  # A configuration file is code of the user; a workdir has none.
  assert found == ['tt_compress/configuration/arguments.py: runpy.run_path']


@pytest.mark.parametrize(
  'text',
  [
    'eval(text)',
    'builtins.exec(text)',
    'pickle.load(file)',
    'np.load(path, allow_pickle=True)',
    'subprocess.run(line, shell=True)',
    'os.system(line)',
    'torch.load(path)',
    'yaml.load(text)',
    'load_dataset(name, trust_remote_code=True)',
  ],
)
def test_code_that_runs_data_is_found(text):
  assert list(runs_data(ast.parse(text)))


def run_setup(command, path, **environment):
  """Runs bash with setup.sh sourced and only `path` on PATH."""
  return subprocess.run(
    [
      '/bin/bash',
      '-c',
      f'set -euo pipefail; source launch/setup.sh; {command}',
    ],
    cwd=ROOT,
    env={'PATH': str(path), **environment},
    capture_output=True,
    text=True,
    timeout=60,
  )


def make_command(folder, name, text):
  path = folder / name
  path.write_text(f'#!/bin/sh\n{text}\n')
  path.chmod(0o755)
  return path


def test_a_launcher_that_does_not_run_is_passed_over(tmp_path):
  make_command(tmp_path, 'python3.12', 'exit 127')
  make_command(tmp_path, 'python3.11', 'echo 3.10')
  make_command(tmp_path, 'python3', 'echo 3.13')
  result = run_setup('find_python', tmp_path)
  assert result.stdout == 'python3\n'


def test_no_suitable_python_says_what_is_needed(tmp_path):
  result = run_setup('find_python', tmp_path)
  assert result.returncode == 1
  assert 'needs 3.11, 3.12 or 3.13' in result.stderr
  result = run_setup('find_python', tmp_path, PYTHON='/nowhere/python')
  assert result.returncode == 1
  assert '/nowhere/python' in result.stderr


def test_each_python_has_its_pins(tmp_path):
  for version in ('3.11', '3.12', '3.13'):
    result = run_setup(f'pins_for {version}', tmp_path)
    assert (ROOT / result.stdout.strip()).is_file()
  assert run_setup('pins_for 3.14', tmp_path).returncode == 1


def test_pins_can_be_chosen(tmp_path):
  pins = 'constraints/py312-jax0.12.txt'
  for version in ('3.11', '3.12'):
    result = run_setup(f'pins_for {version}', tmp_path, PINS=pins)
    assert result.stdout == f'{pins}\n'


def test_pins_that_are_not_there_are_refused(tmp_path):
  (tmp_path / 'bin').mkdir()
  make_command(tmp_path / 'bin', 'python', 'echo 3.12')
  result = run_setup(
    "set_up ''", tmp_path, VENV=str(tmp_path), PINS='constraints/none.txt'
  )
  assert result.returncode == 1
  assert 'PINS=constraints/none.txt: no such file' in result.stderr
  assert 'constraints/py312-jax0.11.txt' in result.stderr
