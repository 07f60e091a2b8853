"""Plans a training step for devices that this machine does not have."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from absl import logging

from tt_compress import configuration
from tt_compress.training import sizes

MOST = 256  # simulated devices
_ROOT = pathlib.Path(__file__).parents[2]


def check(devices: str) -> None:
  """Refuses devices that this machine cannot compile for.

  Args:
    devices: a number, or a topology of TPUs such as 'v5e:8x8'.

  Raises:
    ValueError: the text has another form, or there are too many devices.
    ImportError: a topology needs libtpu.
  """
  if devices.isdecimal() and 1 <= int(devices) <= MOST:
    return
  if not re.fullmatch(r'v\d\w*:\d+(x\d+)+', devices):
    raise ValueError(
      f'--devices={devices!r} must be a number from 1 to {MOST}, or a topology '
      'of TPUs such as v5e:8x8'
    )
  if importlib.util.find_spec('libtpu') is None:
    raise ImportError(
      f'--devices={devices} needs libtpu, which compiles without a TPU: pip '
      "install '.[tpu]', or pip install libtpu"
    )


def make(config, devices: str) -> list[dict[str, Any]]:
  """The step of a run and of its dense twin, compiled for devices.

  Batch and accumulation do not change, so that each device gets fewer examples
  if there are more devices. A new process compiles each step; it simulates the
  devices on its CPU, or libtpu compiles for a topology.

  Args:
    config: of the run, with the mesh.
    devices: see `check`.

  Returns:
    Results of `compiled.measure`; the dense twin is first.

  Raises:
    ValueError, ImportError: see `check`.
    RuntimeError: the step does not compile.
  """
  check(devices)
  variants = [configuration.twin(config)]
  if config.compress:
    variants.append(config)
  return [_compile(variant, devices) for variant in variants]


def _compile(config, devices):
  is_host = devices.isdecimal()
  environment = {
    **os.environ,
    # A process needs a backend even if it compiles for another one.
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': devices if is_host else '1',
    'TPU_SKIP_MDS_QUERY': '1',  # Only TPU VMs have this server.
    # The process uses no chip, so another process may hold one meanwhile.
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
    'PYTHONPATH': os.pathsep.join(
      filter(None, (str(_ROOT), os.environ.get('PYTHONPATH')))
    ),
  }
  logging.info('compiling the step of %s for %s', config.name, devices)
  done = subprocess.run(
    [sys.executable, '-m', 'tt_compress.planning.compiled', devices],
    input=configuration.to_json(config),
    env=environment,
    capture_output=True,
    text=True,
  )
  if done.returncode:
    sys.stderr.write(done.stderr)
    lines = done.stderr.strip().splitlines() or [f'exit {done.returncode}']
    raise RuntimeError(
      f'the step of {config.name} does not compile for --devices={devices}: '
      f'{lines[-1]}'
    )
  return json.loads(done.stdout)


def table(found: list[Mapping[str, Any]]) -> str:
  """The result of `make` as text."""
  first = found[0]
  axes = ', '.join(f'{name} {size}' for name, size in first['mesh'].items())
  shape = ' x '.join(map(str, next(iter(first['batch'].values()))))
  lines = [
    f'a step on {axes}, compiled for {first["backend"]} in {first["dtype"]}, '
    f'batches of {shape}{_padding(first)}; on each device:',
    *sizes.aligned([_HEADER, *map(_cells, found)], right=range(1, 8)),
  ]
  return '\n'.join(lines)


def _padding(record):
  if not record['padding']:
    return ''
  return (
    f', with {record["padding"]:,} examples of padding (fewer with a lower '
    'accumulation)'
  )


_HEADER = (
  'model',
  'parameters',
  'arguments',
  'temporaries',
  'outputs',
  'bytes over data',
  'other bytes',
  'over data / (4 parameters)',
)


def _cells(record):
  total = sum(record['traffic'].values())
  mib = lambda size: f'{size / 2**20:,.1f} MiB'
  memory = record['memory']
  return (
    record['name'],
    f'{record["device_params"]:,}',
    mib(memory['arguments']),
    mib(memory['temporaries']),
    mib(memory['outputs']),
    f'{record["data_bytes"]:,}',
    f'{total - record["data_bytes"]:,}',
    f'{record["data_bytes"] / (4 * record["device_params"]):.4f}',
  )
