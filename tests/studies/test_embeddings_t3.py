"""Table 3 of the embeddings paper: its rows, and ours on WikiText-2."""

import os

import pytest

from tt_compress import configuration
from tt_compress.studies import configurations, runs
from tt_compress.training import build, sizes

FILE = 'configs/studies/embeddings_t3.py'


def counted(config):
  """The ratio of the matrices of words, and the sizes of the model."""
  found = sizes.make(config, build.blueprint(config))
  of_words = sum(
    matrix['params']
    for matrix in found['matrices']
    if matrix['path'].startswith(('embed', 'logits'))
  )
  return config.model.vocab_size * config.model.model_dim / of_words, found


def test_rows_have_the_sizes_of_the_table():
  config = configuration.load(FILE)
  for row in config.study.rows:
    made = configurations.of_run(config, row, 0)
    ratio, found = counted(made)
    if row.published:
      right = {**row.published, **row.corrected}
      assert round(ratio, 1) == right['ratio of embeddings']
      is_rounded = right['parameters'] == 192
      millions = round(found['num_params'] / 1e6, 0 if is_rounded else 2)
      assert millions == right['parameters']
    else:
      wanted = 1 if row.id == 'dense' else int(row.id.rpartition('-')[2])
      assert wanted <= ratio < 1.04 * wanted
      assert found['dense_num_params'] == 11_970_560


@pytest.mark.parametrize(
  'arguments, wanted',
  [
    ('clusters', 3.8286),  # That of rank 192.
    ('ratio=9', 9),
    ('clusters,ratio=15', 15),
  ],
)
def test_other_arguments_of_the_published_model(arguments, wanted):
  config = configuration.load(f'configs/wikitext103_tt.py:{arguments}')
  ratio, _ = counted(config)
  assert wanted <= ratio < 1.04 * wanted


def test_parquet_files_are_those_of_the_hub():
  config = configuration.load('configs/wikitext103_tt.py:parquet')
  found = {
    split: [os.path.basename(path) for path in paths]
    for split, paths in config.data.options.files.items()
  }
  assert found == {
    'train': ['train-00000-of-00002.parquet', 'train-00001-of-00002.parquet'],
    'validation': ['validation-00000-of-00001.parquet'],
    'test': ['test-00000-of-00001.parquet'],
  }
  configuration.check(config)


def test_every_row_can_run(tmp_path):
  config = configuration.load(f'{FILE}:tiny')
  assert len(runs.Study(config, str(tmp_path))._running) == 16


def test_settings_of_a_study_are_those_of_its_rows():
  config = configuration.load(FILE)
  config.num_steps = 7
  for row in config.study.rows:
    if not row.published:
      assert configurations.of_run(config, row, 0).num_steps == 7
