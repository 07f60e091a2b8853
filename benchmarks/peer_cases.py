"""Matrices that other packages implement, too, and how to install those.

The module does not import JAX, so that other frameworks can use it.
"""

from benchmarks import layer_cases

# `tensorly-torch` needs `tensorly` and `packaging` without declaring them;
# without `opt_einsum` it multiplies many factors in a bad order.
INSTALL = (
  'python3.11 -m venv .venv-peers',
  '.venv-peers/bin/pip install torch==2.13.0 '
  '--index-url https://download.pytorch.org/whl/cpu',
  '.venv-peers/bin/pip install torch==2.13.0 gpytorch==1.8.1 word2ket '
  'tensorly-torch tensorly packaging opt_einsum ctranslate2==4.8.5',
)
# Upper limits of our ratio to dense, divided by theirs.
_GOALS = dict(forward=1.0, gradient=1.0)
_TUCKER = dict(tucker_rank=(5,) * 6, **layer_cases.LINEAR)


def _lookup(*args, **options):
  return layer_cases.lookup(4096, _GOALS, *args, **options)


CASES = (
  *(
    _lookup(**layer_cases.train(rank, layer_cases.EMBEDDING))
    for rank in (16, 64)
  ),
  *(
    _lookup('word2ketxs', order=order, rank=1, norm='none') for order in (2, 4)
  ),
  _lookup('word2ket', order=2, rank=1, norm='none'),
  *(
    layer_cases.linear(
      tokens, _GOALS, **layer_cases.train(rank, layer_cases.LINEAR)
    )
    for rank in (2, 16)
    for tokens in (1, 256, 4096)
  ),
  *(
    layer_cases.linear(tokens, _GOALS, 'tucker', **_TUCKER)
    for tokens in (256, 4096)
  ),
)
_MODES = dict(row_modes=(4, 3), col_modes=(2, 4))
TINY = tuple(
  layer_cases.Case(
    work=work,
    name=name,
    shape=(12, 8),
    options=options,
    tokens=6,
    goals=_GOALS,
  )
  for work, name, options in (
    ('take', 'tensor_train', dict(tt_rank=2, **_MODES)),
    ('take', 'word2ketxs', dict(order=2, rank=1, norm='none')),
    ('take', 'word2ket', dict(order=2, rank=1, norm='none')),
    ('apply', 'tensor_train', dict(tt_rank=2, **_MODES)),
    ('apply', 'tucker', dict(tucker_rank=(2, 2, 2, 2), **_MODES)),
  )
)
