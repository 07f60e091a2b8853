"""The notebooks, which the build of the site executes."""

import pathlib
import shutil

from docs import markdown


def write(root: pathlib.Path, folder: pathlib.Path) -> None:
  """Copies the notebooks and lists them."""
  folder = folder / 'notebooks'
  folder.mkdir(parents=True, exist_ok=True)
  paths = sorted((root / 'notebooks').glob('*.ipynb'))
  for path in paths:
    copy = folder / path.name
    if not copy.exists() or copy.read_bytes() != path.read_bytes():
      shutil.copy(path, copy)
  markdown.write(
    folder / 'index.md',
    '# Notebooks',
    'Outputs are those of the commit that this site was built from.',
    markdown.toctree((path.stem for path in paths), shown=True),
  )
