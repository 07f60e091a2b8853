"""Table 2 of the dissertation: its lost rows, and ours on small texts."""

import pytest

from tt_compress import configuration
from tt_compress.studies import configurations, runs
from tt_compress.training import build

FILE = 'configs/studies/dissertation_t2.py'
DENSE = 32_009 * 256


def embeddings(config):
  """{path: parameters} of the embeddings."""
  return {
    path: spec.num_params
    for path, spec in build.blueprint(config).matrices.items()
    if path.endswith('_embed')
  }


@pytest.mark.parametrize(
  'name, factor, params',
  [
    ('regular', 1, DENSE),
    ('word2ketxs-2-30', 38, 214_800),
    ('word2ketxs-2-10', 114, 71_600),
    ('word2ketxs-3-10', 854, 9_600),
  ],
)
def test_lost_rows_have_the_factors_of_their_notes(name, factor, params):
  rows = configuration.load(FILE).study.rows
  row = next(row for row in rows if row.id == f'dissertation-T2-{name}')
  assert 'BLEU' in row.lost
  config = configuration.load(row.config)
  assert embeddings(config)['source_embed'] == params
  assert round(DENSE / params) == factor
  assert f'{factor} times' in row.note or factor == 1
  assert config.model.hidden_dim == config.model.output_dim == 256
  assert config.model.input_feeding


@pytest.mark.parametrize('data', ['multi30k', 'iwslt14'])
def test_every_row_can_run(data, tmp_path):
  config = configuration.load(f'{FILE}:data={data},tiny')
  study = runs.Study(config, str(tmp_path))
  assert len(study._running) == 9
  found = {
    row.id: configurations.of_run(configuration.load(FILE), row, 0)
    for row in study._running
  }
  assert all(data in made.data.options.name for made in found.values())
  regular = sum(embeddings(found['regular']).values())
  small = sum(embeddings(found['word2ketxs-2-4']).values())
  assert 80 < regular / small < 110
  logits = build.blueprint(found['word2ketxs-2-30-logits']).matrices['logits']
  assert logits.compression_ratio > 4
