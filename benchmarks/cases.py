"""The cases of `benchmarks.fit`: parameterizations, sizes and options."""

_EVEN, _PADDED = (64, 27), (61, 25)
_MODES = dict(row_modes=(4, 4, 4), col_modes=(3, 3, 3))
_GRID = dict(row_modes=(8, 8), col_modes=(9, 3))
_SPLITS = dict(row_split=(8, 8), col_split=(9, 3))
_BASE = dict(name='tensor_train', tt_rank=4, **_MODES)
# (name, size, options). Fits of rings, of products of more than two factors,
# with norms and with padding iterate; the others are decompositions. Wrappers
# fit their base, then prune or quantize it.
RECOVERY = (
  ('dense', _EVEN, {}),
  ('low_rank', _EVEN, dict(rank=8)),
  ('low_rank', _PADDED, dict(rank=8, middle=True)),
  *(
    ('tensor_train', size, dict(tt_rank=rank, **_MODES, **options))
    for size in (_EVEN, _PADDED)
    for rank, options in (
      (4, {}),
      (8, {}),
      (4, dict(index_order='column_major')),
    )
  ),
  # Gates start open, as those of a plain train.
  *(
    ('nonlinear_train', size, dict(tt_rank=4, between='gated', **_MODES))
    for size in (_EVEN, _PADDED)
  ),
  *(
    ('tensor_ring', size, dict(tr_rank=rank, **_MODES))
    for size in (_EVEN, _PADDED)
    for rank in (2, 3, 4)
  ),
  *(
    ('tensor_ring', size, dict(tr_rank=rank, num_modes=4))
    for size in ((81, 16), (75, 13))
    for rank in (2, 3)
  ),
  *(
    ('tucker', size, dict(tucker_rank=rank, **_MODES))
    for size in (_EVEN, _PADDED)
    for rank in (2, 3)
  ),
  *(
    ('block_tensor_train', size, dict(tt_rank=rank, **_GRID))
    for size in (_EVEN, _PADDED)
    for rank in (1, 3)
  ),
  *(('butterfly', size, {}) for size in (_EVEN, _PADDED)),
  *(('monarch', size, _GRID) for size in (_EVEN, _PADDED)),
  *(
    ('kronecker', size, dict(rank=rank, **_SPLITS))
    for size in (_EVEN, _PADDED)
    for rank in (2, 8)
  ),
  *(
    ('word2ket', size, dict(order=order, rank=rank, norm='none'))
    for order, sizes in ((2, (25, 23)), (3, (27, 25)), (4, (16, 13)))
    for size in ((64, cols) for cols in sizes)
    for rank in (1, 2)
  ),
  *(
    ('word2ket', size, dict(order=order, rank=2, norm=norm))
    for order, size in ((2, (64, 25)), (3, (64, 27)), (4, (64, 16)))
    for norm in ('plain', 'affine')
  ),
  *(
    ('word2ketxs', size, dict(order=order, rank=rank))
    for order, sizes in (
      (2, ((64, 25), (61, 23))),
      (3, (_EVEN, _PADDED)),
      (4, ((81, 16), (75, 13))),
    )
    for size in sizes
    for rank in (1, 4)
  ),
  *(
    ('word2ketxs', size, dict(order=order, rank=2, norm=norm))
    for order, size in ((2, (64, 25)), (3, _EVEN))
    for norm in ('plain', 'affine')
  ),
  ('phm', (64, 28), dict(n=4)),
  ('phm', (64, 28), dict(n=4, formula='released')),
  *(
    (name, _EVEN, dict(base=_BASE, **options))
    for name, options in (
      ('pruned', dict(sparsity=0.9, end=1000)),
      ('quantized', dict(bits=8)),
      ('quantized', dict(bits=4, per='column')),
      ('variational_dropout', dict(every=100)),
      ('normalized', {}),
    )
  ),
  ('sum', _EVEN, dict(parts=(_BASE, dict(name='low_rank', rank=4)))),
)
# (name, options) of the fits to a trained matrix, at RATIOS.
ENTRIES = (
  ('low_rank', {}),
  ('tensor_train', {}),
  ('tensor_ring', {}),
  ('block_tensor_train', {}),
  ('monarch', {}),
  ('tucker', {}),
  ('kronecker', {}),
  ('word2ket', dict(order=2, norm='none')),
  ('word2ket', dict(order=2)),
  ('word2ket', dict(order=3, norm='none')),
  ('word2ketxs', dict(order=2)),
  ('word2ketxs', dict(order=3)),
  ('word2ketxs', dict(order=4)),
  ('word2ketxs', dict(order=2, norm='plain')),
  ('phm', {}),
)
RATIOS = {'embedding': (4, 16, 64), 'mnist': (8, 32, 128)}
LARGE = dict(tt_rank=96, row_modes=(60, 60, 75), col_modes=(8, 8, 8))
