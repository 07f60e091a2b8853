"""A plan within a budget for a trained run: as text, file and figure."""

import dataclasses
import json
import os
import pprint
from typing import Any

from tt_compress.planning import budget
from tt_compress.training import calibrated, origin, run, sizes

JSON, FIGURE = 'budget.json', 'budget.png'


def of_run(this: run.Run) -> budget.Measured:
  """Measures the trained model of a run; a compressed one is expanded first.

  Args:
    this: a run with checkpoints.
  """
  variables = this.variables(this.chosen)
  model = origin.dense(this.config, this.blueprint.graphdef, variables)

  carry = calibrated.no_memory(this.config, this.task)

  def loss(model, batch):
    total, weight, _ = this.task.loss(model, batch, carry=carry)
    return total / weight

  calibration = calibrated.of_task(this.config, this.task)
  return budget.measure(model, calibration, loss=loss)


def table(plan: budget.Plan) -> str:
  """A plan as text, with the rules to paste into a configuration."""
  header = (
    *('matrix', 'shape', 'parameterization', 'params', 'ratio', 'error'),
    'loss',
  )
  lines = [header, *(_line(choice) for choice in plan.choices)]
  return '\n'.join(
    [
      *sizes.aligned(lines, right=(3, 4, 5, 6)),
      '',
      f'model: {plan.num_params:,} parameters of {plan.dense_num_params:,}; '
      f'compression ratio {plan.dense_num_params / plan.num_params:.3f}; '
      f'predicted time of products {plan.latency:.3f} of dense',
      f'budget: {budget.amount(plan.budget)} {plan.unit}',
      f'loss on the batches {plan.loss:.4f}, predicted '
      f'{plan.predicted_loss:.4f}',
      '',
      f'predicted loss by {plan.unit}:',
      *_front(plan),
      '',
      rules(plan),
    ]
  )


def rules(plan: budget.Plan) -> str:
  """The setting `compress` of a configuration, in Python."""
  found = pprint.pformat(plan.rules, width=76, sort_dicts=False)
  return f'config.compress = {found}'


def _line(choice):
  chosen = choice.candidate
  options = dict(chosen.options or {'name': 'kept'})
  name = options.pop('name')
  listed = ', '.join(f'{key}={value}' for key, value in options.items())
  return (
    choice.path,
    ' x '.join(
      f'{size}'
      for size in (choice.count, choice.rows, choice.cols)[choice.count == 1 :]
    ),
    name + (f'({listed})' if listed else ''),
    f'{chosen.num_params:,}',
    f'{choice.count * choice.rows * choice.cols / chosen.num_params:.2f}',
    f'{chosen.square**0.5:.4f}',
    f'{choice.rise:+.4f}',
  )


def _front(plan, lines=12):
  step = max(1, len(plan.front) // lines)
  points = [*plan.front[::-1][::step], plan.front[0]]
  whole = plan.front[-1][0]
  return [
    f'{budget.amount(size):>14}  {size / whole:6.1%}  {loss:.4f}'
    for size, loss in dict(points).items()
  ]


def write(plan: budget.Plan, workdir: str) -> list[str]:
  """Writes `budget.json` and `budget.png`; returns their paths."""
  paths = [os.path.join(workdir, name) for name in (JSON, FIGURE)]
  with open(paths[0], 'w', encoding='utf-8') as file:
    json.dump(as_json(plan), file, indent=1)
    file.write('\n')
  draw(plan, paths[1])
  return paths


def as_json(plan: budget.Plan) -> dict[str, Any]:
  return {
    **dataclasses.asdict(plan),
    'num_params': plan.num_params,
    'latency': plan.latency,
    'predicted_loss': plan.predicted_loss,
    'rules': plan.rules,
  }


def draw(plan: budget.Plan, path: str) -> None:
  """Draws the predicted loss by size or time, with the chosen plan."""
  from matplotlib import figure  # noqa: PLC0415 - takes a second

  drawn = figure.Figure((6, 4))
  axes = drawn.add_subplot()
  found, losses = zip(*plan.front, strict=True)
  axes.plot(found, losses)
  is_of_time = plan.unit == 'seconds'
  own = plan.latency * plan.dense_seconds if is_of_time else plan.num_params
  axes.plot([own], [plan.predicted_loss], 'o', label='the plan')
  axes.axhline(plan.loss, linestyle=':', color='gray', label='the model')
  axes.set(
    xscale='log',
    xlabel=f'{plan.unit} (log scale)',
    ylabel='predicted loss',
    # Predictions far above the loss only say that a model is too small.
    ylim=(0.98 * plan.loss, max(2 * plan.loss, 1.1 * plan.predicted_loss)),
  )
  axes.legend()
  drawn.savefig(path, dpi=120, bbox_inches='tight')
