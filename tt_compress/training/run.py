"""One run: a configuration and a folder; train, evaluate, predict."""

import functools
import json
import os
from collections.abc import Mapping
from typing import Any

import jax
from absl import logging

from tt_compress import configuration, tasks
from tt_compress.parallel import processes, sharding
from tt_compress.training import (
  build,
  optimizers,
  restore,
  results,
  sizes,
  train,
)
from tt_compress.training import workdir as folder
from tt_compress.training.checkpoints import checkpoints


class Run:
  """A configuration and the folder of its run.

  The folder holds everything a run has done, so that the same command resumes
  a run that was killed.

  Attributes:
    config: the configuration.
    workdir: the absolute path of the folder.
    blueprint: the model, without arrays.
    task: the problem that the model is trained for.

  Args:
    config: the run's configuration, see `configuration.defaults`.
    workdir: its folder; created by `train`.

  Raises:
    ValueError: if the settings do not fit together, or the folder belongs to
      another configuration.
  """

  def __init__(self, config, workdir: str):
    if isinstance(config, str):
      raise TypeError(
        f'config={config!r} is no configuration; give load_config({config!r})'
      )
    folder.check_path(workdir)
    self.config = config
    self.workdir = os.path.abspath(workdir)
    configuration.check(config)
    self.blueprint = build.blueprint(config)
    self.blueprint.settled_at(config.num_steps)
    # Abstractly, so that settings of the optimizer that do not fit the model
    # are refused now.
    optimizer, _ = optimizers.of_run(config, self.blueprint)
    jax.eval_shape(optimizer.init, self.blueprint.params)
    self.task = tasks.TASKS[config.task](
      config, self.blueprint.graphdef, self.workdir
    )
    folder.compare(config, self.workdir)

  @functools.cached_property
  def mesh(self) -> jax.sharding.Mesh:
    return sharding.make_mesh(**self.config.mesh)

  @functools.cached_property
  def _checkpoints(self) -> checkpoints.Checkpoints:
    return restore.open_checkpoints(self.config, self.workdir)

  def _check_workdir(self) -> None:
    """Refuses a folder without a run, or whose vocabulary has changed."""
    folder.load_config(self.workdir)
    self.task.verify(folder.read_data(self.workdir) or {})

  @property
  def chosen(self) -> str:
    """Which checkpoint is evaluated, for `variables`."""
    return restore.chosen(self.config)

  def variables(self, which: str = 'best') -> dict[str, Any]:
    """Trained arrays {'params', 'buffers'} of a checkpoint.

    Args:
      which: 'best', 'latest' or 'average', the mean of the latest ones.

    Raises:
      FileNotFoundError: if nothing has been trained here.
    """
    processes.together(self._check_workdir)
    return restore.variables(
      self.config, self.blueprint, self.mesh, self._checkpoints, which
    )

  def close(self) -> None:
    """Closes the checkpoints, where one process makes many runs."""
    self._checkpoints.close()

  def train(self) -> dict[str, Any]:
    """Trains to the end, evaluates on the test split, and returns the results.

    Resumes from the latest checkpoint; the results of a run that has finished
    are read from its folder.

    Raises:
      FloatingPointError: if the loss is not finite; it is not saved.
      stopping.Stopped: a signal has asked for the end; the state is saved.
    """
    finished = self.results()
    if finished is not None:
      return finished
    with folder.locked(self.workdir), build.machine(self.config):
      return train.train(
        self.config, self.workdir, self.blueprint, self.task, self._checkpoints
      )

  def evaluate(self, split: str = 'test') -> dict[str, Any]:
    """Scores of the chosen checkpoint, see the task's `evaluate`."""
    with build.machine(self.config):
      return self.task.evaluate(self.variables(self.chosen), split)

  def predict(self, lines, *, num_best: int = 1) -> list:
    """The `num_best` answers of the chosen checkpoint to each line."""
    if isinstance(lines, str):
      raise TypeError(f'lines={lines!r} is one string; give a list of them')
    self.task.check_lines()
    with build.machine(self.config):
      return self.task.predict(self.variables(self.chosen), lines, num_best)

  def sizes(self) -> dict[str, Any]:
    """Counts the parameters of the model, see `sizes.make`."""
    return sizes.make(self.config, self.blueprint)

  def results(self) -> dict[str, Any] | None:
    """What `train` returned, if it has finished with these settings.

    Raises:
      ValueError: if the last checkpoint holds other parameters, or the results
        are damaged or from an older version.
    """
    found = processes.first(lambda: folder.read_results(self.workdir))
    if found is None:
      return None
    recorded = configuration.from_json(json.dumps(found['config']))
    if folder.changes_of_results(recorded, self.config):
      return None
    params = self.variables('latest')['params']
    if folder.digest(params) != found['params_sha256']:
      raise ValueError(
        f'{folder.RESULTS_FILE} in {self.workdir} belongs to other parameters '
        'than the last checkpoint of the folder; remove the file to evaluate '
        'the checkpoint'
      )
    return found

  def report(self, found: Mapping[str, Any]) -> str:
    """The results that `train` returned as text.

    Args:
      found: the results; the dense twin's are read from FOLDER-dense.
    """
    twin = self._twin_results()
    return results.report(found, self.sizes(), self.task, twin)

  def _twin_results(self):
    twin_workdir = self.workdir + configuration.DENSE_SUFFIX
    try:
      folder.compare(configuration.twin(self.config), twin_workdir)
    except ValueError as error:
      logging.warning('not compared with the dense twin: %s', error)
      return None
    return folder.read_results(twin_workdir)
