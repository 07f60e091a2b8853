"""Which process this is, as the environments of launchers tell it."""

import types

import jax
import numpy as np
import pytest

from tt_compress.parallel import cluster, processes

SLURM = {
  'SLURM_JOB_ID': '123456',
  'SLURM_STEP_NODELIST': 'gpu[007-009]',
  'SLURM_STEP_NUM_NODES': '3',
  'SLURM_NTASKS': '3',
  'SLURM_PROCID': '2',
  'SLURM_LOCALID': '0',
}
JOBSET = {
  'JAX_COORDINATOR_ADDRESS': 'run-hosts-0-0.run:8476',
  'JAX_NUM_PROCESSES': '4',
  'JOB_COMPLETION_INDEX': '3',
}
TPU = {'TPU_WORKER_HOSTNAMES': 'a,b', 'TPU_WORKER_ID': '1'}


def without(environment, name):
  return {key: environment[key] for key in environment if key != name}


@pytest.mark.parametrize(
  'environment, expected',
  [
    ({}, None),
    (SLURM, ('gpu007:13456', 3, 2, None)),
    # Two processes on each host: a device each.
    (SLURM | {'SLURM_NTASKS': '6'}, ('gpu007:13456', 6, 2, (0,))),
    (SLURM | {'SLURM_NTASKS': '1', 'SLURM_PROCID': '0'}, None),
    (without(SLURM, 'SLURM_STEP_NODELIST'), None),  # not under srun
    (JOBSET, ('run-hosts-0-0.run:8476', 4, 3, None)),
    (JOBSET | {'JAX_PROCESS_ID': '1'}, ('run-hosts-0-0.run:8476', 4, 1, None)),
    (TPU, ('a:8476', 2, 1, None)),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'}, None),
  ],
)
def test_environments(environment, expected):
  found = cluster.detect(environment)
  assert found == (None if expected is None else cluster.Cluster(*expected))


@pytest.mark.parametrize('name', ['JAX_NUM_PROCESSES', 'JOB_COMPLETION_INDEX'])
def test_half_an_environment_is_refused(name):
  with pytest.raises(ValueError, match='run-hosts-0-0.run:8476 needs JAX_NUM'):
    cluster.detect(without(JOBSET, name))


@pytest.mark.parametrize(
  'nodes, first',
  [
    ('node001', 'node001'),
    ('node001,host2', 'node001'),
    ('node[001-015],host2', 'node001'),
    ('node[07,1-2]', 'node07'),
    ('rack[3-4]-left,other', 'rack3-left'),
  ],
)
def test_the_first_host(nodes, first):
  assert cluster.first_host(nodes) == first


@pytest.mark.parametrize(
  'arguments, told',
  [
    (('host', 2, 0), "coordinator='host' must be HOST:PORT"),
    (('host:one', 2, 0), "coordinator='host:one' must be HOST:PORT"),
    ((':1', 2, 0), "coordinator=':1' must be HOST:PORT"),
    (('host:1', 2, 2), 'process_id=2 must be .* below num_processes=2'),
    (('host:1', 2, -1), 'process_id=-1 must be at least 0'),
  ],
)
def test_places_that_do_not_exist(arguments, told):
  with pytest.raises(ValueError, match=told):
    cluster.Cluster(*arguments)


def test_one_process_talks_to_nobody(monkeypatch):
  def fail(*_, **__):
    pytest.fail('there is nobody')

  for name in ('process_allgather', 'sync_global_devices'):
    monkeypatch.setattr(processes.multihost_utils, name, fail)
  assert processes.is_first()
  assert processes.gather('a') == ['a']
  assert processes.together(lambda: 'a') == processes.first(lambda: 'a') == 'a'
  processes.agree('letters', {'a': 1})
  processes.wait('a')
  with pytest.raises(ZeroDivisionError):
    processes.together(lambda: 1 / 0)


@pytest.mark.parametrize(
  'owners, shares',
  [
    # [data, model] -> the process of each device; (index, count) of each.
    ([[0], [0], [1], [1]], [(0, 2), (1, 2)]),
    ([[0, 0], [1, 1]], [(0, 2), (1, 2)]),
    # A layer of two processes: both read the same rows.
    ([[0, 1], [2, 3]], [(0, 2), (0, 2), (1, 2), (1, 2)]),
    ([[0, 1], [0, 1]], [(0, 1), (0, 1)]),
    # Devices need not come in the order of their processes.
    ([[1], [0], [1], [0]], [(1, 2), (0, 2)]),
  ],
)
def test_rows_of_a_process(monkeypatch, owners, shares):
  place = lambda owner: types.SimpleNamespace(process_index=owner)
  mesh = types.SimpleNamespace(
    devices=np.vectorize(place)(owners), axis_names=('data', 'model')
  )
  for process, (index, count) in enumerate(shares):
    monkeypatch.setattr(jax, 'process_index', lambda process=process: process)
    found = processes.share(mesh, 'data')
    assert found == {'process_index': index, 'process_count': count}
