"""Extrapolates compiled and measured steps to 1,024 devices.

  python -m benchmarks.paper

Reads the results of the suites `devices` and `scaling` and writes a page.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from absl import app, flags

from benchmarks import devices, records, scaling
from tt_compress import tasks
from tt_compress.training import build

_INPUTS = flags.DEFINE_list(
  'inputs',
  [
    'results/bench_devices.json',
    'results/bench_devices_tpu.json',
    'results/bench_devices_gpu.json',
    'results/bench_devices_t5.json',
    'results/bench_devices_xl.json',
    'results/bench_devices_tucker.json',
    'results/bench_scaling.json',
  ],
  'JSON files of the suites; a missing file is left out.',
)
_PAGE = flags.DEFINE_string(
  'page', 'results/scaling.md', 'Markdown file to write.'
)
COUNTS = (1, 8, 64, 256, 512, 1024)
SHARE = 0.4  # of the peak, reached by products


@dataclasses.dataclass(frozen=True)
class Machine:
  """Groups of devices with fast links inside and slow links between groups.

  Attributes:
    name: for a heading.
    peak: bfloat16 operations per second of a device, two per multiplication.
    group: number of devices in a group.
    inner: bytes per second that a device sends within its group.
    outer: bytes per second that a device sends to other groups.
    sources: of the figures.
  """

  name: str
  peak: float
  group: int
  inner: float
  outer: float
  sources: Sequence[str]


MACHINES = (
  Machine(
    'TPU v5e',
    peak=197e12,
    group=256,
    inner=51.2e12 / 256,
    outer=2 * 100e9 / 8 / 8,
    sources=(
      'https://docs.cloud.google.com/tpu/docs/v5e: 197 TFLOP/s in bfloat16 '
      'and 16 GB of memory per chip; pods of 256 chips; 51.2 TB/s of '
      'all-reduce bandwidth per pod, that is 200 GB/s per chip; '
      '2 x 100 Gbit/s per host of 8 chips, that is 3.125 GB/s per chip',
    ),
  ),
  Machine(
    'hosts of 8 H100 SXM',
    peak=989.4e12,
    group=8,
    inner=900e9 / 2,
    outer=400e9 / 8,
    sources=(
      'https://glennklockwood.com/garden/processors/h100, after data sheets: '
      '989.4 TFLOP/s in bfloat16 without sparsity; NVLink of 900 GB/s, half of '
      'it in each direction',
      'https://github.com/mlcommons/inference_results_v3.1, Dell XE9680: '
      '8 x 400 Gbit/s InfiniBand per host of 8, that is 50 GB/s per device',
    ),
  ),
)


def operations(config: ml_collections.ConfigDict) -> float:
  """Operations of a training step of a Transformer, two per multiplication.

  Each matrix has one product forward and two backward for the tokens of a full
  batch, and so do the scores and sums of attention. Compressed layers count as
  dense ones.

  Args:
    config: of the dense model.
  """
  blueprint = build.blueprint(config)
  layers = sum(
    spec.rows * spec.cols
    for path, spec in blueprint.matrices.items()
    if blueprint.roles[path] == 'product'
  )
  model = config.model
  logits = model.vocab_size * model.model_dim
  rows, length = (
    tasks.TASKS[config.task].batch_shapes(config, 1)['targets'].shape
  )
  attentions = model.num_encoder_layers + 2 * model.num_decoder_layers
  attention = 2 * length * model.model_dim * attentions
  return 6.0 * rows * length * (layers + logits + attention)


def compute_seconds(machine: Machine, work: float, count: int) -> float:
  """Seconds of `work` operations on `count` devices."""
  return work / (SHARE * machine.peak * count)


def traffic_seconds(machine: Machine, size: int, count: int) -> float:
  """Seconds to sum `size` bytes over `count` devices, in rings.

  In a group of k devices, each sends 2 size (k - 1) / k bytes. Between g
  groups, each sends 2 (size / k) (g - 1) / g bytes.
  """
  members = min(count, machine.group)
  groups = count // members
  inner = 2 * size * (members - 1) / members / machine.inner
  outer = 2 * size / members * (groups - 1) / groups / machine.outer
  return inner + outer


def predictions(
  machine: Machine, work: float, sizes: Mapping[str, int]
) -> list[dict[str, Any]]:
  """Milliseconds per step by number of devices; nothing overlaps.

  Args:
    machine: the devices and their links.
    work: operations per step, over all devices.
    sizes: {model: bytes that are summed}; the first model is the reference.
  """
  rows = []
  for count in COUNTS:
    compute = compute_seconds(machine, work, count)
    traffic = {
      name: traffic_seconds(machine, size, count)
      for name, size in sizes.items()
    }
    first, *others = (compute + seconds for seconds in traffic.values())
    names = list(sizes)
    ms = lambda seconds: f'{1000 * seconds:,.2f}'
    rows.append(
      {
        'devices': count,
        'compute': ms(compute),
        **{f'{name}: traffic': ms(traffic[name]) for name in names},
        **{f'{name}: step': ms(compute + traffic[name]) for name in names},
        **{
          f'{name}: faster': f'{first / other:.3f}'
          for name, other in zip(names[1:], others, strict=True)
        },
      }
    )
  return rows


def page(reports: Mapping[str, Mapping[str, Any]]) -> str:
  """The page as Markdown.

  Args:
    reports: {file name: results of a suite}.
  """
  parts = [_HEAD]
  for name, report in reports.items():
    suite = devices if 'devices' in name else scaling
    parts.append(_measured(name, report, suite))
  sizes = _sizes(reports)
  if sizes:
    parts.append(_on_paper(sizes))
  return '\n\n'.join(parts) + '\n'


_HEAD = """# Many devices

