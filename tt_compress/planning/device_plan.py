"""Plans a training step for devices that this machine does not have."""

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
from tt_compress.planning import targets
from tt_compress.training import sizes

_ROOT = pathlib.Path(__file__).parents[2]
# Without a device XLA cannot try tiles for its own products, and its default
# suits few shapes. Those of cuBLAS need none.
_NO_TILES = 'find output tile sizes'
_LIBRARY_PRODUCTS = '--xla_gpu_enable_triton_gemm=false'


class _NoTiles(RuntimeError):
  """XLA has no tiles for a product of the step."""


def make(config, devices: str) -> list[dict[str, Any]]:
  """The step of a run and of its dense twin, compiled for devices.

  Batch and accumulation do not change, so that each device gets fewer examples
  if there are more devices. A new process compiles each step, because JAX needs
  the number of simulated devices when it starts.

  Args:
    config: of the run, with the mesh.
    devices: see `targets.check`.

  Returns:
    Results of `compiled.measure`, with the 'flags' of XLA; the dense twin is
    first.

  Raises:
    ValueError, ImportError: see `targets.check`.
    RuntimeError: the step does not compile.
  """
  targets.check(devices)
  variants = [configuration.twin(config)]
  if config.compress or config.distill.folder:
    variants.append(config)
  try:
    return [_compile(variant, devices) for variant in variants]
  except _NoTiles:
    logging.info('XLA finds no tiles for a product; cuBLAS takes all of them')
    # Of twins, both have the same kind of products.
    return [_compile(each, devices, _LIBRARY_PRODUCTS) for each in variants]


def _compile(config, devices, flags=''):
  environment = {
    **os.environ,
    **targets.environment(devices),
    'PYTHONPATH': os.pathsep.join(
      filter(None, (str(_ROOT), os.environ.get('PYTHONPATH')))
    ),
    'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} {flags}'.strip(),
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
    reason = _reason(done.stderr, f'exit {done.returncode}')
    if _NO_TILES in reason and not flags:
      raise _NoTiles(reason)
    sys.stderr.write(done.stderr)
    raise RuntimeError(
      f'the step of {config.name} does not compile for --devices={devices}: '
      + reason
    )
  return {**json.loads(done.stdout), 'flags': flags}


def _reason(report: str, default: str) -> str:
  """The error in a report; XLA writes positions in the program after it."""
  lines = report.strip().splitlines()
  errors = [line for line in lines if re.match(r'[\w.]+Error: ', line)]
  return (errors or lines or [default])[-1]


def table(found: list[Mapping[str, Any]]) -> str:
  """The result of `make` as text."""
  first = found[0]
  axes = ', '.join(f'{name} {size}' for name, size in first['mesh'].items())
  shape = ' x '.join(map(str, next(iter(first['batch'].values()))))
  lines = [
    f'a step on {axes}, compiled for {first["backend"]} in {first["dtype"]}, '
    f'batches of {shape}{_padding(first)}; on each device:',
    *sizes.aligned([_HEADER, *map(_cells, found)], right=range(1, 8)),
    '',
    *sizes.aligned(_kernel_rows(found), right=range(1, 20)),
    'GFLOP and bytes accessed count loops whose length depends on data once.',
    *([f'compiled with XLA_FLAGS={first["flags"]}'] if first['flags'] else ()),
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
  memory = record['memory']
  return (
    record['name'],
    f'{record["device_params"]:,}',
    _mib(memory['arguments']),
    _mib(memory['temporaries']),
    _mib(memory['outputs']),
    f'{record["data_bytes"]:,}',
    f'{total - record["data_bytes"]:,}',
    f'{record["data_bytes"] / (4 * record["device_params"]):.4f}',
  )


def _kernel_rows(found):
  """Kernels by kind and the work of a program, a row per model."""
  kinds = sorted({kind for record in found for kind in record['kernels']})
  header = 'kernels per step', *kinds, 'total', 'GFLOP', 'bytes accessed'
  rows = [
    (
      record['name'],
      *(f'{record["kernels"].get(kind, 0):,}' for kind in kinds),
      f'{sum(record["kernels"].values()):,}',
      f'{record["work"]["flops"] / 1e9:,.2f}',
      _mib(record['work']['bytes']),
    )
    for record in found
  ]
  return [header, *rows]


def _mib(size):
  return f'{size / 2**20:,.1f} MiB'
