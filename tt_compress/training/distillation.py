"""Learning from a trained run: the loss of a task, beside a teacher."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh

from tt_compress import tasks
from tt_compress.models.transformer import distilled
from tt_compress.nn import modules
from tt_compress.parallel import processes
from tt_compress.tasks import base
from tt_compress.training import build, layout, restore, workdir


@dataclasses.dataclass(frozen=True)
class Lesson:
  """The loss of a run, with what it needs of a teacher.

  Attributes:
    loss: see `tasks.base.Task.loss`; it takes the constants behind its other
      arguments.
    constants: the arrays of the teacher, or their shapes, with shardings; empty
      without a teacher.
    facts: about the teacher; a resumed run must have the same.
  """

  loss: Callable[..., tuple[jax.Array, jax.Array, Any]]
  constants: tuple = ()
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def check(config) -> None:
  """Refuses a teacher that does not fit the model, if there is one.

  Raises:
    ValueError: as `abstract`.
  """
  if config.distill.folder is not None:
    _open(config)


def abstract(config, task: base.Task, mesh: Mesh) -> Lesson:
  """The lesson of a run, with shapes in place of arrays.

  Raises:
    ValueError: `config.distill.folder` is not the folder of a run with the same
      task, inputs and number of logits.
  """
  if config.distill.folder is None:
    return Lesson(task.loss)
  source = _open(config)
  blueprint = build.blueprint(source)
  shapes = layout.of_run(source, blueprint, mesh).abstract(blueprint.variables)
  return Lesson(_loss(config, task, blueprint.graphdef), (shapes,))


def start(config, task: base.Task, folder: str, mesh: Mesh) -> Lesson:
  """The lesson of a run, with the arrays of the chosen checkpoint.

  Args:
    config: of the run.
    task: of the run, with its vocabulary.
    folder: of the run.
    mesh: of the run.

  Raises:
    ValueError: the teacher is not a finished run with the same vocabulary; see
      `abstract`, too.
  """
  if config.distill.folder is None:
    return Lesson(task.loss)
  processes.together(lambda: _verify(config, task, folder))
  path, source = config.distill.folder, _open(config)
  blueprint = build.blueprint(source)
  arrays = restore.from_folder(source, blueprint, path, mesh)
  size = modules.num_params(arrays['params'])
  logging.info('learning from %s, %s parameters', path, f'{size:,}')
  loss = _loss(config, task, blueprint.graphdef)
  return Lesson(loss, (arrays,), {'teacher_sha256': workdir.digest(arrays)})


def _loss(config, task, graphdef):
  """The loss of a task, whose model becomes a student with its teacher."""
  options = dict(
    temperature=config.distill.temperature, weight=config.distill.weight
  )

  def loss(model, batch, noise, carry, variables):
    teacher = modules.merge(graphdef, **variables)
    both = distilled.Distilled(model, teacher, **options)
    return task.loss(both, batch, noise, carry)

  return loss


def _open(config):
  """The configuration of the teacher.

  Its arrays are placed by their parameterizations: its own rules are for the
  mesh that it was trained on.
  """
  path = config.distill.folder
  source = restore.load_config(config, 'distill.folder')
  if source.model.get('cutoffs'):
    raise ValueError(
      f'distill.folder={path} holds a model with an adaptive softmax '
      f'(model.cutoffs={source.model.cutoffs}), which cannot teach; take one '
      'with a softmax over all tokens'
    )
  if tasks.TASKS[source.task].carry_shapes(source):
    raise ValueError(
      f'distill.folder={path} holds a model with memory '
      f'(model.name={source.model.name}), which cannot teach; take one that '
      'reads each example by itself'
    )
  if source.model.vocab_size != config.model.vocab_size:
    raise ValueError(
      f'distill.folder={path} has model.vocab_size={source.model.vocab_size}, '
      f'but this run has model.vocab_size={config.model.vocab_size}; set both '
      'to the same number and train the teacher with it'
    )
  source.sharding.rules = ()
  return source


def _verify(config, task, folder):
  """Refuses a teacher that has not finished or has another vocabulary."""
  path = config.distill.folder
  if os.path.realpath(path) == os.path.realpath(folder):
    raise ValueError(
      f'distill.folder={path} is the folder of this run; choose another '
      '--workdir'
    )
  _open(config)
  if workdir.read_results(path) is None:
    raise ValueError(
      f'distill.folder={path} holds a run that has not finished: '
      f'{workdir.RESULTS_FILE} is missing; train it to the end first, by '
      f'--workdir={path}'
    )
  theirs = workdir.read_data(path) or {}
  for vocabulary in task.vocabularies:
    for name, own in vocabulary.facts().items():
      if theirs.get(name) != own:
        raise ValueError(
          f'the teacher in distill.folder={path} has another vocabulary than '
          f'this run: {name} is {theirs.get(name)} there and {own} in {folder};'
          ' train the teacher with the data and the vocabulary settings of '
          'this run, or choose another folder'
        )
