"""Connects the processes of a run: SLURM, Kubernetes, TPU or plain hosts."""

import contextlib
import dataclasses
import os
import re
import socket
import sys
import threading
from collections.abc import Mapping

import jax

from tt_compress.parallel import processes, stopping

# Port of process 0 where the environment names none.
PORT = 8476
# Seconds from our time-out to JAX's own, which aborts the process.
_LONGER = 60
# Seconds that an ending process waits for the others to end.
_GOODBYE = 30
# Seconds without a sign of life after which a process counts as dead, and the
# others end. A thread outside of Python sends the signs.
_HEARTBEAT = 20


@dataclasses.dataclass(frozen=True)
class Cluster:
  """The place of this process among the processes of a run.

  Attributes:
    coordinator: HOST:PORT that process 0 listens on; None if JAX finds it.
    num_processes: number of processes; None if JAX finds it.
    process_id: index of this process, from 0; None if JAX finds it.
    local_device_ids: devices of this host that the process uses; None uses all.
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
  """Finds the cluster in the environment; None means a single process.

  It looks for a step of SLURM, then for JAX_COORDINATOR_ADDRESS with
  JAX_NUM_PROCESSES and JAX_PROCESS_ID (or JOB_COMPLETION_INDEX of an indexed
  job of Kubernetes), then for the workers of a TPU on Kubernetes. JAX finds
  most of them, too, but does not return the address, which the error of a
  time-out names.

  Raises:
    ValueError: some variables are missing.
  """
  for find in (_slurm, _variables, _tpu_workers):
    cluster = find(environment)
    if cluster is not None:
      return cluster if cluster.num_processes > 1 else None
  return None


def _slurm(environment):
  """The cluster of `srun`; a batch script lacks these variables."""
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
    # Processes of one host have one device each.
    local_device_ids=(int(local_task),) if has_neighbors else None,
  )


def first_host(nodes: str) -> str:
  """The first host of a list that SLURM writes, e.g. 'gpu[007-9,12],b'."""
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
      f'JAX_COORDINATOR_ADDRESS={coordinator} needs JAX_NUM_PROCESSES and '
      'JAX_PROCESS_ID or JOB_COMPLETION_INDEX; set them, or use --cluster=none '
      'for a single process'
    )
  return Cluster(coordinator, int(count), int(index))


def _tpu_workers(environment):
  workers = environment.get('TPU_WORKER_HOSTNAMES', '').split(',')
  if len(workers) < 2:
    return None
  index = int(environment.get('TPU_WORKER_ID', 0))
  return Cluster(f'{workers[0]}:{PORT}', len(workers), index)


def join(cluster: Cluster, timeout: float = 300) -> None:
  """Connects all processes; then `jax.devices()` has the devices of all.

  Call it before JAX initializes its devices.

  Args:
    cluster: the place of this process.
    timeout: seconds to wait for the others.

  Raises:
    TimeoutError: the others did not join; it names the address.
    ValueError: a process has several CPU devices.
  """
  # With it processes agree on the step after which they stop.
  jax.config.update('jax_enable_preemption_service', True)
  error = None

  def initialize():
    nonlocal error
    try:
      jax.distributed.initialize(
        **_arguments(cluster),
        initialization_timeout=int(timeout) + _LONGER,
        shutdown_timeout_seconds=_GOODBYE,
        heartbeat_timeout_seconds=_HEARTBEAT,
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
  stopping.adopt()
  with _quiet_output():
    _check_devices()
    processes.wait('joined')  # The first exchange makes the connections.


@contextlib.contextmanager
def _quiet_output():
  """Sends standard output, which holds predictions, to standard error."""
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
  """The message of a time-out: its reason and the remedies."""
  waited = f'within {timeout:g} s'
  advice = 'or wait longer with --join_timeout'
  if cluster.coordinator is None:
    return f'the workers of this TPU did not connect {waited}; {advice}'
  if cluster.process_id == 0 or _answers(cluster.coordinator):
    return (
      f'{cluster}: not all {cluster.num_processes} processes reached the '
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
    # Collectives of several devices hang when several steps are in flight.
    raise ValueError(
      f'one of several processes has {jax.local_device_count()} CPU devices; '
      'set JAX_NUM_CPU_DEVICES=1 and start more processes instead'
    )
