"""Shows trained models side by side on a local page.

  pip install -e '.[demo]'
  python -m tt_compress.demo --workdir=runs/multi30k_tt,runs/multi30k_tt-4x

The dense twin in FOLDER-dense joins each folder, if it is there. The server is
reachable from this machine only.
"""

import os
from collections.abc import Sequence

from absl import app, flags

from tt_compress import configuration
from tt_compress.parallel import compile_cache
from tt_compress.training import build, run, workdir

try:
  import uvicorn

  from tt_compress.demo import server
except ImportError as error:
  raise SystemExit(f"error: {error}; pip install -e '.[demo]'") from error

_WORKDIR = flags.DEFINE_list(
  'workdir', None, 'Folders of finished runs, joined by commas.'
)
_PORT = flags.DEFINE_integer('port', 8000, 'Of the page.', 0, 65535)


def load(folders: Sequence[str]) -> list[server.Model]:
  """The models of finished runs and of their dense twins, largest first.

  Raises:
    ValueError: a run has not finished, or its task reads no lines.
  """
  twins = [
    folder.rstrip('/') + configuration.DENSE_SUFFIX for folder in folders
  ]
  paths = [*folders, *filter(os.path.isdir, twins)]
  models = [_load(path) for path in dict.fromkeys(map(os.path.abspath, paths))]
  return sorted(models, key=lambda model: -model.num_params)


class _Loaded:
  """A run whose arrays stay in memory, so that they are prepared once."""

  def __init__(self, this: run.Run):
    self._run = this
    self._variables = this.variables(this.chosen)

  def predict(self, lines: Sequence[str], *, num_best: int = 1) -> list:
    with build.machine(self._run.config):
      return self._run.task.predict(self._variables, lines, num_best)


def _load(path):
  this = run.Run(workdir.load_config(path), path)
  this.task.check_lines()
  results = this.results()
  if results is None:
    raise ValueError(
      f'the run in {path} has not finished; run it again to resume it'
    )
  scores = ', '.join(
    f'{name} {results["test"][name]:.4g}'
    for name in this.task.metrics
    if name in results['test']
  )
  return server.Model(
    name=os.path.basename(path),
    run=_Loaded(this),
    num_params=results['num_params'],
    num_bytes=results['stored']['bits'] / 8,
    scores=scores,
  )


def main(argv):
  if len(argv) > 1 or not _WORKDIR.value:
    raise app.UsageError('give --workdir=FOLDER,... and no other arguments')
  compile_cache.use()
  try:
    application = server.make(load(_WORKDIR.value))
  except (OSError, ValueError) as error:
    raise SystemExit(f'error: {error}') from error
  # Loopback: the models answer whoever reaches the port.
  uvicorn.run(application, host='127.0.0.1', port=_PORT.value)


if __name__ == '__main__':
  app.run(main)
