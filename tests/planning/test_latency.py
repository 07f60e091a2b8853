"""Predicted times of products, against sums by hand."""

import pytest

from tt_compress import parameterizations
from tt_compress.algebra import context, cost
from tt_compress.planning import latency

# A multiplication takes a microsecond, anything else nothing.
MACHINE = cost.Machine(1e6, 1e30, 1e30, 2**40, 0.0)


@pytest.mark.parametrize(
  ('options', 'method', 'multiplications'),
  [
    (dict(name='dense'), 'apply', 24 * 16),
    (dict(name='dense'), 'attend', 24 * 16),
    (dict(name='dense'), 'take', 0),
    (dict(name='low_rank', rank=3), 'apply', 3 * (24 + 16)),
    (dict(name='low_rank', rank=3), 'attend', 3 * (24 + 16)),
    (dict(name='low_rank', rank=3), 'take', 3 * 16),
  ],
)
def test_multiplications_of_one_vector(options, method, multiplications):
  spec = parameterizations.make(rows=24, cols=16, **options)
  with context.use(machine=MACHINE):
    found = latency.seconds(spec, [(method, 10), (method, 5)])
  assert found == pytest.approx(15e-6 * multiplications, rel=1e-6)


def test_products_of_a_kind_without_a_formula_count_too():
  spec = parameterizations.make('kronecker', 24, 16, rank=2)
  with context.use(machine=MACHINE):
    assert latency.seconds(spec, [('apply', 100)]) > 0


def test_copies_take_time():
  machine = cost.Machine(1e30, 1e30, 1e9, 2**40, 0.0)
  spec = parameterizations.make('dense', 24, 16)
  with context.use(machine=machine):
    found = latency.seconds(spec, [('take', 10)])
  # 160 numbers of four bytes are read and written.
  assert found == pytest.approx(2 * 4 * 160 / 1e9, rel=1e-6)
