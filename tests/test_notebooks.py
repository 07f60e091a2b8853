"""Every notebook runs from its first cell to its last."""

import pathlib

import nbclient
import nbformat
import pytest

FOLDER = pathlib.Path(__file__).parent.parent / 'notebooks'
NOTEBOOKS = sorted(FOLDER.glob('*.ipynb'))


# The kernel's own sockets and loops are not ours to clean up.
@pytest.mark.filterwarnings('ignore')
@pytest.mark.full
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path):
  notebook = nbformat.read(path, as_version=4)
  client = nbclient.NotebookClient(
    notebook, timeout=300, resources={'metadata': {'path': str(FOLDER)}}
  )
  client.execute()


def test_there_are_notebooks_without_output():
  assert NOTEBOOKS
  for path in NOTEBOOKS:
    for cell in nbformat.read(path, as_version=4).cells:
      assert not cell.get('outputs'), f'{path.name}: clear the outputs'
