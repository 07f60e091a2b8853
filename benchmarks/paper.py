"""Many devices on paper: from what has been compiled and measured to 1,024.

  python -m benchmarks.paper

Reads what the suites `devices` and `scaling` have written and writes a page.
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
    'results/bench_scaling.json',
  ],
  'JSON of the suites; what is not there is left out.',
)
_PAGE = flags.DEFINE_string('page', 'results/scaling.md', 'Page to write.')
COUNTS = (1, 8, 64, 256, 512, 1024)
SHARE = 0.4  # of the peak that products reach


@dataclasses.dataclass(frozen=True)
class Machine:
  """Devices in groups, connected fast within and slowly between them.

  Attributes:
    name: for a heading.
    peak: operations a second of a device in bfloat16, two a multiplication.
    group: devices that are connected fast.
    inner: bytes a second that a device sends within its group.
    outer: bytes a second that a device sends out of it.
    sources: where the figures are from.
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
      'https://docs.cloud.google.com/tpu/docs/v5e: 197 TFLOP/s a chip in '
      'bfloat16 and 16 GB of memory; pods of 256 chips; 51.2 TB/s of '
      'all-reduce bandwidth a pod, which are 200 GB/s a chip; 2 x 100 Gbit/s a '
      'host of 8 chips, which are 3.125 GB/s a chip',
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
      '8 x 400 Gbit/s InfiniBand a host of 8, which are 50 GB/s a device',
    ),
  ),
)


def operations(config: ml_collections.ConfigDict) -> float:
  """Operations of a training step of a Transformer, two a multiplication.

  Of every matrix one product forward and two backward, of as many tokens as a
  full batch has on either side; scores and sums of attention likewise. Layers
  in factors count as dense ones.

  Args:
    config: of the dense model.
  """
  blueprint = build.blueprint(config)
  layers = sum(
    spec.rows * spec.cols
    for path, spec in blueprint.matrices.items()
    if path not in blueprint.tables
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
  """Seconds of `work` operations on so many devices."""
  return work / (SHARE * machine.peak * count)


def traffic_seconds(machine: Machine, size: int, count: int) -> float:
  """Seconds to sum `size` bytes over devices, in rings.

  Within a group a device sends 2 size (k - 1) / k for k members. Between g
  groups each member has a k-th of the sum to exchange with its peers.
  """
  members = min(count, machine.group)
  groups = count // members
  inner = 2 * size * (members - 1) / members / machine.inner
  outer = 2 * size / members * (groups - 1) / groups / machine.outer
  return inner + outer


def predictions(
  machine: Machine, work: float, sizes: Mapping[str, int]
) -> list[dict[str, Any]]:
  """Milliseconds of steps by number of devices, without any overlap.

  Args:
    machine: of the devices.
    work: operations of a step on all of them.
    sizes: bytes that are summed, by model; the first is compared with.
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
    reports: what suites have written, by the name of its file.
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

What is told here is **compiled** (read off the compiled program of the training
step), **measured** (timed), **predicted** (by a formula), from a **sheet** (of
a vendor) or **assumed**. No run on several accelerators has been timed.

Bytes are those of the arrays that devices sum, gather or exchange in a step, on
each device; a ring sends up to twice as much. Parameters are float32, and so
are the sums. Batches are those of the longest sentences of the configuration,
as large on all devices together whatever their number, but for rows of padding
where 16 parts on each of 256 devices have to have as many. Memory is what the
compiler of the named backend asks for; the one for CPUs schedules for speed,
so that its temporaries say little of an accelerator's."""


def _measured(name, report, suite):
  kind = 'compiled' if suite is devices else 'measured'
  machine, versions = report['machine'], report['versions']
  used = [f'{k} {versions[k]}' for k in ('jax', 'libtpu') if k in versions]
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
  """Bytes that Transformer-big sums, by what is in factors."""
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
    '## On paper (predicted)',
    'A step of Transformer-big, `configs/wmt14_tt.py`, of '
    f'{config.data.batch_tokens:,} target tokens on all devices together: '
    f'compute / N + bytes / bandwidth, in milliseconds. {_ASSUMED}',
    records.table(
      ('input', 'value', 'from'),
      [
        ('operations of a step', f'{work:.3g}', 'counted, `operations`'),
        ('share of the peak that is reached', SHARE, 'assumed'),
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


_ASSUMED = """Assumed: layers in factors take as long as dense ones; traffic and
compute do not overlap; no latencies, which are what is left of small sums on
many devices; links carry what their sheet says; and a device with few tokens
reaches the same share of its peak, which it will not: with 1,024 devices each
has three sentences. Accumulation is as low as it takes for rows to divide
without padding; the 16 parts of the configuration suit 8 to 64 devices. Tables
are embedding and logits. Ratios of the last columns are over dense."""


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
