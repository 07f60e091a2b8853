"""Two processes of one CPU device each, as a user starts them."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from tt_compress.training import metrics, run, workdir

ROOT = pathlib.Path(__file__).parents[2]
ARGUMENTS = (
  '--config=configs/mnist.py:tiny',
  '--config.num_steps=6',
  '--config.evaluation.every=3',
  '--config.evaluation.batch_size=77',
  '--config.logging.every=1',
)


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
  """A home of its own, and one compilation of each program for all runs."""
  home = tmp_path_factory.mktemp('home')
  return {
    **os.environ,
    'HOME': str(home),
    'PYTHON': sys.executable,
    'JAX_PLATFORMS': 'cpu',
    'JAX_COMPILATION_CACHE_DIR': str(home / 'jax'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.1',
  }


def start(environment, *command, **settings):
  return subprocess.Popen(
    command,
    cwd=ROOT,
    env=environment | settings,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def main(*arguments):
  return (sys.executable, '-m', 'tt_compress.main', *arguments)


def ends(started):
  """(exit status, standard output, errors) of what was started together."""
  found = []
  try:
    for process in started:
      output, errors = process.communicate(timeout=240)
      found.append((process.returncode, output, errors))
  finally:
    for process in started:
      process.kill()
  return found


def train_together(environment, folder):
  """Standard output of two processes that train in the folder."""
  script = ('launch/local_multiprocess.sh', '-n', '2', '-t', '200')
  command = (*script, *ARGUMENTS, f'--workdir={folder}')
  [(status, output, errors)] = ends([start(environment, *command)])
  assert status == 0, errors
  return output


@pytest.fixture(scope='module')
def trained(environment, tmp_path_factory):
  """The folder of two processes, and what both of them printed."""
  folder = tmp_path_factory.mktemp('two') / 'run'
  return folder, train_together(environment, folder)


@pytest.fixture(scope='module')
def trained_alone(environment, tmp_path_factory):
  """The folder of one process with two devices."""
  folder = tmp_path_factory.mktemp('one') / 'run'
  # One process joins nobody: nobody listens there.
  nobody = ('--coordinator=localhost:1', '--num_processes=1', '--process_id=0')
  command = main(*ARGUMENTS, *nobody, f'--workdir={folder}')
  started = start(environment, *command, JAX_NUM_CPU_DEVICES='2')
  [(status, _, errors)] = ends([started])
  assert status == 0, errors
  return folder


def results_of(folder):
  return json.loads((folder / 'results.json').read_text())


def losses_of(folder):
  return {
    (name, record['step']): record[name]
    for record in metrics.read(folder)
    for name in record
    if name in ('train/loss', 'validation/loss', 'validation/accuracy')
  }


def test_two_processes_compute_what_two_devices_do(trained, trained_alone):
  two, one = losses_of(trained[0]), losses_of(trained_alone)
  assert two.keys() == one.keys()
  assert len(two) == 6 + 2 + 2
  for key in one:
    assert two[key] == pytest.approx(one[key], rel=1e-6), key
  results = results_of(trained[0])
  assert (results['num_devices'], results['num_processes']) == (2, 2)
  assert results['test']['num_images'] == 300


def test_the_first_process_writes_once(trained, trained_alone):
  folder, output = trained
  names = lambda path: sorted(found.name for found in path.iterdir())
  kept, alone = names(folder), names(trained_alone)
  events = [name for name in kept if name.startswith('events.')]
  assert len(events) == 1
  assert set(kept) - set(events) == {n for n in alone if 'events.' not in n}
  assert names(folder / 'checkpoints') == ['3', '6']
  assert (folder / 'checkpoints' / '6' / 'manifest.json').is_file()
  steps = [record['step'] for record in metrics.read(folder)]
  assert sorted(steps) == [1, 2, 3, 3, 4, 5, 6, 6]
  assert output.count('accuracy = ') == 1


@pytest.mark.parametrize(
  'mesh',
  [
    pytest.param(dict(data=8), marks=pytest.mark.full),
    dict(data=4, model=2),
  ],
)
def test_one_process_and_other_meshes_restore_the_same_bits(trained, mesh):
  folder, _ = trained
  config = workdir.load_config(str(folder))
  config.mesh.update(mesh)
  this = run.Run(config, str(folder))
  params = this.variables('latest')['params']
  assert workdir.digest(params) == results_of(folder)['params_sha256']
  assert this.results()['num_processes'] == 2


def test_two_processes_resume_a_killed_run(
  environment, trained_alone, tmp_path
):
  folder = tmp_path / 'run'
  shutil.copytree(trained_alone, folder)
  expected = results_of(folder)
  shutil.rmtree(folder / 'checkpoints' / '6')
  (folder / 'results.json').unlink()
  train_together(environment, folder)
  found = results_of(folder)
  for name in ('loss', 'accuracy'):
    assert found['test'][name] == pytest.approx(expected['test'][name], 1e-6)
  steps = [record['step'] for record in metrics.read(folder)]
  assert steps == [1, 2, 3, 3, 4, 5, 6, 6]  # none of them twice


def free_port():
  with socket.create_server(('localhost', 0)) as server:
    return server.getsockname()[1]


def place(address, index, timeout):
  return (
    f'--coordinator={address}',
    '--num_processes=2',
    f'--process_id={index}',
    f'--join_timeout={timeout}',
  )


@pytest.mark.full
def test_a_signal_to_one_process_stops_both_after_the_same_step(
  environment, tmp_path
):
  more = ('--config.num_steps=400', '--config.evaluation.every=200')
  address = f'127.0.0.1:{free_port()}'
  folder = tmp_path / 'stopped'
  both = [
    start(
      environment,
      *main(*ARGUMENTS, *more, f'--workdir={folder}'),
      *place(address, index, 100),
      JAX_NUM_CPU_DEVICES='1',
    )
    for index in (0, 1)
  ]
  while len(metrics.read(folder)) < 3 and both[0].poll() is None:
    time.sleep(0.01)
  both[1].send_signal(signal.SIGTERM)
  steps = set()
  for status, _, errors in ends(both):
    assert status == 75, errors
    steps |= set(re.findall('stopped after step ([0-9]+) of 400', errors))
  [step] = steps
  assert os.listdir(folder / 'checkpoints') == [step]
  script = ('launch/local_multiprocess.sh', '-n', '2', '-t', '200')
  digests = []
  for path in (folder, tmp_path / 'undisturbed'):
    command = (*script, *ARGUMENTS, *more, f'--workdir={path}')
    [(status, _, errors)] = ends([start(environment, *command)])
    assert status == 0, errors
    digests.append(results_of(path)['params_sha256'])
  assert digests[0] == digests[1]
  assert losses_of(folder) == losses_of(tmp_path / 'undisturbed')


def test_every_process_reports_mistakes(environment, tmp_path):
  address = f'127.0.0.1:{free_port()}'
  workdir = f'--workdir={tmp_path / "run"}'
  call = lambda *arguments: start(
    environment, *main(*ARGUMENTS, workdir, *arguments), JAX_NUM_CPU_DEVICES='1'
  )
  *different, alone = ends(
    [
      *(
        call(*place(address, index, 100), f'--config.seed={index}')
        for index in (0, 1)
      ),
      call(*place(f'127.0.0.1:{free_port()}', 1, 1)),
    ]
  )
  for status, _, errors in different:
    assert status == 1
    message = 'differ in configuration: process 1 has seed=1, process 0 has 0'
    assert f'error: the processes {message}' in errors
  status, _, errors = alone
  assert status == 1
  assert 'process 1 of 2 cannot reach the coordinator at 127.0.0.1:' in errors
  assert not (tmp_path / 'run').exists()
