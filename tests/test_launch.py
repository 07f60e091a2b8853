"""The launch scripts, as far as they go without a cluster.

In the place of a cluster's commands stand ones that write down how they were
called. What is rendered or started so is compared with what the cluster's own
documentation asks for, and with what a process makes of it.
"""

import json
import os
import pathlib
import shlex
import string
import subprocess
import sys
import time

import pytest
import yaml

from tt_compress.parallel import cluster

ROOT = pathlib.Path(__file__).parents[1]
LAUNCH = ROOT / 'launch'
# Awkward for every shell on the way.
ARGUMENTS = [
  '--config=configs/quickstart.py:tiny',
  "--config.compress=(('embed',{'name':'low_rank','rank':4}),)",
  '--workdir=/shared/my runs/$HOME',
]
# Writes its arguments and environment to a file of its own, behind FAKE_LOG.
RECORD = f"""#!{sys.executable}
import json, os, sys
path = f'{{os.environ["FAKE_LOG"]}}.{{os.getpid()}}'
with open(path, 'w') as file:
  json.dump({{'args': sys.argv, 'env': dict(os.environ)}}, file)
"""


def scripts():
  launched = [p for p in LAUNCH.iterdir() if p.suffix in ('.sh', '.sbatch')]
  return [ROOT / '.ci' / 'run', *sorted(launched)]


@pytest.mark.parametrize('path', scripts(), ids=lambda path: path.name)
def test_scripts_parse_and_are_executable(path):
  subprocess.run(['/bin/bash', '-n', path], check=True)
  if path.name != 'setup.sh':  # It is sourced.
    assert os.access(path, os.X_OK)
    assert '\nset -euo pipefail\n' in path.read_text()


@pytest.fixture
def fake(tmp_path):
  """Makes commands that record their calls, runs a script, lists the calls."""
  folder = tmp_path / 'bin'
  folder.mkdir()
  log = tmp_path / 'log'

  def make(name, more=''):
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(RECORD + more)
    path.chmod(0o755)
    return path

  def call(*command, **environment):
    path = f'{folder}:{os.environ["PATH"]}'
    environment = {'PATH': path, 'FAKE_LOG': str(log), **environment}
    ended = subprocess.run(
      command,
      cwd=ROOT,
      env=environment,
      capture_output=True,
      text=True,
      timeout=60,
    )
    calls = sorted(
      tmp_path.glob('log.*'), key=lambda path: path.stat().st_mtime_ns
    )
    return ended, [json.loads(path.read_text()) for path in calls]

  call.make = make
  return call


def program(arguments):
  """The arguments of the program in a command that runs it."""
  start = arguments.index('-m')
  assert arguments[start : start + 2] == ['-m', 'tt_compress.main']
  return arguments[start + 2 :]


def test_slurm(fake):
  fake.make('srun')
  ended, [call] = fake(
    LAUNCH / 'slurm.sbatch', *ARGUMENTS, VENV='/env', http_proxy='http://proxy'
  )
  assert ended.returncode == 0, ended.stderr
  assert call['args'][1:3] == ['--kill-on-bad-exit=1', '/env/bin/python']
  assert program(call['args']) == ARGUMENTS
  assert not [name for name in call['env'] if 'proxy' in name.lower()]


def test_options_of_slurm():
  """sbatch reads them up to the first command, and each GPU has a process."""
  text = (LAUNCH / 'slurm.sbatch').read_text()
  head, _, rest = text.partition('\nset -euo')
  assert '#SBATCH' not in rest
  lines = [line for line in head.splitlines() if line.startswith('#SBATCH ')]
  options = dict(
    line.removeprefix('#SBATCH --').partition('=')[::2] for line in lines
  )
  assert options['ntasks-per-node'] == options['gpus-per-node']
  assert 'requeue' in options


# The fields of JobSet v1alpha2 and of what it holds; those needed, the others.
SCHEMA = {
  'JobSet': ({'apiVersion', 'kind', 'metadata', 'spec'}, set()),
  'JobSetSpec': (
    {'replicatedJobs'},
    {'network', 'failurePolicy', 'successPolicy', 'startupPolicy', 'suspend'},
  ),
  'Network': (
    set(),
    {'enableDNSHostnames', 'subdomain', 'publishNotReadyAddresses'},
  ),
  'FailurePolicy': (set(), {'maxRestarts', 'rules', 'restartStrategy'}),
  'ReplicatedJob': ({'name', 'template'}, {'replicas', 'groupName'}),
  'JobSpec': (
    {'template'},
    {'parallelism', 'completions', 'completionMode', 'backoffLimit'},
  ),
  'PodSpec': (
    {'containers', 'restartPolicy'},
    {'volumes', 'nodeSelector', 'tolerations'},
  ),
  'Container': (
    {'name', 'image'},
    {'command', 'workingDir', 'env', 'ports', 'resources', 'volumeMounts'},
  ),
}


def check_fields(kind, value):
  needed, others = SCHEMA[kind]
  assert needed <= value.keys() <= needed | others, kind
  return value


