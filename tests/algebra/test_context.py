import pytest

from tt_compress.algebra import context, cost

SLOW = cost.Machine(1e6, 1e6, 1e6, cache=1, start=1.0)


def test_fields_left_open_are_those_of_the_device():
  found = context.current()
  assert found.backend == 'cpu' and found.machine is cost.MACHINES['cpu']
  assert found.gradients and found.side is None and found.record is None


@pytest.mark.parametrize('backend, kind', [('tpu', 'tpu'), ('metal', 'gpu')])
def test_a_backend_brings_its_machine(backend, kind):
  with context.use(backend=backend):
    assert context.current().machine is cost.MACHINES[kind]
    with context.use(machine=SLOW):
      assert context.current().machine is SLOW
      assert context.current().backend == backend


def test_changes_nest_and_end_with_their_block():
  before = context.current()
  record = []
  with context.use(gradients=False), context.use(record=record):
    assert not context.current().gradients
    with pytest.raises(KeyError), context.use(gradients=True, machine=SLOW):
      assert context.current().gradients
      raise KeyError
    assert not context.current().gradients
    assert context.current().record is record
    assert context.current().machine is before.machine
  assert context.current() == before


def test_a_function_can_have_a_context():
  without = context.use(gradients=False)(lambda: context.current().gradients)
  assert [without(), without(), context.current().gradients] == [False] * 2 + [
    True
  ]


def test_an_unknown_field_is_refused():
  with pytest.raises(TypeError, match='gradient'):
    with context.use(gradient=False):
      pass
