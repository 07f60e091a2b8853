"""The command line: reads flags and a configuration, and runs one mode.

python -m tt_compress.main --config=configs/quickstart.py:tiny
"""

import os
import pathlib
import shlex
import sys
import traceback

from absl import app, flags, logging
from ml_collections import config_flags

from tt_compress import configuration, lazy

# Importing all of them takes two seconds: help and mistakes in flags need none,
# a mode few.
jax = lazy.Module('jax')
budget_report = lazy.Module('tt_compress.planning.budget_report')
cluster = lazy.Module('tt_compress.parallel.cluster')
command = lazy.Module('tt_compress.studies.report.command')
compile_cache = lazy.Module('tt_compress.parallel.compile_cache')
configurations = lazy.Module('tt_compress.studies.configurations')
device_plan = lazy.Module('tt_compress.planning.device_plan')
export = lazy.Module('tt_compress.training.export')
heap = lazy.Module('tt_compress.parallel.heap')
plan = lazy.Module('tt_compress.planning.plan')
pretrained_origin = lazy.Module('tt_compress.training.pretrained_origin')
processes = lazy.Module('tt_compress.parallel.processes')
run = lazy.Module('tt_compress.training.run')
stopping = lazy.Module('tt_compress.parallel.stopping')
study = lazy.Module('tt_compress.studies.study')
text_files = lazy.Module('tt_compress.data.text_files')
verify = lazy.Module('tt_compress.training.verify')
workdir = lazy.Module('tt_compress.training.workdir')

MODES = (
  'train',
  'compress',
  'evaluate',
  'predict',
  'plan',
  'study',
  'verify',
  'export',
)

_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'Config file, FILE or FILE:flag,key=value. --config.NAME=VALUE overrides a '
  'setting.',
  lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run; runs/NAME by default.'
)
_MODE = flags.DEFINE_enum('mode', 'train', MODES, 'What to do with the run.')
_INIT_FROM = flags.DEFINE_string(
  'init_from',
  None,
  'compress: folder of a trained run, or hf:FOLDER of a model that '
  'transformers saved. The rules of this configuration fit its matrices, and '
  'training continues from the result.',
)
_FORMAT = flags.DEFINE_enum(
  'format',
  'safetensors',
  ('safetensors', 'dense-safetensors', 'stablehlo'),
  'export: factors; dense matrices, under the original names if the run began '
  'with hf:FOLDER; or a compiled program.',
)
_DEVICES = flags.DEFINE_string(
  'devices',
  None,
  'plan: number of devices of this host, or GPUs or TPUs that need not be '
  'present, such as h100:8 and v5e:8x8. The step is compiled for them; bytes '
  'that each device holds and exchanges, and its kernels, are printed.',
)
_BUDGET = flags.DEFINE_string(
  'budget',
  None,
  'plan: size of a compressed model, such as 4M parameters, 25% of the model '
  'or 10MB, or latency=0.8 of the time of products. Prints the best method and '
  'rank of each matrix of the trained run in --workdir.',
)
_NUM_BEST = flags.DEFINE_integer(
  'num_best',
  1,
  'predict: number of answers per line, with scores if more than one.',
  lower_bound=1,
)
_CLUSTER = flags.DEFINE_enum(
  'cluster',
  'auto',
  ('auto', 'none', 'tpu'),
  'Other processes of this run: auto finds them in the environment (SLURM, '
  'Kubernetes), tpu takes the other workers of this TPU, none is one process.',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'HOST:PORT of process 0, instead of --cluster.'
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'With --coordinator: number of processes.'
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'With --coordinator: index of this process, from 0.'
)
_JOIN_TIMEOUT = flags.DEFINE_integer(
  'join_timeout',
  300,
  'Seconds to wait for the other processes.',
  lower_bound=1,
)
_COMPILE_CACHE = flags.DEFINE_bool(
  'compile_cache',
  True,
  'Keep compiled programs for later runs, in $JAX_COMPILATION_CACHE_DIR or '
  '~/.cache/tt_compress/programs.',
)