Figures are **compiled** (read from the compiled program of the training step),
**measured** (timed), **predicted** (by a formula), from a **sheet** (of a
vendor) or **assumed**. No run on several accelerators has been timed.

Bytes count the arrays that devices sum, gather or exchange per step, on each
device; a ring sends up to twice as much. Parameters and sums are float32. A
global batch has the longest sentences of the configuration. Its size does not
depend on the number of devices, except for padding, which makes the 16
microbatches of 256 devices equal. Memory is the requirement of the compiler for
the named backend. The compiler for CPUs schedules for speed, so its temporaries
say little about those of an accelerator."""


def _measured(name, report, suite):
  kind = 'compiled' if suite is devices else 'measured'
  machine, versions = report['machine'], report['versions']
  names = ('jax', 'libtpu', 'jax_cuda13_plugin')
  used = [f'{name} {versions[name]}' for name in names if name in versions]
  return '\n\n'.join(
    (
      f'## results/{name} ({kind})',
      f'`{report["command"]}`, commit {report["commit"]}, '
      f'{machine["cores"]} cores, {machine["processor"]}, load '
      f'{machine["load_average_before"][0]} before; '
      f'{", ".join(used)}.',
      suite.table(report['records']),
    )
  )


def _sizes(reports):
  """{compressed part of Transformer-big: bytes that are summed}."""
  wanted = {
    'dense': (devices.BIG, 'dense'),
    'TT tables': (devices.BIG, 'ours'),
    'TT tables and feed-forward': (devices.BIG_TOO, 'ours'),
  }
  found = {
    (record['run'], record['kind']): record['data_bytes']
    for report in reports.values()
    for record in report['records']
    if record.get('run') and record['devices'] == '8'
  }
  return {name: found[key] for name, key in wanted.items() if key in found}


def _on_paper(sizes):
  """Predictions for all machines."""
  config = devices.big()
  work = operations(config)
  lines = [
    '## More devices (predicted)',
    _PREDICTED.format(config.data.batch_tokens),
    _ASSUMED,
    records.table(
      ('input', 'value', 'from'),
      [
        ('operations per step', f'{work:.3g}', 'counted, `operations`'),
        ('share of the peak', SHARE, 'assumed'),
        *((f'bytes, {name}', size, 'compiled') for name, size in sizes.items()),
      ],
    ),
  ]
  for machine in MACHINES:
    rows = predictions(machine, work, sizes)
    lines += [
      f'### {machine.name}',
      '\n'.join(f'- Sheet: {source}.' for source in machine.sources),
      records.table_of(list(rows[0]), rows),
    ]
  return '\n\n'.join(lines)


_PREDICTED = """A step of Transformer-big, `configs/wmt14_tt.py`, on {:,} target
tokens over N devices takes compute / N + bytes / bandwidth, in milliseconds.
Tables are embedding and logits. The last columns are speedups relative
to dense."""
_ASSUMED = """Assumptions: compressed layers take as long as dense ones; traffic
and compute do not overlap; latencies are zero, although they dominate small
sums on many devices; links reach the bandwidth of their sheet; every device
reaches the same share of its peak, although with 1,024 devices each has only
three sentences. Accumulation is low enough that no example is padding; the 16
microbatches of the configuration suit 8 to 64 devices."""


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  paths = [pathlib.Path(path) for path in _INPUTS.value]
  reports = {
    path.name: json.loads(path.read_text()) for path in paths if path.exists()
  }
  pathlib.Path(_PAGE.value).write_text(page(reports))


if __name__ == '__main__':
  app.run(main)