def rendered():
  settings = dict(
    NAME='my-run',
    IMAGE='registry/image:1',
    HOSTS='4',
    GPUS='8',
    CLAIM='runs',
    CONFIG=ARGUMENTS[0].removeprefix('--config='),
  )
  text = (LAUNCH / 'jobset.yaml').read_text()
  comment = text[: text.index('apiVersion')]
  assert all(f'{name}=' in comment for name in settings)
  return yaml.safe_load(string.Template(text).substitute(settings))


def test_jobset_fits_its_schema():
  jobset = check_fields('JobSet', rendered())
  assert jobset['apiVersion'] == 'jobset.x-k8s.io/v1alpha2'
  assert jobset['kind'] == 'JobSet'
  spec = check_fields('JobSetSpec', jobset['spec'])
  check_fields('Network', spec['network'])
  check_fields('FailurePolicy', spec['failurePolicy'])
  [job] = [check_fields('ReplicatedJob', job) for job in spec['replicatedJobs']]
  job = check_fields('JobSpec', job['template']['spec'])
  # Every completion has an index, and all run at once.
  assert job['completionMode'] == 'Indexed'
  assert job['parallelism'] == job['completions'] == 4
  pod = check_fields('PodSpec', job['template']['spec'])
  [container] = [check_fields('Container', c) for c in pod['containers']]
  mounts = [mount['name'] for mount in container['volumeMounts']]
  assert sorted(mounts) == sorted(volume['name'] for volume in pod['volumes'])


def test_processes_of_a_jobset_find_each_other():
  jobset = rendered()
  [job] = jobset['spec']['replicatedJobs']
  pods = job['template']['spec']
  [container] = pods['template']['spec']['containers']
  assert all(isinstance(entry['value'], str) for entry in container['env'])
  environment = {entry['name']: entry['value'] for entry in container['env']}
  found = cluster.detect(environment | {'JOB_COMPLETION_INDEX': '3'})
  name = jobset['metadata']['name']
  # Pods are named JOBSET-JOB-REPLICA-INDEX, in a subdomain named as the set.
  host = f'{name}-{job["name"]}-0-0.{name}'
  [port] = container['ports']
  address = f'{host}:{port["containerPort"]}'
  assert found == cluster.Cluster(address, pods['parallelism'], 3)
  assert container['command'][0] == 'python'
  assert program(container['command']) == [
    ARGUMENTS[0],
    f'--workdir=/runs/{name}',
  ]


def test_tpu_workers(fake, tmp_path):
  fake.make('gcloud')
  ended, [call] = fake(
    LAUNCH / 'tpu_vm.sh', *ARGUMENTS, TPU_NAME='tpu', ZONE='zone'
  )
  assert ended.returncode == 0, ended.stderr
  *front, command = call['args'][1:]
  assert front == [
    *('compute', 'tpus', 'tpu-vm', 'ssh', 'tpu'),
    *('--zone=zone', '--worker=all'),
  ]
  # What a worker's shell makes of it.
  worker = fake.make('../tt_compress/.venv/bin/python')
  assert worker.resolve().is_relative_to(tmp_path)
  line = command.removeprefix('--command=')
  ended, calls = fake('bash', '-c', f'cd {shlex.quote(str(tmp_path))}; {line}')
  assert ended.returncode == 0, ended.stderr
  assert program(calls[-1]['args']) == ['--cluster=tpu', *ARGUMENTS]


def test_setting_up_tpu_workers(fake):
  fake.make('gcloud')
  ended, calls = fake(
    LAUNCH / 'tpu_vm.sh', 'set_up', TPU_NAME='tpu', ZONE='zone'
  )
  assert ended.returncode == 0, ended.stderr
  assert [call['args'][4] for call in calls] == ['ssh', 'scp', 'ssh']
  copied = calls[1]['args'][8:-1]
  assert all((ROOT / name).exists() for name in copied)
  assert {'tt_compress', 'configs', 'launch', 'setup.cfg'} <= set(copied)
  installing = calls[2]['args'][-1].removeprefix('--command=')
  subprocess.run(['bash', '-n', '-c', installing], check=True)
  assert 'jax[tpu]' in installing
  ended, _ = fake(LAUNCH / 'tpu_vm.sh', TPU_NAME='tpu')
  assert ended.returncode != 0 and 'set ZONE' in ended.stderr


LOCAL = LAUNCH / 'local_multiprocess.sh'


def test_local_processes(fake):
  python = fake.make('python', 'print(sys.stdin.read(), end="")')
  ended, calls = fake(
    *('bash', '-c', 'echo a line | "$0" "$@"'),
    *(LOCAL, '-n', '3', '-t', '30', *ARGUMENTS),
    PYTHON=str(python),
    PORT='1234',
  )
  assert ended.returncode == 0, ended.stderr
  assert ended.stdout == 'a line\n'
  assert {call['env']['JAX_NUM_CPU_DEVICES'] for call in calls} == {'1'}
  assert {call['env']['JAX_PLATFORMS'] for call in calls} == {'cpu'}
  found = sorted(program(call['args']) for call in calls)
  assert found == [
    [
      '--coordinator=127.0.0.1:1234',
      '--num_processes=3',
      f'--process_id={index}',
      *ARGUMENTS,
    ]
    for index in range(3)
  ]


