"""Memory and traffic of training steps on many devices, from shapes alone.

The host simulates the devices; TPUs and GPUs need their compilers alone.

  python -m benchmarks --suite=devices --only=host
  python -m benchmarks --suite=devices --only=big.*v5e \
    --output=results/bench_devices_tpu.json
  python -m benchmarks --suite=devices --only='^(?!T5).*h100' \
    --output=results/bench_devices_gpu.json
  python -m benchmarks --suite=devices --only=XL \
    --output=results/bench_devices_xl.json
  python -m benchmarks --suite=devices --only=T5 \
    --output=results/bench_devices_t5.json
"""

import copy
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections

from benchmarks import networks, records
from tt_compress import configuration
from tt_compress.planning import device_plan

_ROOT = pathlib.Path(__file__).parents[1]
_TRAIN = dict(name='tensor_train', tt_rank=16)


@dataclasses.dataclass(frozen=True)
class Case:
  """A configuration on devices.

  Attributes:
    run: a name for a table.
    config: of the run; its dense twin is compiled, too.
    devices: see `targets.check`.
    model: number of devices that share a layer.
    goal: upper limit of bytes over the axis 'data' / (4 x parameters of a
      device); None sets none.
    most: upper limit of bytes per step that the compressed model exchanges over
      the axis 'data'.
  """

  run: str
  config: ml_collections.ConfigDict
  devices: str
  model: int = 1
  goal: float | None = None
  most: int | None = None

  @property
  def text(self) -> str:
    """For a table."""
    if not self.devices.isdecimal():
      return f'{self.run}, {self.devices}'
    return f'{self.run}, host {int(self.devices) // self.model}x{self.model}'


def feed_forward(**options) -> ml_collections.ConfigDict:
  """Two feed-forward blocks 512-2048-512, all four matrices in trains."""
  config = configuration.defaults(
    'feed_forward',
    configuration.parse(''),
    model='mlp',
    task='classification',
  )
  config.model.sizes = (512, 2048, 512, 2048, 512)
  config.data.batch_size = 256
  config.compress = (('.*', {**_TRAIN, **options}),)
  return config


def big(*rules) -> ml_collections.ConfigDict:
  """Transformer-big of configs/wmt14_tt.py, with further rules."""
  config = configuration.load(f'{_ROOT}/configs/wmt14_tt.py')
  config = copy.deepcopy(config)
  config.compress = (*config.compress, *rules)
  return config


BIG, BIG_TOO = 'Transformer-big', 'Transformer-big, TT feed-forward too'
_XL = 'Transformer-XL, TT embedding and softmax'
_LANGUAGE = 'configs/wikitext2_bytes.py'
_T5 = 'configs/t5_small.py:size=published,data=wmt16'
_SMALL = 'Transformer 512/2048 6+6, TT feed-forward and embeddings'
_TRANSFORMER = networks.transformer(networks.FEED_FORWARD + networks.TABLES)
CASES = (
  Case(
    'two blocks 512-2048-512, all TT', feed_forward(), '8', goal=1.02, most=6e5
  ),
  *(
    Case(_SMALL, _TRANSFORMER, '8', model=model, goal=goal)
    for model, goal in ((1, 1.02), (2, 1.05))
  ),
  Case(
    'Transformer 512/2048 6+6, Tucker feed-forward',
    networks.transformer(networks.TUCKER),
    '8',
    goal=1.02,
  ),
  *(Case(BIG, big(), devices) for devices in ('8', '64', '256', 'v5e:8x8')),
  Case(BIG_TOO, big(('.*/ffn/.*', _TRAIN)), '8'),
  *(
    Case(
      _XL,
      configuration.load(f'{_ROOT}/configs/wikitext103_tt.py'),
      devices,
      goal=1.02,
    )
    for devices in ('8', 'v5e:8x8')
  ),
  *(
    Case(
      'T5-small, Shapeshifter', configuration.load(f'{_ROOT}/{_T5}'), devices
    )
    for devices in ('v5e:2x4', 'h100:8')
  ),
  *(
    Case(run, config, 'h100:8')
    for run, config in (
      ('quickstart', configuration.load(f'{_ROOT}/configs/quickstart.py')),
      ('language model', configuration.load(f'{_ROOT}/{_LANGUAGE}')),
      (_SMALL, _TRANSFORMER),
      (BIG, big()),
    )
  ),
)
TINY = (Case('two blocks', feed_forward(), '2', goal=1.02),)
ROUNDS = 1


def measure(cases: Sequence[Case] = CASES, **options) -> list[dict[str, Any]]:
  """Memory and traffic of training steps and those of the dense twins.

  Args:
    cases: to compile.
    **options: of the suites that measure times; ignored.

  Returns:
    Two records for each case, the dense one first: 'case', 'run', 'kind',
    'devices', 'goal', 'most', the result of `compiled.measure`, and 'ratio',
    bytes over the axis 'data' / (4 x parameters of a device).
  """
  return [record for case in cases for record in _measure(case)]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = (
    *('case', 'model', 'compiled for', 'parameters per device'),
    *('arguments MiB', 'temporaries MiB', 'bytes over data', 'other bytes'),
    *('data / (4 parameters)', 'kernels', 'goal'),
  )
  return records.table(columns, [_row(record) for record in found])


def _measure(case):
  config = copy.deepcopy(case.config)
  config.mesh.model = case.model
  made = device_plan.make(config, case.devices)
  return [
    {
      'case': case.text,
      'run': case.run,
      'kind': kind,
      'devices': case.devices,
      'goal': case.goal if kind == 'ours' else None,
      'most': case.most if kind == 'ours' else None,
      **each,
      'ratio': each['data_bytes'] / (4 * each['device_params']),
    }
    for kind, each in zip(('dense', 'ours'), made, strict=True)
  ]


def _row(record):
  mib = lambda name: f'{record["memory"][name] / 2**20:,.1f}'
  total = sum(record['traffic'].values())
  return (
    record['case'],
    record['kind'],
    f'{record["backend"]}, {record["dtype"]}',
    record['device_params'],
    mib('arguments'),
    mib('temporaries'),
    record['data_bytes'],
    total - record['data_bytes'],
    f'{record["ratio"]:.4f}',
    sum(record['kernels'].values()) if 'kernels' in record else None,
    _goal(record),
  )


def _goal(record):
  """The goals of a record, each met or missed."""
  found = []
  for name, value in (('goal', 'ratio'), ('most', 'data_bytes')):
    if record[name] is not None:
      is_met = record[value] <= record[name]
      limit = f'{record[name]:,g}' if name == 'goal' else f'{record[name]:,.0f}'
      found.append(f'<= {limit}: {"met" if is_met else "missed"}')
  return '; '.join(found) or None
