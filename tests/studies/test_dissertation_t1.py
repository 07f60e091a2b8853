"""Table 1 of the dissertation: the ratios that its text keeps, and our rows."""

import re

import pytest

from tt_compress import configuration
from tt_compress.studies import configurations, runs
from tt_compress.training import build

FILE = 'configs/studies/dissertation_t1.py'


def embeddings(config):
  """Numbers of both embeddings, and those of dense ones of as many columns."""
  matrices = build.blueprint(config).matrices
  found = [spec for path, spec in matrices.items() if path.endswith('_embed')]
  assert len(found) == 2
  stored = sum(spec.num_params for spec in found)
  return stored, sum(spec.rows * spec.cols for spec in found)


@pytest.fixture(scope='module')
def table():
  return {row.id: row for row in configuration.load(FILE).study.rows}


def test_published_rows_have_the_ratios_of_the_text(table):
  regular = embeddings(
    configuration.load(table['dissertation-T1-regular'].config)
  )
  assert regular == (2 * 30_000 * 256, 2 * 30_000 * 256)
  for row in table.values():
    if not row.published_only:
      continue
    assert {'ROUGE-1', 'ROUGE-2', 'ROUGE-L'} <= set(row.lost)
    stored, _ = embeddings(configuration.load(row.config))
    ratio = regular[0] / stored
    printed = row.published.get('ratio of embeddings')
    if row.id.endswith('4-1'):
      # Rounded down to thousands where it is that large.
      assert ratio - ratio % (1000 if ratio > 1000 else 1) == printed
    elif row.id.endswith('100x'):
      assert printed < ratio < 115


def test_measured_rows_have_the_ratios_of_their_names(table):
  for row in table.values():
    wanted = re.fullmatch(r'word2ket.*-(\d+)x', row.id)
    if wanted:
      made = configurations.of_run(configuration.load(FILE), row, 0)
      stored, dense = embeddings(made)
      assert dense / stored == int(wanted[1])
      assert made.evaluation.rouge_package


def test_every_row_can_run(tmp_path):
  config = configuration.load(f'{FILE}:tiny')
  assert len(runs.Study(config, str(tmp_path))._running) == 4