def _join() -> None:
  """Connects to the other processes of the run, if there are any."""
  given = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  found = None
  if any(value is not None for value in given):
    if None in given:
      raise app.UsageError(
        '--coordinator, --num_processes and --process_id go together'
      )
    found = cluster.Cluster(*given)
  elif _CLUSTER.value == 'tpu':
    found = cluster.Cluster()
  elif _CLUSTER.value == 'auto':
    found = cluster.detect(os.environ)
  if found is None or found.num_processes == 1:
    return
  cluster.join(found, _JOIN_TIMEOUT.value)
  if not processes.is_first():
    logging.set_verbosity(logging.WARNING)


def _start() -> tuple:
  """The configuration and the folder, which all processes agree on."""
  config, path = processes.together(_load)
  processes.agree(
    'configuration',
    {
      **configuration.flatten(config.to_dict()),
      '--mode': _MODE.value,
      '--workdir': os.path.abspath(path),
    },
  )
  logging.info('%s in %s on %s', _MODE.value, path, jax.devices())
  return config, path


def _load() -> tuple:
  """The configuration and the folder of this run.

  Without a config file, the configuration comes from the folder of a run.
  """
  config, path = _CONFIG.value, _WORKDIR.value
  if config is None and path is None:
    raise app.UsageError(
      'no run is given: set --config, e.g. --config=configs/quickstart.py, or '
      '--workdir=FOLDER of a trained run'
    )
  if config is None:
    config = workdir.load_config(path)
  if _MODE.value == 'compress':
    path = path or os.path.join('runs', f'{config.name}-fitted')
    return _from_trained(config, path), path
  if _INIT_FROM.value is not None:
    raise app.UsageError('--init_from needs --mode=compress')
  if _DEVICES.value is not None and _MODE.value != 'plan':
    raise app.UsageError('--devices needs --mode=plan')
  if _BUDGET.value is not None and _MODE.value != 'plan':
    raise app.UsageError('--budget needs --mode=plan')
  if _FORMAT.present and _MODE.value != 'export':
    raise app.UsageError('--format needs --mode=export')
  if _MODE.value == 'study':
    study.check(config)
    return config, path or os.path.join('runs', configurations.name(config))
  if 'study' in config:
    raise app.UsageError(f'{config.name} is a study; run it with --mode=study')
  return config, path or os.path.join('runs', config.name)


def _from_trained(config, path):
  """The configuration with the folder that the run starts from.

  The flag comes before the setting, and this before that of an existing run.
  """
  folder = _INIT_FROM.value or config.init_from
  if folder is None and os.path.exists(os.path.join(path, workdir.CONFIG_FILE)):
    folder = workdir.load_config(path).init_from
  if folder is None:
    raise app.UsageError(
      '--mode=compress needs --init_from=FOLDER of a trained run'
    )
  with config.unlocked():
    config.init_from = pretrained_origin.absolute(folder)
  return config


def _train(this: 'run.Run') -> None:
  results = this.train()
  if processes.is_first():
    print(this.report(results))


def _evaluate(this: 'run.Run') -> None:
  scores = this.evaluate('test')
  if processes.is_first():
    print(this.task.report('test', scores))


def _predict(this: 'run.Run') -> None:
  this.task.check_lines()  # Before it waits for lines.
  # Predictions are UTF-8 in every locale.
  sys.stdout.reconfigure(encoding='utf-8')
  lines = processes.first(
    lambda: text_files.decode_lines(sys.stdin.buffer, 'standard input')
  )
  found = this.predict(lines, num_best=_NUM_BEST.value)
  for best in found if processes.is_first() else ():
    if _NUM_BEST.value == 1:
      print(this.task.report_answer(best[0]))
      continue
    for rank, answer in enumerate(best, 1):
      print(f'{rank}\t{answer.score:.4f}\t{answer.text}')


def _export(this: 'run.Run') -> None:
  path = export.write(this, _FORMAT.value)
  if processes.is_first():
    print('written to', path)


