"""The study of nonlinearities between cores."""

import pytest

from tt_compress import configuration
from tt_compress.studies import configurations, runs
from tt_compress.training import build, sizes

FILE = 'configs/studies/nonlinear_cores.py:data='


@pytest.mark.parametrize('data', ['sst', 'wikitext2'])
def test_rows_have_equal_sizes(data):
  config = configuration.load(f'{FILE}{data}')
  found, totals = {}, {}
  for row in config.study.rows:
    made = configurations.of_run(config, row, 0)
    blueprint = build.blueprint(made)
    found[row.id] = blueprint.matrices['embed']
    totals[row.id] = sizes.make(made, blueprint)['num_params']
    assert f'{found[row.id].lookup_multiplications:,}' in row.method
    assert row.compared_with == {
      'plain': None,
      'plain-multiplications': 'gated',
    }.get(row.id, 'plain')
  plain = found['plain']
  for name in ('gated', 'relu', 'max'):
    assert found[name].between == name
    assert found[name].num_params == pytest.approx(plain.num_params, rel=0.05)
    assert totals[name] == pytest.approx(totals['plain'], rel=0.01)
  assert found['relu'].lookup_multiplications == plain.lookup_multiplications
  assert found['plain-multiplications'].lookup_multiplications == pytest.approx(
    found['gated'].lookup_multiplications, rel=0.05
  )


@pytest.mark.parametrize('data', ['sst', 'wikitext2'])
def test_every_row_can_run(data, tmp_path):
  config = configuration.load(f'{FILE}{data},tiny')
  assert len(runs.Study(config, str(tmp_path))._running) == 5


def test_unknown_data_are_named():
  with pytest.raises(ValueError, match="data='x' is none of sst, wikitext2"):
    configuration.load(f'{FILE}x')
