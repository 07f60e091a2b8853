"""The table of the matrices of a model."""

import numpy as np
import treescope
from flax import nnx

from tests.nn import own_models
from tt_compress.nn import compress, explain


def test_a_table_has_every_weight_and_adds_up():
  model = own_models.Qwen(nnx.Rngs(0))
  model.batched = nnx.Einsum('nta,anb->ntb', (2, 4, 3), rngs=nnx.Rngs(0))
  table = explain.explain(model)
  sizes = {line.path: (line.shape, line.size) for line in table.lines}
  assert sizes == {
    'gate': ('12 x 16', 192),
    'up': ('12 x 16', 192),
    'down': ('16 x 12', 192),
    'table': ('20 x 12', 240),
    'query/w': ('12 x 4 x 5', 240),
    'key/w': ('2 x 12 x 5', 120),
    'value/w': ('2 x 12 x 5', 120),
    'out/w': ('4 x 5 x 12', 240),
    'batched/kernel': ('', 0),
  }
  arrays = nnx.to_flat_state(nnx.state(model, nnx.Param))
  assert table.num_params == sum(a.get_value().size for _, a in arrays)
  lines = str(table).splitlines()
  rest = table.num_params - sum(size for _, size in sizes.values())
  assert lines[-2].split() == ['all', 'others', str(rest)]
  assert lines[-1].split() == ['total', f'{table.num_params:,}']
  assert lines[5].endswith('row_axes=, and stack_axes= for layers or experts')
  assert 'row_axes=' in lines[4] and 'OwnEinsum' in lines[5]
  assert "out of reach: its equation 'nta,anb->ntb' has axis 'n'" in lines[-3]


def test_compressed_and_shared_matrices():
  model = own_models.Scanned(nnx.Rngs(0))
  model.again = model.table
  rule = dict(name='low_rank', rank=2)
  compress.compress(model, {'blocks/(up|attn/out)': rule})
  lines = {line.path: line for line in explain.explain(model).lines}
  assert lines['table = again'].form == 'dense'
  assert lines['table = again'].size == 20 * 12
  for path, layer, cols in (
    ('blocks/up', 'Linear', 16),
    ('blocks/attn/out', 'LinearGeneral', 12),
  ):
    line = lines[path]
    assert (line.layer, line.shape) == (layer, f'3 x 12 x {cols}')
    assert line.size == 3 * 2 * (12 + cols)
    assert line.ratio == 12 * cols / (2 * (12 + cols))
    assert line.form == 'LowRank(rank=2, middle=False)'


def test_nothing_is_allocated_for_the_table():
  make = lambda: nnx.Linear(10**6, 10**6, rngs=nnx.Rngs(0))
  table = explain.explain(nnx.eval_shape(lambda: nnx.Dict(layer=make())))
  assert table.lines[0].size == 10**12
  np.testing.assert_equal(table.num_params, 10**12 + 10**6)


class Shown(nnx.Module):
  def __init__(self, rngs):
    self.up = nnx.Linear(4, 8, rngs=rngs)
    self.mix = nnx.Conv(8, 3, (2,), rngs=rngs)

  def __call__(self, x):
    return self.mix(self.up(x))


def test_flax_and_treescope_show_the_factors(capsys):
  model = Shown(nnx.Rngs(0))
  rule = dict(name='tensor_train', rank=0.7, num_modes=2)
  compress.compress(model, {'.*': rule})
  text = treescope.render_to_text(model)
  nnx.display(model)
  for shown in (text, repr(model), capsys.readouterr().out):
    assert 'up=Linear(' in shown and 'mix=Conv(' in shown
    assert shown.count('spec=TensorTrain(rows=') == 2
    assert "'core_0'" in shown
  with treescope.active_autovisualizer.set_scoped(
    treescope.ArrayAutovisualizer()
  ):
    assert treescope.render_to_html(model)
  table = nnx.tabulate(
    model, np.ones((1, 5, 4), np.float32), console_kwargs=dict(width=200)
  )
  assert 'core_0' in table and 'Conv' in table
