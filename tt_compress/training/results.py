"""The results of a run: facts about it besides its scores, and a report."""

from collections.abc import Mapping
from typing import Any

import jax

from tt_compress.tasks import base
from tt_compress.training import environment, origin, sizes


def describe(config, counts: Mapping[str, Any]) -> dict[str, Any]:
  """Describes the run, the code and the devices as they are now.

  Args:
    config: of the run.
    counts: of its model, see `sizes.make`.
  """
  names = ('num_params', 'dense_num_params', 'compression_ratio')
  return {
    'config': config.to_dict(),
    **{name: counts[name] for name in (*names, 'matrices', 'reference')},
    'versions': environment.versions(),
    'git': environment.git_hash(),
    'backend': jax.default_backend(),
    'num_devices': jax.device_count(),
    'num_processes': jax.process_count(),
  }


def report(
  results: Mapping[str, Any],
  counts: Mapping[str, Any],
  task: base.Task,
  twin: Mapping[str, Any] | None,
) -> str:
  """The results of a run as text, with the test score at the end.

  Args:
    results: of the run.
    counts: of its model, see `sizes.make`.
    task: of the run.
    twin: results of the dense twin, or None.
  """
  parts = [sizes.table(counts), task.report_baselines(results)]
  if results.get('fit'):
    parts.append(_fit(results['fit'], task))
  if twin is not None:
    parts.append(f'dense twin, {_cost(twin)}: {task.headline(twin["test"])}')
  parts += [
    f'this model, {_cost(results)}:',
    sizes.describe_stored(results['stored']),
    task.report('test', results['test']),
  ]
  return '\n'.join(part for part in parts if part)


def _cost(results):
  minutes = results['seconds'] / 60
  return f'{results["num_params"]:,} parameters, {minutes:.1f} minutes'


def _fit(fit, task):
  before = fit['test_before']
  score = f', {task.headline(before)}' if before else ''
  return (
    f'\nfitted from {fit["init_from"]}{score}:\n'
    f'{origin.table(fit["matrices"])}\n'
    f'before fine-tuning: {task.headline(fit["test"])}\n'
  )