def is_alive(process_id):
  try:
    os.kill(process_id, 0)
  except ProcessLookupError:
    return False
  return True


def any_is_left(folder):
  """Whether a recorded process is still alive after some seconds."""
  ids = [int(path.suffix[1:]) for path in folder.glob('log.*')]
  deadline = time.monotonic() + 10
  while any(map(is_alive, ids)) and time.monotonic() < deadline:
    time.sleep(0.05)
  return any(map(is_alive, ids))


@pytest.mark.parametrize(
  'does, options, status, message',
  [
    # The second one fails; the others would wait for it.
    (
      'if "--process_id=1" in sys.argv: sys.exit(3)',
      (),
      3,
      'a process failed (3)',
    ),
    ('', ('-t', '5'), 124, 'time limit of 5 seconds'),
  ],
)
def test_no_local_process_is_left(
  fake, tmp_path, does, options, status, message
):
  python = fake.make('python', f'{does}\nimport time\ntime.sleep(60)\n')
  ended, calls = fake(
    LOCAL, '-n', '3', *options, *ARGUMENTS, PYTHON=str(python), PORT='1'
  )
  assert ended.returncode == status
  assert message in ended.stderr
  assert len(calls) == 3
  assert not any_is_left(tmp_path)


SIGNALED = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75) if {ends} else None)
folder = os.path.dirname(path)
open(os.path.join(folder, f'ready.{{os.getpid()}}'), 'w').close()
if "--process_id=0" in sys.argv:
  while sum(name.startswith('ready.') for name in os.listdir(folder)) < 3:
    time.sleep(0.05)
  for _ in range({signals}):
    time.sleep(1)  # until the script has passed the signal before on
    os.kill(os.getppid(), signal.SIGTERM)
for _ in range(60):
  time.sleep(1)
"""


@pytest.mark.parametrize('ends, signals, status', [(1, 1, 75), (0, 2, 143)])
def test_signals_reach_local_processes(fake, tmp_path, ends, signals, status):
  """They end by themselves; a second signal kills them."""
  python = fake.make('python', SIGNALED.format(ends=ends, signals=signals))
  ended, calls = fake(
    LOCAL, '-n', '3', *ARGUMENTS, PYTHON=str(python), PORT='1'
  )
  assert (ended.returncode, ended.stderr) == (status, '')
  assert len(calls) == 3
  assert not any_is_left(tmp_path)


@pytest.mark.parametrize(
  'option, extras, tier',
  [((), 'test', ()), (('--full',), 'test,docs,peers', ('-m', ''))],
)
def test_the_tiers_of_the_tests(fake, tmp_path, option, extras, tier):
  fake.make('venv/bin/python', "if '-c' in sys.argv: print('3.11')\n")
  ended, calls = fake(
    *(LAUNCH / 'test.sh', *option, '-k', 'name'),
    VENV=str(tmp_path / 'bin' / 'venv'),
    PYTHON='',
  )
  assert ended.returncode == 0, ended.stderr
  _, install, _, _, test = (call['args'] for call in calls)
  assert install[1:4] == ['-m', 'pip', 'install']
  assert install[-2:] == ['--editable', f'.[{extras}]']
  assert test[1:3] == ['-m', 'pytest']
  assert (*tier, '-k', 'name') == tuple(test[-len(tier) - 2 :])


def test_wheelhouse(fake, tmp_path):
  python = fake.make('python')
  folder = tmp_path / 'wheels'
  ended, [wheel, download] = fake(
    *(LAUNCH / 'wheelhouse.sh', folder, 'jax[cuda13]'),
    PYTHON=str(python),
    TARGET='3.11',
    EXTRAS='test',
    GLIBC='31',
  )
  assert ended.returncode == 0, ended.stderr
  assert wheel['args'][1:4] == ['-m', 'pip', 'wheel']
  arguments = download['args']
  assert arguments[1:4] == ['-m', 'pip', 'download']
  value = lambda name: arguments[arguments.index(name) + 1]
  assert value('--python-version') == '3.11'
  assert value('--constraint') == f'{ROOT}/constraints/py311-jax0.10.txt'
  assert value('--dest') == value('--find-links') == str(folder)
  assert {'manylinux_2_31_x86_64', 'manylinux2014_x86_64'} <= set(arguments)
  wanted = ['tt-compress[test]', 'jax[cuda13]']
  assert arguments[-2:] == wanted
  assert (folder / 'requirements.txt').read_text().splitlines() == wanted


def test_wheels_for_a_python_without_pins(fake, tmp_path):
  fake.make('python')
  ended, calls = fake(
    LAUNCH / 'wheelhouse.sh', tmp_path / 'wheels', TARGET='3.14'
  )
  assert ended.returncode == 1 and not calls
  assert 'TARGET=3.14' in ended.stderr and '3.13' in ended.stderr
