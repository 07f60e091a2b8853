"""Joining the other processes of a run, wherever it was started."""

import contextlib
import dataclasses
import os
import re
import socket
import sys
import threading
from collections.abc import Mapping

import jax

from tt_compress.parallel import processes

# Any free port will do, as long as all processes know it.
PORT = 8476
# JAX aborts the process when its own time-out is over: ours comes first.
_LONGER = 60
# How long a process that ends waits for the others to end as well.
_GOODBYE = 30


@dataclasses.dataclass(frozen=True)
class Cluster:
  """The place of this process among those of a run.

  Attributes:
    coordinator: HOST:PORT that process 0 listens on; None if JAX finds it.
    num_processes: how many there are; None if JAX finds it.
    process_id: which one this is, from 0; None if JAX finds it.
    local_device_ids: the devices of this host that are its own; None: all.
  """

  coordinator: str | None = None
  num_processes: int | None = None
  process_id: int | None = None
  local_device_ids: tuple[int, ...] | None = None

  def __post_init__(self):
    if self.coordinator is None:
      return
    host, _, port = self.coordinator.rpartition(':')
    if not (host and port.isdigit()):
      raise ValueError(
        f'coordinator={self.coordinator!r} must be HOST:PORT of process 0'
      )
    if not 0 <= self.process_id < self.num_processes:
      raise ValueError(
        f'process_id={self.process_id} must be at least 0 and below '
        f'num_processes={self.num_processes}'
      )

  def __str__(self):
    if self.coordinator is None:
      return 'a process of this TPU'
    return f'process {self.process_id} of {self.num_processes}'


def detect(environment: Mapping[str, str]) -> Cluster | None:
  """The cluster that the environment tells of; None for a single process.

  In this order: steps of SLURM; JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
  JAX_PROCESS_ID, in whose place an indexed job of Kubernetes has
  JOB_COMPLETION_INDEX; the workers of a TPU on Kubernetes. JAX finds most of
  them as well, but tells nobody the address, which a time-out has to name.

  Raises:
    ValueError: variables that do not fit together.
  """
  for find in (_slurm, _variables, _tpu_workers):
    cluster = find(environment)
    if cluster is not None:
      return cluster if cluster.num_processes > 1 else None
  return None


def _slurm(environment):
  """Only under srun: a batch script has fewer variables, and is alone."""
  names = ('JOB_ID', 'STEP_NODELIST', 'NTASKS', 'PROCID', 'LOCALID')
  values = [environment.get(f'SLURM_{name}') for name in names]
  if None in values:
    return None
  job, nodes, num_tasks, task, local_task = values
  nodes_of_step = int(environment.get('SLURM_STEP_NUM_NODES', 1))
  has_neighbors = int(num_tasks) > nodes_of_step
  return Cluster(
    coordinator=f'{first_host(nodes)}:{10_000 + int(job) % 20_000}',
    num_processes=int(num_tasks),
    process_id=int(task),
    # A device each where processes share a host.
    local_device_ids=(int(local_task),) if has_neighbors else None,
  )


def first_host(nodes: str) -> str:
  """The first of a list of hosts as SLURM writes it, e.g. 'gpu[007-9,12],b'."""
  name, numbers, rest = re.match(
    r'([^\[,]+)(?:\[(\d+)[^\]]*\])?([^,]*)', nodes
  ).groups()
  return f'{name}{numbers or ""}{rest}'


def _variables(environment):
  coordinator = environment.get('JAX_COORDINATOR_ADDRESS')
  if coordinator is None:
    return None
  index = environment.get(
    'JAX_PROCESS_ID', environment.get('JOB_COMPLETION_INDEX')
  )
  count = environment.get('JAX_NUM_PROCESSES')
  if index is None or count is None:
    raise ValueError(
      f'JAX_COORDINATOR_ADDRESS={coordinator} needs JAX_NUM_PROCESSES beside '
      'it, and JAX_PROCESS_ID or JOB_COMPLETION_INDEX; set them, or use '
      '--cluster=none for a single process'
    )
  return Cluster(coordinator, int(count), int(index))


def _tpu_workers(environment):
  workers = environment.get('TPU_WORKER_HOSTNAMES', '').split(',')
  if len(workers) < 2:
    return None
  index = int(environment.get('TPU_WORKER_ID', 0))
  return Cluster(f'{workers[0]}:{PORT}', len(workers), index)


def join(cluster: Cluster, timeout: float = 300) -> None:
  """Waits for all processes; then `jax.devices()` are those of all of them.

  To be called before anything asks for devices.

  Args:
    cluster: the place of this process.
    timeout: seconds that the others may take to come.

  Raises:
    TimeoutError: naming the address that was not reached or not complete.
    ValueError: several CPU devices in a process.
  """
  # With it, a process would take no notice of SIGTERM.
  jax.config.update('jax_enable_preemption_service', False)
  error = None

  def initialize():
    nonlocal error
    try:
      jax.distributed.initialize(
        **_arguments(cluster),
        initialization_timeout=int(timeout) + _LONGER,
        shutdown_timeout_seconds=_GOODBYE,
      )
    except Exception as caught:
      error = caught

  thread = threading.Thread(target=initialize, daemon=True)
  thread.start()
  thread.join(timeout)
  if thread.is_alive():
    raise TimeoutError(_explain(cluster, timeout))
  if error is not None:
    raise error
  with _quiet_output():
    _check_devices()
    processes.wait('joined')  # Only now are they connected to each other.


@contextlib.contextmanager
def _quiet_output():
  """Lets nobody but us write on standard output, which holds the answers."""
  sys.stdout.flush()
  kept = os.dup(1)
  os.dup2(2, 1)
  try:
    yield
  finally:
    os.dup2(kept, 1)
    os.close(kept)


def _arguments(cluster):
  if cluster.coordinator is None:
    return {}
  return {
    'coordinator_address': cluster.coordinator,
    'num_processes': cluster.num_processes,
    'process_id': cluster.process_id,
    'local_device_ids': cluster.local_device_ids,
    'cluster_detection_method': 'deactivate',
  }


def _explain(cluster, timeout):
  """What is wrong when not all processes have come together in time."""
  waited = f'within {timeout:g} s'
  advice = 'or wait longer with --join_timeout'
  if cluster.coordinator is None:
    return f'the workers of this TPU have not met {waited}; {advice}'
  if cluster.process_id == 0 or _answers(cluster.coordinator):
    return (
      f'{cluster}: not all {cluster.num_processes} processes have come to the '
      f'coordinator at {cluster.coordinator} {waited}; look at their logs, '
      f'{advice}'
    )
  return (
    f'{cluster} cannot reach the coordinator at {cluster.coordinator} '
    f'{waited}; check the address, that process 0 runs there and that this '
    f'host may connect to it, {advice}'
  )


def _answers(address):
  host, _, port = address.rpartition(':')
  try:
    with socket.create_connection((host.strip('[]'), int(port)), timeout=5):
      return True
  except OSError:
    return False


def _check_devices():
  if jax.default_backend() == 'cpu' and jax.local_device_count() > 1:
    # More of them hang as soon as several steps are under way.
    raise ValueError(
      f'{jax.local_device_count()} CPU devices in one of several processes; '
      'set JAX_NUM_CPU_DEVICES=1 and start more processes instead'
    )
