"""Data sheets of GPUs, in the form that XLA takes to compile for one."""

import dataclasses

_KIB, _GIB = 2**10, 2**30
_GPUS_PER_HOST = 8


@dataclasses.dataclass(frozen=True)
class Gpu:
  """A GPU as its vendor describes it.

  Attributes:
    name: of the product.
    capability: compute capability, (major, minor).
    multiprocessors: number of streaming multiprocessors.
    lanes: float32 units of a multiprocessor.
    clock: in GHz, at its highest.
    bandwidth: bytes per second of the memory.
    memory: bytes.
    cache: bytes of the second-level cache.
    shared: bytes of shared memory of a multiprocessor; a block may use all but
      one KiB.
  """

  name: str
  capability: tuple[int, int]
  multiprocessors: int
  lanes: int
  clock: float
  bandwidth: float
  memory: int
  cache: int
  shared: int


_HOPPER = dict(
  capability=(9, 0),
  multiprocessors=132,
  lanes=128,
  clock=1.98,
  cache=50 * _KIB**2,
  shared=228 * _KIB,
)
# From the data sheets and white papers of NVIDIA's A100 80 GB, H100 and H200,
# each the SXM variant; shared memory from the CUDA programming guide, table of
# compute capabilities.
GPUS = {
  'a100': Gpu(
    'NVIDIA A100 SXM 80 GB',
    capability=(8, 0),
    multiprocessors=108,
    lanes=64,
    clock=1.41,
    bandwidth=2.039e12,
    memory=80 * _GIB,
    cache=40 * _KIB**2,
    shared=164 * _KIB,
  ),
  'h100': Gpu(
    'NVIDIA H100 SXM', bandwidth=3.35e12, memory=80 * _GIB, **_HOPPER
  ),
  'h200': Gpu(
    'NVIDIA H200 SXM', bandwidth=4.8e12, memory=141 * _GIB, **_HOPPER
  ),
}


def description(gpu: Gpu) -> str:
  """The GPU as a text proto, XLA's GpuTargetConfigProto.

  Limits of threads, blocks and registers hold for all GPUs of `GPUS`.
  """
  major, minor = gpu.capability
  return f"""
    platform_name: "CUDA"
    device_description_str: "{gpu.name}"
    dnn_version_info {{ major: 9 minor: 10 }}
    runtime_version {{ major: 13 }}
    gpu_device_info {{
      cuda_compute_capability {{ major: {major} minor: {minor} }}
      core_count: {gpu.multiprocessors}
      fpus_per_core: {gpu.lanes}
      clock_rate_ghz: {gpu.clock}
      memory_bandwidth: {gpu.bandwidth:.0f}
      device_memory_size: {gpu.memory}
      l2_cache_size: {gpu.cache}
      shared_memory_per_core: {gpu.shared}
      shared_memory_per_block: {48 * _KIB}
      shared_memory_per_block_optin: {gpu.shared - _KIB}
      threads_per_warp: 32
      threads_per_block_limit: 1024
      threads_per_core_limit: 2048
      registers_per_core_limit: {64 * _KIB}
      registers_per_block_limit: {64 * _KIB}
      block_dim_limit_x: {2**31 - 1}
      block_dim_limit_y: {2**16 - 1}
      block_dim_limit_z: {2**16 - 1}
    }}
  """


def topology(count: int) -> str:
  """Slices x hosts x GPUs of a host, in hosts of at most 8.

  Raises:
    ValueError: `count` is more than 8 and no multiple of 8.
  """
  if count <= _GPUS_PER_HOST:
    return f'1x1x{count}'
  if count % _GPUS_PER_HOST:
    raise ValueError(
      f'{count} GPUs do not fill hosts of {_GPUS_PER_HOST}; plan for a '
      f'multiple of {_GPUS_PER_HOST}'
    )
  return f'1x{count // _GPUS_PER_HOST}x{_GPUS_PER_HOST}'
