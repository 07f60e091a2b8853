"""The documentation site: its generated pages, and a build without warnings."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from docs import configurations, decision, markdown, methods, studies
from tt_compress import parameterizations

ROOT = pathlib.Path(__file__).parents[1]


def test_every_parameterization_has_a_page_with_its_options(tmp_path):
  methods.write(ROOT, tmp_path)
  assert set(methods.WHEN) == set(parameterizations.REGISTRY)
  for name in parameterizations.REGISTRY:
    text = (tmp_path / 'methods' / f'{name}.md').read_text()
    assert methods.WHEN[name] in text
  train = (tmp_path / 'methods' / 'tensor_train.md').read_text()
  # Of the base class, of the class itself, and the count by hand.
  for expected in ('- `tt_rank`: ', '- `index_order`: ', 'has 5,120 numbers'):
    assert expected in train
  assert 8 * 8 * 8 * 2 + 8 * 8 * 8 * 8 == 5120


def test_the_decision_table_has_the_numbers_of_results(tmp_path):
  decision.write(ROOT, tmp_path)
  lines = (tmp_path / 'decision.md').read_text().splitlines()
  cells = {line.split('`')[1]: line.split(' | ') for line in lines[2:]}
  fits = json.loads((ROOT / 'results' / 'fit.json').read_text())
  errors = [
    fit.get('error')
    for fit in fits['trained']['mnist']['fits']
    if (fit['entry'], fit['asked_ratio']) == ('low_rank', 8)
  ]
  assert [cells['low_rank'][1]] == [f'{error:.2f}' for error in errors]
  assert cells['dense'][4].endswith('(3.4M)')
  assert ' to ' in cells['tensor_train'][5]
  assert cells['quantized'][2] > cells['low_rank'][2]
  choosing = (ROOT / 'docs' / 'choosing.md').read_text()
  for link in re.findall(r'generated/methods/(\w+)\.md', '\n'.join(lines)):
    assert link in parameterizations.REGISTRY
  assert '{include} generated/decision.md' in choosing


def test_flags_settings_and_configurations_are_those_of_the_code(tmp_path):
  configurations.write(ROOT, tmp_path)
  assert '| `--num_best` | `1` | ' in (tmp_path / 'flags.md').read_text()
  settings = (tmp_path / 'settings.md').read_text()
  assert '| `optimizer.learning_rate` | `0.001` |' in settings
  assert settings.count('| `seed` | `0` |') == 1
  configs = (tmp_path / 'configs.md').read_text()
  for path in ROOT.glob('configs/**/*.py'):
    assert f'## `{path.relative_to(ROOT)}`' in configs


def test_every_table_of_results_is_listed_once(tmp_path):
  studies.write(ROOT, tmp_path)
  listed = (tmp_path / 'studies' / 'index.md').read_text().splitlines()
  for path in ROOT.glob('results/*.md'):
    assert listed.count(path.stem) == 1


def test_docstrings_become_sections():
  found = markdown.parse(
    """W = A [n], once.

    More <text>.

    Attributes:
      a: one
        and two.
      b: three.

    Reference: A paper.
    """
  )
  assert found == markdown.Docstring(
    'W = A [n], once.',
    ['More \\<text\\>.'],
    {'a': 'one and two.', 'b': 'three.'},
    {'Reference': 'A paper.'},
  )


def test_links_of_the_readme_exist():
  for path in (ROOT / 'README.md', *ROOT.glob('docs/*.md')):
    text = re.sub('```.*?```', '', path.read_text(), flags=re.DOTALL)
    for link in re.findall(r'\]\(([^)#:]+)\)', text):
      if not link.startswith('generated/'):
        assert (path.parent / link).exists(), f'{path.name}: {link}'


def test_every_page_is_in_a_list():
  lists = ('index', 'guide', 'reference', 'measurements')
  listed = set()
  for name in lists:
    listed |= set((ROOT / 'docs' / f'{name}.md').read_text().splitlines())
  pages = {path.stem for path in ROOT.glob('docs/*.md')} - {'index'}
  assert pages <= listed


@pytest.mark.full
@pytest.mark.filterwarnings('ignore')
def test_the_site_builds_without_warnings(tmp_path):
  pytest.importorskip('sphinx', reason="needs pip install -e '.[docs]'")
  pytest.importorskip('myst_nb', reason="needs pip install -e '.[docs]'")
  command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going']
  subprocess.run([*command, 'docs', str(tmp_path)], cwd=ROOT, check=True)
  for page in ('index', 'generated/methods/tensor_train', 'generated/flags'):
    assert (tmp_path / f'{page}.html').exists()
  notebook = tmp_path / 'generated' / 'notebooks' / 'parameterizations.html'
  assert 'data:image/png' in notebook.read_text() or '_images' in (
    notebook.read_text()
  )
