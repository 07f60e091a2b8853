"""Single matrices to measure relative to dense: shapes, ranks, tokens, goals.

The module does not import JAX, so that other frameworks can use it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

EMBEDDING = dict(row_modes=(32, 32, 32), col_modes=(8, 8, 16))
LINEAR = dict(row_modes=(8, 8, 16), col_modes=(16, 16, 16))
_EXPONENT = 1.15


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """A product with one matrix.

  Attributes:
    work: 'take', 'apply' or 'logits', the cross-entropy of an output layer. The
      dense reference of 'logits' computes all logits at once.
    name: of the parameterization in the registry.
    shape: (rows, cols) of the matrix.
    options: of the parameterization.
    tokens: number of ids or rows of x.
    ids: distribution for 'take': 'zipf' (exponent 1.15) or 'uniform'.
    goals: {'forward', 'gradient' or 'step': time relative to dense}; a step is
      the gradient and the update of Adam.
    blocks: for 'logits', argument of `nn.cross_entropy.summed`.
    memory: for 'logits', goal of the temporaries relative to dense.
    work_goal: goal of the time relative to one dense product of the same x with
      as many multiplications; None if it is not measured. For matrices that
      multiply once per parameter and token.
  """

  work: str
  name: str
  shape: tuple[int, int]
  options: Mapping[str, Any]
  tokens: int
  goals: Mapping[str, float]
  ids: str = 'zipf'
  blocks: str | None = None
  memory: float | None = None
  work_goal: float | None = None

  @property
  def text(self) -> str:
    """For a table, e.g. 'take tensor_train 32768 x 1024, 4,096 zipf ids'."""
    options = ', '.join(f'{k}={v}' for k, v in self.options.items())
    rows, cols = self.shape
    what = f'{self.ids} ids' if self.work == 'take' else 'tokens'
    if self.work == 'logits':
      what += f' in blocks of {self.blocks or "tokens"}'
    return (
      f'{self.work} {self.name}({options}) {rows} x {cols}, '
      f'{self.tokens:,} {what}'
    )


def lookup(tokens, goals, name='tensor_train', ids='zipf', **options) -> Case:
  """Lookups in an embedding of 32,768 words."""
  return Case(
    work='take',
    name=name,
    shape=(32768, 1024),
    options=options,
    tokens=tokens,
    goals=goals,
    ids=ids,
  )


def linear(
  tokens,
  goals,
  name='tensor_train',
  shape=(1024, 4096),
  work_goal=None,
  **options,
) -> Case:
  """Products with the matrix of a feed-forward layer."""
  return Case(
    work='apply',
    name=name,
    shape=shape,
    options=options,
    tokens=tokens,
    goals=goals,
    work_goal=work_goal,
  )


def _logits(
  goal,
  memory,
  blocks,
  name='tensor_train',
  shape=(32768, 1024),
  tokens=4096,
  **options,
):
  return Case(
    work='logits',
    name=name,
    shape=shape,
    options=options,
    tokens=tokens,
    goals=dict(gradient=goal),
    blocks=blocks,
    memory=memory,
  )


def _goals(*values):
  names = ('forward', 'gradient', 'step')
  return {k: v for k, v in zip(names, values, strict=False) if v is not None}


def train(rank, modes) -> dict[str, Any]:
  """Options of a tensor train."""
  return dict(tt_rank=rank, **modes)


def ids(kind: str, rows: int, tokens: int) -> np.ndarray:
  """Random ids [tokens]: uniform, or by Zipf's law, p(i) ~ (i + 1)^-1.15."""
  draw = np.random.default_rng(1)
  if kind == 'uniform':
    return draw.integers(0, rows, tokens, np.int32)
  weights = (1.0 + np.arange(rows)) ** -_EXPONENT
  found = draw.choice(rows, size=tokens, p=weights / weights.sum())
  return found.astype(np.int32)


LOOKUPS = (
  lookup(4096, _goals(1.8, 0.20, 0.15), **train(16, EMBEDDING)),
  lookup(4096, _goals(8, 0.85, 0.55), **train(64, EMBEDDING)),
  lookup(16384, _goals(None, 0.75), **train(16, EMBEDDING)),
  lookup(16384, _goals(None, 1.3), **train(64, EMBEDDING)),
  lookup(4096, _goals(None, 0.55), ids='uniform', **train(16, EMBEDDING)),
  lookup(4096, _goals(None, 0.12), 'word2ket', order=2, rank=1),
  *(
    lookup(4096, _goals(None, goal), 'word2ketxs', order=order, rank=rank)
    for rank, goal in ((1, 0.10), (16, 0.25))
    for order in (2, 4)
  ),
)
LINEARS = (
  linear(1, _goals(0.10, 0.04), **train(2, LINEAR)),
  linear(256, _goals(0.18, 0.20), **train(2, LINEAR)),
  linear(4096, _goals(0.40, 0.28), **train(2, LINEAR)),
  linear(256, _goals(None, 1.2), **train(16, LINEAR)),
  linear(4096, _goals(None, 1.05), **train(16, LINEAR)),
  linear(256, _goals(None, 1.7), **train(64, LINEAR)),
  linear(4096, _goals(None, 1.05), **train(64, LINEAR)),
  *(
    linear(
      tokens,
      _goals(None, goal),
      tt_rank=rank,
      prefer='speed',
      max_params=552_960,
    )
    for rank, goals in ((16, (0.6, 0.7)), (64, (0.8, 0.9)))
    for tokens, goal in zip((256, 4096), goals, strict=True)
  ),
  linear(256, _goals(0.2), 'tucker', max_params=43_000),
  linear(4096, _goals(0.35), 'tucker', max_params=43_000),
  *(
    linear(tokens, _goals(None, goal), name, work_goal=1.3, **options)
    for name, goal, options in (
      ('monarch', 0.2, {}),
      ('block_tensor_train', 0.5, dict(tt_rank=4)),
    )
    for tokens in (256, 4096)
  ),
  linear(4096, _goals(None, 1.1), 'kronecker', (512, 512), rank=16),
  linear(4096, _goals(None, 1.2), 'kronecker', (512, 2048), rank=16),
)
LOGITS = (
  _logits(1.0, 0.25, None, 'dense'),
  _logits(1.05, 0.5, None, **train(64, EMBEDDING)),
  _logits(1.4, 0.12, 'rows', **train(64, EMBEDDING)),
  # Those of a decoder of 256 units.
  *(
    _logits(
      goal,
      1.0,
      None,
      'word2ketxs',
      (30_000, 256),
      1024,
      order=order,
      rank=rank,
    )
    for order, rank, goal in ((4, 1, 0.8), (2, 2, 0.8), (2, 4, 1), (2, 30, 1.2))
  ),
)
CASES = (*LOOKUPS, *LINEARS, *LOGITS)
TINY = tuple(
  Case(
    work=work,
    name='low_rank',
    shape=(12, 8),
    options=dict(rank=2),
    tokens=6,
    goals=_goals(*goals),
    memory=0.5 if work == 'logits' else None,
  )
  for work, goals in (
    ('take', (1.0, None, 1.0)),
    ('apply', (None, 1.0)),
    ('logits', (None, 1.0)),
  )
)
