"""Plans of trained runs: printed, written, compressed with."""

import json

import pytest

from tests.training import test_origin
from tt_compress.planning import budget_report
from tt_compress.training import run

trained = test_origin.trained


@pytest.fixture(scope='module')
def plan(trained):
  trained.config.fit.batches = 2
  return budget_report.of_run(trained).plan('60%')


def test_the_printed_rules_make_a_run_of_the_planned_size(
  trained, plan, tmp_path
):
  text = budget_report.table(plan)
  assert text.splitlines()[2].split()[:4] == ['layers/0', '784', 'x', '6']
  assert f'{plan.num_params:,} parameters of' in text
  scope = {'config': test_origin.make_config(init_from=trained.workdir)}
  exec(text[text.index('config.compress =') :], scope)  # noqa: S102
  made = run.Run(scope['config'], str(tmp_path))
  assert made.sizes()['num_params'] == plan.num_params <= plan.budget
  assert plan.num_params > 0.3 * plan.budget


def test_file_and_figure(plan, tmp_path):
  paths = budget_report.write(plan, str(tmp_path))
  found = json.loads((tmp_path / 'budget.json').read_text())
  assert found['num_params'] == plan.num_params
  assert found['front'][-1] == [plan.dense_num_params, plan.loss]
  assert found['rules'] == json.loads(json.dumps(plan.rules))
  assert (tmp_path / 'budget.png').stat().st_size > 1000
  assert len(paths) == 2
