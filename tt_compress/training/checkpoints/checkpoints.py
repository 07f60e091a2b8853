"""Checkpoints: asynchronous, atomic, verified; keeps the latest and the best.

The only file that knows orbax. A checkpoint is a folder named by its step; it
appears under that name only when it is complete, and gets a manifest of
SHA-256 digests (see manifests.py) as soon as it is known to be finished: at
the next `save`, at `wait`, `close` or `restore`. A process killed between the
two leaves a complete checkpoint without a manifest. It is used, with a warning:
only flipped bits in it would go unnoticed.
"""

import math
import pathlib
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from absl import logging

from tt_compress import lazy
from tt_compress.nn import stacked
from tt_compress.parallel import processes
from tt_compress.training.checkpoints import manifests, matching

# A run without checkpoints does not need it.
ocp = lazy.Module('orbax.checkpoint')
ITEM = 'state'
COMMITTED = '_CHECKPOINT_METADATA'

Best = tuple[str, Literal['max', 'min']]


class Checkpoints:
  """The checkpoints of one run, in a folder that the first save creates.

  Args:
    folder: path; checkpoints that it holds stay.
    keep_latest: how many of the latest checkpoints to keep, at least 1.
    best: `(metric name, 'max' or 'min')`: the best checkpoint by this metric is
      kept as well, however old. Of equally good checkpoints the latest is the
      best: it has been trained longest. A NaN is never the best. None keeps the
      latest alone.

  Raises:
    ValueError: keep_latest is below 1, or `best` is not such a pair.
  """

  def __init__(
    self,
    folder: str | pathlib.Path,
    *,
    keep_latest: int = 2,
    best: Best | None = None,
  ):
    if not isinstance(keep_latest, int) or keep_latest < 1:
      raise ValueError(f'keep_latest = {keep_latest!r} must be at least 1')
    if best is not None and (len(best) != 2 or best[1] not in ('max', 'min')):
      raise ValueError(
        f"best = {best!r} must be None or a pair like ('bleu', 'max')"
      )
    self.folder = pathlib.Path(folder).absolute()
    self._best = best
    self._keep_latest = keep_latest
    self._is_tidy = False
    self._unverified = set()
    self._opened = None
    if processes.first(self.folder.is_dir):
      self._opened = self._open()

  @property
  def _manager(self) -> 'ocp.CheckpointManager':
    """The manager of orbax, which needs the folder."""
    if self._opened is None:
      self.folder.mkdir(parents=True, exist_ok=True)
      self._opened = self._open()
    return self._opened

  def _open(self) -> 'ocp.CheckpointManager':
    try:
      return _open(self.folder, self._keep_latest, self._best)
    except ValueError:  # Unreadable metrics of some checkpoint stop orbax.
      for step in self._steps():
        problem = self._problem(step)
        if problem is not None:
          self._set_aside(step, problem)
      return _open(self.folder, self._keep_latest, self._best)

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
    self._tidy()
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
    self._unverified.add(step)
    return self._manager.save(step, args=args, metrics=metrics)

  def restore(
    self,
    abstract_state: Mapping[str, Any],
    step: int | Literal['best', 'latest'] | None = 'latest',
  ) -> dict[str, Any]:
    """Returns a saved state, bit for bit, sharded as `abstract_state`.

    A damaged checkpoint is renamed, logged as an error, and replaced by the
    next candidate. A step that is given by number has no substitute.

    Args:
      abstract_state: tree of arrays or `jax.ShapeDtypeStruct`; leaves without a
        sharding are restored on the first device. It may have only some of the
        top-level entries that were saved, e.g. only `params`.
      step: a number, 'best', 'latest' or None, which means 'latest'.

    Raises:
      FileNotFoundError: no sound checkpoint is saved, or not of this step.
      ValueError: the checkpoint that is given by number is damaged.
      matching.Misfit: the checkpoint does not fit `abstract_state`; this
        ValueError names the parameter and both shapes.
    """
    self.wait()
    is_number = step is not None and not isinstance(step, str)
    for candidate in self._candidates(step):
      problem = self._problem(candidate)
      if problem is None:
        try:
          return self._read(candidate, abstract_state)
        except matching.Misfit:
          raise
        except Exception as error:
          if manifests.exists(self.folder / str(candidate)):
            raise  # Every byte is as it was written: not a damaged file.
          problem = f'reading it failed with {error}'
      if is_number:
        raise ValueError(
          f'checkpoint {candidate} in {self.folder} is damaged: {problem}; '
          "restore 'latest' to use the newest sound one"
        )
      self._set_aside(candidate, problem)
    raise FileNotFoundError(
      f'no sound checkpoint in {self.folder}; train first, or check the path'
    )

  def average(self, abstract_params: Any, steps: int | Sequence[int]) -> Any:
    """Returns the mean of the parameters of several checkpoints.

    Args:
      abstract_params: the entry 'params' of the `abstract_state` of `restore`.
      steps: how many of the latest to average, or their step numbers.

    Raises:
      FileNotFoundError, ValueError: as `restore`; or too few checkpoints.
    """
    self.wait()
    found = self._steps()
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
    ranked = self._ranked()
    return ranked[0] if ranked else None

  def wait(self) -> None:
    """Waits for the current save, raises its error, writes manifests."""
    if self._opened is None:
      return
    self._opened.wait_until_finished()
    self._opened.check_for_errors()
    if processes.is_first():
      for step in self._unverified & set(self._steps()):
        manifests.write(self.folder / str(step))
    self._unverified = set()

  def close(self) -> None:
    """Finishes the current save and closes the folder."""
    self.wait()
    if self._opened is not None:
      self._opened.close()

  def _steps(self) -> list[int]:
    """Complete steps, ascending. An empty step folder is not one."""
    return sorted(
      int(path.parent.name)
      for path in self.folder.glob(f'*/{COMMITTED}')
      if path.parent.name.isdigit()
    )

  def _ranked(self) -> list[int]:
    """Complete steps that have the deciding metric, best and newest first."""
    if self._best is None:
      return []
    quality = {
      step: _quality(self._manager.metrics(step), self._best)
      for step in self._steps()
    }
    usable = [step for step in quality if quality[step] > -math.inf]
    return sorted(usable, key=lambda s: (quality[s], s), reverse=True)

  def _candidates(self, step) -> list[int]:
    """Steps to try in order, the same on every process."""
    return processes.first(lambda: self._find_candidates(step))

  def _find_candidates(self, step) -> list[int]:
    found = self._steps()
    newest_first = found[::-1]
    if not found:
      raise FileNotFoundError(
        f'no checkpoint is saved yet in {self.folder}; train first, or check '
        'the path'
      )
    if step in ('latest', None):
      return newest_first
    if step == 'best':
      ranked = self._ranked()
      if not ranked:
        raise FileNotFoundError(
          f'no checkpoint in {self.folder} has the metric that decides the '
          f"best one (best = {self._best!r}); restore 'latest' instead"
        )
      return ranked + [s for s in newest_first if s not in ranked]
    if isinstance(step, str) or step not in found:
      raise FileNotFoundError(
        f'no checkpoint {step!r} in {self.folder}; there are {found}, '
        "'latest' and 'best'"
      )
    return [int(step)]

  def _problem(self, step: int) -> str | None:
    """The damage of a complete checkpoint, if any; process 0 looks for all."""
    return processes.first(lambda: self._find_problem(step))

  def _find_problem(self, step: int) -> str | None:
    folder = self.folder / str(step)
    if manifests.exists(folder):
      return manifests.problem(folder)
    logging.warning(
      'Checkpoint %s has no manifest (the process was killed right after it '
      'was saved): using it unverified.',
      folder,
    )
    return None

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
    if not manifests.exists(self.folder / str(step)):
      self._unverified.add(step)  # It was readable, so it gets a manifest.
    return _converted(restored[ITEM], wanted)

  def _tidy(self) -> None:
    """Removes leftovers of killed runs, once, before the first save."""
    if self._is_tidy:
      return
    self._is_tidy = True
    names = [p.name for p in self.folder.glob('*') if p.name.isdigit()]
    incomplete = sorted({int(name) for name in names} - set(self._steps()))
    # Every process has looked before the first one renames.
    processes.wait('tidy')
    for step in incomplete:
      self._set_aside(step, 'it is incomplete')
    if processes.is_first():
      for path in self.folder.glob('*.orbax-checkpoint-tmp*'):
        shutil.rmtree(path, ignore_errors=True)

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
    if processes.is_first():
      source.rename(target)
    processes.wait(f'set aside {step}')
    if self._opened is not None:
      self._opened.reload()


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
  folder: pathlib.Path, keep_latest: int, best: Best | None
) -> 'ocp.CheckpointManager':
  """Opens the manager of orbax, which keeps the latest and the best."""
  policies = [ocp.checkpoint_managers.LatestN(keep_latest)]
  options = {}
  if best is not None:
    rank = lambda metrics: _quality(metrics, best)
    policies.append(
      ocp.checkpoint_managers.BestN(
        get_metric_fn=rank, n=1, keep_checkpoints_without_metrics=False
      )
    )
    options['best_fn'] = rank  # Without it orbax writes no metrics.
  any_of = ocp.checkpoint_managers.AnyPreservationPolicy(policies)
  options = ocp.CheckpointManagerOptions(preservation_policy=any_of, **options)
  handlers = {ITEM: ocp.PyTreeCheckpointHandler()}
  return ocp.CheckpointManager(folder, options=options, item_handlers=handlers)


def _quality(metrics: Mapping[str, float] | None, best: Best) -> float:
  """A number that is larger for a better checkpoint; NaN and none are worst."""
  name, mode = best
  value = (metrics or {}).get(name, math.nan)
  if math.isnan(value):
    return -math.inf
  return value if mode == 'max' else -value


def _abstract(leaf) -> jax.ShapeDtypeStruct:
  """Shape, dtype and sharding of a leaf; the first device if it has none.

  Without a sharding orbax would use the one in the file, whose devices this
  machine may not have.
  """
  sharding = getattr(leaf, 'sharding', None)
  if sharding is None:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
