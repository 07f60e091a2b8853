"""Devices that programs are compiled for: of the host, GPUs and TPUs.

Only those of the host have to be present. A description of the GPU, or libtpu,
takes the place of the others.
"""

import importlib.metadata
import importlib.util
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from tt_compress.planning import gpus

MOST = 256  # devices that are not TPUs
_TPU = re.compile(r'(v\d|tpu\d)\w*:\d+(x\d+)+')
_GPU = re.compile(r'(\w+):(\d+)')
# JAX's compiler for GPUs, for either version of CUDA.
_GPU_COMPILERS = ('jax-cuda13-pjrt', 'jax-cuda12-pjrt')


def check(name: str) -> None:
  """Refuses devices that this machine cannot compile for.

  Args:
    name: a number of devices of the host, a GPU and a number such as 'h100:8',
      or a topology of TPUs such as 'v5e:8x8'.

  Raises:
    ValueError: the name has another form, or there are too many devices.
    ImportError: the compiler for these devices is not installed.
  """
  if _TPU.fullmatch(name):
    _check_tpu(name)
  elif found := _GPU.fullmatch(name):
    _check_gpu(name, *found.groups())
  elif not (name.isdecimal() and 1 <= int(name) <= MOST):
    raise ValueError(
      f'--devices={name!r} must be a number from 1 to {MOST}, a GPU and a '
      'number such as h100:8, or a topology of TPUs such as v5e:8x8'
    )


def devices(name: str) -> Sequence[jax.Device]:
  """Devices of this process, or described ones; see `check`."""
  if name.isdecimal():
    return jax.devices()[: int(name)]
  if found := _GPU.fullmatch(name):
    kind, count = found.groups()
    return topologies.get_topology_desc(
      platform='cuda',
      topology=gpus.topology(int(count)),
      target_config=gpus.description(gpus.GPUS[kind]),
    ).devices
  # The two cores of a chip as one device, which is the default of later TPUs.
  options = dict(chip_config_name='megacore') if name.startswith('v4:') else {}
  return topologies.get_topology_desc(name, 'tpu', **options).devices


def environment(name: str) -> dict[str, str]:
  """Variables of a process that calls `devices`."""
  return {
    # A process needs a backend even if it compiles for another one.
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': name if name.isdecimal() else '1',
    'TPU_SKIP_MDS_QUERY': '1',  # Only TPU VMs have this server.
    # The process uses no chip, so another process may hold one meanwhile.
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  }


def _check_tpu(name):
  if importlib.util.find_spec('libtpu') is None:
    raise ImportError(
      f'--devices={name} needs libtpu, which compiles without a TPU: pip '
      "install '.[tpu]', or pip install libtpu"
    )


def _check_gpu(name, kind, count):
  if kind not in gpus.GPUS or not 1 <= int(count) <= MOST:
    raise ValueError(
      f'--devices={name!r} must be one of {sorted(gpus.GPUS)} and a number '
      f'from 1 to {MOST}, such as h100:8'
    )
  gpus.topology(int(count))
  if not any(map(_is_installed, _GPU_COMPILERS)):
    version = jax.__version__
    raise ImportError(
      f"--devices={name} needs XLA's compiler for GPUs, which needs neither a "
      f"GPU nor a driver: pip install '.[gpu]', or pip install --no-deps "
      f'jax-cuda13-plugin=={version} jax-cuda13-pjrt=={version}'
    )


def _is_installed(package):
  try:
    return bool(importlib.metadata.version(package))
  except importlib.metadata.PackageNotFoundError:
    return False