def _plan(this: 'run.Run') -> None:
  if _BUDGET.value is not None:
    _plan_budget(this)
    return
  made = plan.make(this.config, this.blueprint)
  if not processes.is_first():
    return
  print(plan.table(made))
  if _DEVICES.value is not None:
    made['devices'] = device_plan.make(this.config, _DEVICES.value)
    print(device_plan.table(made['devices']))
  print('written to', plan.write(made, this.workdir))


def _plan_budget(this: 'run.Run') -> None:
  made = budget_report.of_run(this).plan(_BUDGET.value)
  if processes.is_first():
    print(budget_report.table(made))
    print('written to', *budget_report.write(made, this.workdir))


def _study(config, path: str) -> None:
  line = f'python -m tt_compress.main {shlex.join(sys.argv[1:])}'
  print(command.run(config, path, line))


def _verify() -> None:
  """Lists the damaged files of a run; status 1 if there are any."""
  path = _WORKDIR.value
  if path is None:
    raise app.UsageError('--mode=verify needs --workdir=FOLDER of a run')
  found = verify.problems(path)
  if found:
    print('\n'.join(found))
    sys.exit(1)
  print(f'{path} is as it was written')


def _run(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  if _MODE.value == 'verify':
    _verify()
    return
  heap.keep()
  if _COMPILE_CACHE.value:
    compile_cache.use()
  _join()
  config, path = _start()
  try:
    _do(config, path)
  except stopping.Stopped as stopped:
    logging.warning('%s', stopped)
    processes.wait('end')
    raise
  processes.wait('end')  # Early processes would time out.


def _do(config, path: str) -> None:
  """Does what the mode says."""
  if _MODE.value == 'study':
    _study(config, path)
    return
  {
    'train': _train,
    'compress': _train,
    'evaluate': _evaluate,
    'predict': _predict,
    'plan': _plan,
    'export': _export,
  }[_MODE.value](processes.together(lambda: run.Run(config, path)))


def _is_explained(error: BaseException) -> bool:
  """Whether this package raised the error, so that its message suffices."""
  *_, (frame, _) = traceback.walk_tb(error.__traceback__)
  package = pathlib.Path(__file__).parent
  return package in pathlib.Path(frame.f_code.co_filename).parents


def main(argv: list[str]) -> None:
  try:
    _run(argv)
  except (
    app.UsageError,
    ArithmeticError,
    ImportError,
    OSError,
    RuntimeError,
    ValueError,
  ) as error:
    # The message comes last, below any frames of other packages.
    level = logging.DEBUG if _is_explained(error) else logging.ERROR
    logging.log(level, 'failed', exc_info=True)
    sys.exit(f'\nerror: {error}')


def _is_ours(record) -> bool:
  """Whether to log a record: other packages log warnings and errors only."""
  return record.levelname != 'INFO' or 'tt_compress' in record.pathname


def _config_first(argv: list[str]) -> list[str]:
  """Moves overrides of settings behind the config file, a single argument."""
  rest, files = argv[1:], []
  for index in reversed(range(len(rest))):
    # absl knows either number of hyphens, and the value as a second argument.
    name, given, _ = rest[index].partition('=')
    if name in ('--config', '-config'):
      value = rest[index : index + (1 if given else 2)]
      del rest[index : index + len(value)]
      files.insert(0, '--config=' + '='.join(value).partition('=')[2])
  return argv[:1] + files + rest


def _parse(argv: list[str]) -> list[str]:
  """Parses flags, after a check of those that name settings."""
  # The others come first: a mistake in them needs no config file.
  app.parse_flags_with_usage(
    [part for part in argv if not part.startswith('--config')]
  )
  try:
    configuration.check_flags(argv)
  except (OSError, ValueError) as error:
    sys.exit(f'error: {error}')
  return app.parse_flags_with_usage(argv)


if __name__ == '__main__':
  logging.set_verbosity(logging.INFO)
  logging.get_absl_handler().addFilter(_is_ours)
  sys.argv = _config_first(sys.argv)
  app.run(main, flags_parser=_parse)
