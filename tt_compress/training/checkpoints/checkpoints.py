"""Checkpoints: asynchronous, atomic, verified; keeps the latest and the best.

The only file that knows orbax. A checkpoint is a folder named by its step. It
gets this name only when it is complete and has a manifest of SHA-256 digests
(see manifests.py), with which it is compared before it is used.
"""

import json
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from absl import logging

from tt_compress import lazy
from tt_compress.nn import stacked
from tt_compress.parallel import processes
from tt_compress.training.checkpoints import keeping, manifests, matching

# A run without checkpoints does not need it.
ocp = lazy.Module('orbax.checkpoint')
ITEM = 'state'
COMMITTED = '_CHECKPOINT_METADATA'

Best = keeping.Best


class Checkpoints:
  """The checkpoints of one run, in a folder that the first save creates.

  Args:
    folder: path; checkpoints that it holds stay.
    keep_latest: how many of the latest checkpoints to keep, at least 1.
    best: `(metric name, 'max' or 'min')`: the best checkpoint by this metric is
      kept as well, however old. Of equally good checkpoints the latest is the
      best: it has been trained longest. A NaN is never the best. None keeps the
      latest alone.
    is_lasting: whether the checkpoint of a step counts as one of the latest;
      another one stays until the next is saved.

  Raises:
    ValueError: keep_latest is below 1, or `best` is not such a pair.
  """

  def __init__(
    self,
    folder: str | pathlib.Path,
    *,
    keep_latest: int = 2,
    best: Best | None = None,
    is_lasting: Callable[[int], bool] = lambda step: True,
  ):
    if not isinstance(keep_latest, int) or keep_latest < 1:
      raise ValueError(f'keep_latest = {keep_latest!r} must be at least 1')
    if best is not None and (len(best) != 2 or best[1] not in ('max', 'min')):
      raise ValueError(
        f"best = {best!r} must be None or a pair like ('bleu', 'max')"
      )
    self.folder = pathlib.Path(folder).absolute()
    self._best = best
    self._is_lasting = is_lasting
    self._policy = keeping.Policy(keep_latest, best, is_lasting)
    self._saving = None
    self._sound = set()
    self._opened = None

  @property
  def _manager(self) -> 'ocp.CheckpointManager':
    """The manager of orbax, which needs the folder and sound checkpoints."""
    if self._opened is None:
      self._verify()
      self.folder.mkdir(parents=True, exist_ok=True)
      self._opened = _open(self.folder, self._policy, self._best, self._seal)
    return self._opened

  def _verify(self) -> None:
    """Refuses damaged checkpoints; looks at each of them once."""
    for step, problem in processes.first(self.problems):
      raise ValueError(
        f'checkpoint {step} in {self.folder} is damaged: {problem}; restore it '
        'from a copy, or remove results.json and train again, which resumes '
        'from the newest sound checkpoint'
      )

  def problems(self) -> list[tuple[int, str]]:
    """The damaged checkpoints, each with the damage of its first bad file."""
    found = {
      step: self._problem(step)
      for step in self._names()
      if step not in self._sound and not self._is_empty(step)
    }
    self._sound |= {step for step in found if found[step] is None}
    # A checkpoint that another process removes meanwhile is not damaged.
    return [
      (step, problem)
      for step, problem in found.items()
      if problem and (self.folder / str(step)).is_dir()
    ]

  def repair(self) -> None:
    """Sets damaged checkpoints aside, so that training resumes without them.

    Only the process that has locked the run may call it: others could take the
    place of a checkpoint that is just being removed for a damaged one.

    Raises:
      ValueError: all are damaged, even if an earlier call has set them aside.
    """
    processes.first(self._repair)
    if self._opened is not None:
      self._opened.reload()

  def _repair(self):
    for step, problem in self.problems():
      self._set_aside(step, problem)
    leftovers = [self.folder / str(step) for step in self._names()]
    leftovers = [path for path in leftovers if self._is_empty(path.name)]
    for path in [*leftovers, *self.folder.glob('*.orbax-checkpoint-tmp*')]:
      shutil.rmtree(path)
    damaged = sorted(path.name for path in self.folder.glob('*.damaged-*'))
    if damaged and not self._steps():
      raise ValueError(
        f'all checkpoints in {self.folder} are damaged: {", ".join(damaged)}; '
        'restore one from a copy, or remove the folder to train from the '
        'beginning'
      )
    for step in self._steps():
      manifests.complete(self.folder / str(step))

  def save(
    self,
    step: int,
    state: Mapping[str, Any],
    metrics: Mapping[str, float] | None = None,
  ) -> bool:
    """Starts saving; returns once the arrays may be overwritten.

    Args:
      step: number of updates so far.
      state: nested dict of arrays and optimizer states.
      metrics: make the checkpoint a candidate for the best one.

    Returns:
      False if this step is already saved and nothing is written, else True.

    Raises:
      ValueError: the metrics lack the one that decides the best, or a later
        checkpoint exists.
    """
    if metrics is not None and self._best and self._best[0] not in metrics:
      raise ValueError(
        f'metrics {sorted(metrics)} lack {self._best[0]!r}, which decides '
        'the best checkpoint'
      )
    self.wait()
    if step in self._steps():
      return False
    newest = self.latest_step()
    if newest is not None and step < newest:
      raise ValueError(
        f'step {step} is older than checkpoint {newest} in {self.folder}; '
        'resume from that one or use another workdir'
      )
    if metrics is not None:
      metrics = {name: float(value) for name, value in metrics.items()}
    args = ocp.args.Composite(**{ITEM: ocp.args.PyTreeSave(state)})
    manager = self._manager
    self._saving = step
    return manager.save(step, args=args, metrics=metrics)

  def restore(
    self,
    abstract_state: Mapping[str, Any],
    step: int | Literal['best', 'latest'] | None = 'latest',
  ) -> dict[str, Any]:
    """Returns a saved state, bit for bit, sharded as `abstract_state`.

    Args:
      abstract_state: tree of arrays or `jax.ShapeDtypeStruct`; leaves without a
        sharding are restored on the first device. It may have only some of the
        top-level entries that were saved, e.g. only `params`.
      step: a number, 'best', 'latest' or None, which means 'latest'.

    Raises:
      FileNotFoundError: no checkpoint is saved, or not of this step.
      ValueError: a checkpoint is damaged.
      matching.Misfit: the checkpoint does not fit `abstract_state`; this
        ValueError names the parameter and both shapes.
    """
    self.wait()
    while True:
      self._verify()
      chosen = processes.first(lambda: self._choose(step))
      try:
        return self._read(chosen, abstract_state)
      except matching.Misfit:
        raise
      except Exception:
        steps = processes.first(self._steps)
        if chosen in steps:
          raise
        # The process that trains has removed it meanwhile.
        self._manager.reload()

  def average(self, abstract_params: Any, steps: int | Sequence[int]) -> Any:
    """Returns the mean of the parameters of several checkpoints.

    Args:
      abstract_params: the entry 'params' of the `abstract_state` of `restore`.
      steps: how many of the latest to average, or their step numbers.

    Raises:
      FileNotFoundError, ValueError: as `restore`; or too few checkpoints.
    """
    self.wait()
    found = list(filter(self._is_lasting, self._steps()))
    if isinstance(steps, int):
      if not 1 <= steps <= len(found):
        raise ValueError(
          f'cannot average the last {steps} checkpoints: {self.folder} holds '
          f'{len(found)} ({found}); raise keep_latest'
        )
      steps = found[-steps:]
    total = None
    for step in steps:
      params = self.restore({'params': abstract_params}, int(step))['params']
      total = params if total is None else _add(total, params)
    return _divide(total, len(steps))

  def latest_step(self) -> int | None:
    """Returns the latest complete step, or None."""
    return max(self._steps(), default=None)

  def best_step(self) -> int | None:
    """Returns the complete step with the best metric, or None.

    Of several with an equal metric, the latest one.
    """
    self._verify()
    return self._find_best()

  def wait(self) -> None:
    """Waits for the current save, raises its error, completes its manifest."""
    if self._opened is None:
      return
    self._opened.wait_until_finished()
    self._opened.check_for_errors()
    if self._saving is not None and processes.is_first():
      manifests.complete(self.folder / str(self._saving))
    self._saving = None

  def close(self) -> None:
    """Finishes the current save and closes the folder."""
    self.wait()
    if self._opened is not None:
      self._opened.close()

  def _seal(self) -> None:
    """Writes the manifest of the current save, before it gets its name."""
    pattern = f'{self._saving}.orbax-checkpoint-tmp*'
    [folder] = self.folder.glob(pattern)
    manifests.write(folder, self._saving, later=(COMMITTED,))

  def _names(self) -> list[int]:
    """Steps that folders are named by, ascending."""
    names = [path.name for path in self.folder.glob('*') if path.is_dir()]
    # Digits of other scripts are no numbers to orbax.
    names = [name for name in names if name.isascii() and name.isdigit()]
    return sorted(int(name) for name in names if name == str(int(name)))

  def _is_empty(self, step: int | str) -> bool:
    """Whether the folder of a step has no files, only other folders."""
    files = (self.folder / str(step)).rglob('*')
    return not any(path.is_file() for path in files)

  def _steps(self) -> list[int]:
    """Complete steps, ascending."""
    return [
      step
      for step in self._names()
      if (self.folder / str(step) / COMMITTED).exists()
    ]

  def _find_best(self) -> int | None:
    metrics = {step: self._metrics(step) for step in self._steps()}
    return next(iter(keeping.ranked(metrics, self._best)), None)

  def _metrics(self, step: int) -> dict[str, float] | None:
    """The metrics that were saved with a checkpoint, where orbax puts them."""
    path = self.folder / str(step) / 'metrics' / 'metrics'
    try:
      return json.loads(path.read_text())
    except FileNotFoundError:
      return None

  def _choose(self, step) -> int:
    """The step to restore."""
    found = self._steps()
    if not found:
      raise FileNotFoundError(
        f'no checkpoint is saved yet in {self.folder}; train first, or check '
        'the path'
      )
    if step in ('latest', None):
      return found[-1]
    if step == 'best':
      best = self._find_best()
      if best is None:
        raise FileNotFoundError(
          f'no checkpoint in {self.folder} has the metric that decides the '
          f"best one (best = {self._best!r}); restore 'latest' instead"
        )
      return best
    if isinstance(step, str) or step not in found:
      raise FileNotFoundError(
        f'no checkpoint {step!r} in {self.folder}; there are {found}, '
        "'latest' and 'best'"
      )
    return int(step)

  def _problem(self, step: int) -> str | None:
    """The damage of a folder named by a step, if any."""
    folder = self.folder / str(step)
    if not (folder / COMMITTED).exists():
      return f'{COMMITTED} is missing'
    return manifests.problem(folder)

  def _read(self, step: int, abstract_state: Mapping[str, Any]) -> Any:
    """Reads one checkpoint; raises `matching.Misfit` if it does not fit."""
    target = jax.tree.map(_abstract, abstract_state)
    stored = self._manager.item_metadata(step)[ITEM].tree
    wanted, target = target, stacked.alike(target, stacked.names(stored))
    matching.check(stored, target, self.folder / str(step))
    args = ocp.args.PyTreeRestore(
      item=target,
      restore_args=ocp.checkpoint_utils.construct_restore_args(target),
      partial_restore=True,
    )
    restored = self._manager.restore(
      step, args=ocp.args.Composite(**{ITEM: args})
    )
    return _converted(restored[ITEM], wanted)

  def _set_aside(self, step: int, problem: str) -> None:
    """Renames a bad checkpoint so that its step can be saved again."""
    source = self.folder / str(step)
    target = self.folder / f'{step}.damaged-{time.time_ns()}'
    logging.error(
      'Checkpoint %s is damaged: %s. It is set aside as %s; an older '
      'checkpoint takes its place.',
      source,
      problem,
      target.name,
    )
    source.rename(target)


