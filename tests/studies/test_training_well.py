"""The sweep over structures, initializations and rates."""

import pytest

from tt_compress import configuration
from tt_compress.studies import runs

FILE = 'configs/studies/training_well.py:problem='


@pytest.mark.parametrize(
  'problem, first',
  [
    ('mnist', 'dense-0.001'),
    ('quickstart', 'dense-0.005'),
    ('multi30k_embedding', 'dense-0.002'),
  ],
)
def test_every_row_can_run(problem, first, tmp_path):
  config = configuration.load(f'{FILE}{problem},tiny')
  made = runs.Study(config, str(tmp_path))
  ids = [row.id for row in made._running]
  assert ids[0] == first
  assert len({*ids}) == len(ids)


def test_an_unknown_problem_is_named():
  with pytest.raises(ValueError, match="problem='x' is none of wikitext2, "):
    configuration.load(f'{FILE}x')
