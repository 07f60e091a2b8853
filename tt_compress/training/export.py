"""Writes the trained model of a run for other programs."""

import os

import jax

from tt_compress import pretrained
from tt_compress.nn import modules, serving
from tt_compress.parallel import processes
from tt_compress.pretrained import programs
from tt_compress.training import pretrained_origin, run

FOLDER = 'export'


def write(this: run.Run, form: str) -> str:
  """Writes the chosen checkpoint into a folder of the run.

  Args:
    this: the run.
    form: 'safetensors' (factors), 'dense-safetensors' (under the original names
      if the run began with a pretrained model, else under ours) or 'stablehlo'.

  Returns:
    The path of the main file.

  Raises:
    FileNotFoundError: nothing has been trained.
    ValueError: the model has no call of arrays of a batch.
  """
  arrays = processes.fetch(this.variables(this.chosen))
  model = modules.merge(this.blueprint.graphdef, **arrays)
  return processes.first(lambda: _write(this, model, form))


def _write(this, model, form):
  folder = os.path.join(this.workdir, FOLDER, form)
  if form == 'stablehlo':
    return programs.save(folder, model, _inputs(this, model))
  origin = this.config.init_from or ''
  if form == 'dense-safetensors':
    if pretrained_origin.is_pretrained(origin):
      like = origin.removeprefix(pretrained_origin.PREFIX)
      return pretrained.save(folder, model, like)
    serving.expand(model)
  return pretrained.save_factors(folder, model, this.config.model.to_dict())


def _inputs(this, model):
  """The shape of one example of each argument of a call."""
  names = this.task.called_with
  if not names or not callable(model):
    raise ValueError(
      f'--format=stablehlo: model.name={this.config.model.name!r} of '
      f'task={this.config.task!r} has no call of arrays of a batch; use '
      '--format=safetensors'
    )
  shapes = this.task.batch_shapes(this.config, 1)
  return [
    jax.ShapeDtypeStruct(shapes[name].shape[1:], shapes[name].dtype)
    for name in names
  ]