# Compiled: an array on several processes is computed with in no other way.
@jax.jit
def _add(total, tree):
  return jax.tree.map(jnp.add, total, tree)


@jax.jit
def _divide(total, number):
  return jax.tree.map(lambda a: (a / number).astype(a.dtype), total)


def _converted(tree: Any, target: Any) -> Any:
  """The tree with layers stacked, and arrays sharded, as in the target."""
  names, structure = stacked.names(target), jax.tree.structure(target)
  # Paths do not tell whether layers without arrays, as among the moments of
  # frozen ones, are stacked.
  like_target = lambda tree: structure.unflatten(jax.tree.leaves(tree))
  if stacked.names(tree) == names:
    return like_target(tree)
  places = jax.tree.map(lambda leaf: leaf.sharding, target)
  convert = lambda tree: like_target(stacked.alike(tree, names))
  return jax.jit(convert, out_shardings=places)(tree)


def _open(
  folder: pathlib.Path,
  policy: keeping.Policy,
  best: Best | None,
  seal: Callable[[], None],
) -> 'ocp.CheckpointManager':
  """Opens the manager of orbax; `seal` is called before a save is committed."""
  options = ocp.CheckpointManagerOptions(
    preservation_policy=policy,
    # Without it orbax writes no metrics.
    best_fn=best and (lambda metrics: keeping.quality(metrics, best)),
    async_options=ocp.AsyncOptions(post_finalization_callback=seal),
  )
  handlers = {ITEM: ocp.PyTreeCheckpointHandler()}
  return ocp.CheckpointManager(folder, options=options, item_handlers=handlers)


def _abstract(leaf) -> jax.ShapeDtypeStruct:
  """Shape, dtype and sharding of a leaf; the first device if it has none.

  Without a sharding orbax would use the one in the file, whose devices this
  machine may not have.
  """
  sharding = getattr(leaf, 'sharding', None)
  if sharding is None:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
