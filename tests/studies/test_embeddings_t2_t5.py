"""Tables 2 and 5 of the embeddings paper: rows, and ours on Tatoeba."""

from tt_compress import configuration
from tt_compress.studies import configurations, runs
from tt_compress.training import build, sizes

FILE = 'configs/studies/embeddings_t2_t5.py'


def ratio_of_words(config, found):
  of_words = sum(
    matrix['params']
    for matrix in found['matrices']
    if matrix['path'] in ('embed', 'logits')
  )
  return config.model.vocab_size * config.model.model_dim / of_words


def test_rows_have_the_sizes_of_the_tables():
  config = configuration.load(FILE)
  ratios = {}
  for row in config.study.rows:
    made = configurations.of_run(config, row, 0)
    found = sizes.make(made, build.blueprint(made))
    ratios[row.id] = ratio_of_words(made, found)
    if not row.published:
      assert found['dense_num_params'] == 2_437_632
      continue
    assert round(ratios[row.id], 1) == row.published['ratio of embeddings']
    digits = 2 if row.corrected else 0
    right = {**row.published, **row.corrected}
    assert round(found['num_params'] / 1e6, digits) == right['parameters']
  for name in ('T2-full', 'T2-TT1', 'T2-TT2', 'T2-TT3', 'T5-TR1', 'T5-TR2'):
    # Ranks are whole numbers.
    assert 0.92 < ratios[name] / ratios[f'embeddings-{name}'] < 1.03
  for name, ratio in ratios.items():
    size = name.rpartition('-')[2]
    if f'T2-{size}' in ratios:
      assert 1 <= ratio / ratios[f'T2-{size}'] < 1.2


def test_rings_start_with_the_variance_of_the_released_code():
  config = configuration.load(FILE)
  rules = {
    row.id: configurations.of_run(config, row, 0).compress
    for row in config.study.rows
    if row.id.startswith('T5-TR1')
  }
  assert [pattern for pattern, _ in rules['T5-TR1']] == ['embed', 'logits']
  # The variance of entries is that of the matrix over the rank.
  assert rules['T5-TR1-small-start'] == tuple(
    (pattern, dict(choice, std_scale=choice['tr_rank'] ** -0.5))
    for pattern, choice in rules['T5-TR1']
  )


def test_every_row_can_run(tmp_path):
  config = configuration.load(f'{FILE}:tiny')
  assert len(runs.Study(config, str(tmp_path))._running) == 16
