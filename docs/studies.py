"""Pages of the measured tables, from `results/`."""

import pathlib
import re
import shutil

from docs import markdown

_PAGE = re.compile(r'\]\((?:\.\./docs/)?([\w-]+\.md)')
# In this order; pages that no key starts are further below.
_WORKS = {
  'slides': '"Compressed Transformer"',
  'dissertation': '"Improving Space Efficiency of Deep Neural Networks"',
  'embeddings': '"Tensorized Embedding Layers for Efficient Model Compression"',
}
_TABLES = {
  'imdb_table1': 'embeddings',
  'sst_table1': 'embeddings',
  'criteo_table4': 'embeddings',
}


def write(root: pathlib.Path, folder: pathlib.Path) -> None:
  """Copies the pages of `results/` with their figures, and lists them."""
  folder = folder / 'studies'
  folder.mkdir(parents=True, exist_ok=True)
  for path in (root / 'results').glob('*.png'):
    shutil.copy(path, folder)
  pages = {}
  for path in sorted((root / 'results').glob('*.md')):
    text = path.read_text(encoding='utf-8')
    markdown.write(folder / path.name, _linked(text, root))
    work = _TABLES.get(path.stem, re.split('[_-]', path.stem)[0])
    pages.setdefault(work if work in _WORKS else '', []).append(path.stem)
  parts = []
  for work, title in (*_WORKS.items(), ('', 'Beyond them')):
    parts.append(f'## {title}')
    parts.append(markdown.toctree(pages.get(work, []), shown=True))
  markdown.write(
    folder / 'index.md',
    '# Studies',
    'Every table names the command, the commit and the hardware that made it, '
    'and shows published figures beside measured ones. A study is run by '
    '`--mode=study`, see [configurations](../configs.md).',
    *parts,
  )


def _linked(text, root):
  """Links to pages of `docs/` lead two folders up."""

  def place(match):
    name = match.group(1)
    is_doc = (root / 'docs' / name).exists()
    return f']({"../../" if is_doc else ""}{name}'

  return _PAGE.sub(place, text)
