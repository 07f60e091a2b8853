"""Decoding by prepared arrays: how often they are made, and what is found."""

import gc
import re
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import Literal
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tt_compress import configuration
from tt_compress.data import corpus
from tt_compress.models.transformer import transformer, transformer_config
from tt_compress.nn import compress, modules, serving
from tt_compress.parallel import sharding
from tt_compress.tasks.decoding import beam, decoder, hypotheses, shrinking

MODEL = dict(
  vocab_size=24,
  model_dim=16,
  ffn_dim=32,
  num_heads=2,
  num_encoder_layers=1,
  num_decoder_layers=1,
  logits_bias=True,
)
TRAIN = dict(name='tensor_train', tt_rank=2)
RULES = (
  ('.*/ffn/up', dict(name='quantized', bits=8, base=dict(TRAIN, num_modes=2))),
  ('.*/ffn/down', dict(TRAIN, num_modes=4)),
  ('.*/query', dict(name='low_rank', rank=3)),
  ('embed', dict(TRAIN, tt_rank=4)),
)
BATCH, LENGTH = 2, 5
SOURCES = np.random.default_rng(0).integers(3, 24, (3, BATCH, LENGTH))


def make(rules=RULES, dtype=jnp.float32, settings=None, **model):
  """A decoder of a model, and its arrays."""
  options = transformer_config.TransformerConfig(**{**MODEL, **model})
  config = configuration.defaults('test', configuration.parse(''))
  config.evaluation.update(batch_size=BATCH, max_ratio=0.0, max_extra=4)
  config.evaluation.update(settings or {})
  graphdef = None

  def arrays():
    nonlocal graphdef
    model = transformer.Transformer(options, rngs=nnx.Rngs(0), dtype=dtype)
    compress.compress(model, rules, nnx.Rngs(1))
    graphdef, params, buffers = modules.split(model)
    return {'params': params, 'buffers': buffers}

  variables = jax.jit(arrays)()
  return decoder.Decoder(graphdef, config.evaluation), graphdef, variables


def searcher(decoder, variables, beam_size=2):
  return decoder.searcher(variables, beam_size=beam_size, num_ids=24)


class Slow:
  """A model as it is, which computes all positions again in every step."""

  def __init__(self, model):
    self.model = model

  def start(self, inputs, max_length, beam_size):
    shape = inputs.shape[0], beam_size, max_length
    return inputs, jnp.zeros(shape, jnp.int32)

  def step(self, inputs, outputs, tokens, index):
    outputs = outputs.at[:, :, index].set(tokens)
    logits = [
      self.model(inputs, outputs[:, beam])[:, index]
      for beam in range(tokens.shape[1])
    ]
    return jnp.stack(logits, axis=1), outputs


def search_slowly(graphdef, variables, inputs, beam_size):
  options = hypotheses.Options(
    max_length=4, bos_id=corpus.BOS_ID, eos_id=corpus.EOS_ID
  )
  model = Slow(modules.merge(graphdef, **variables))
  return beam.search(model, inputs, options, beam_size=beam_size)


@pytest.mark.parametrize(
  'options',
  [
    dict(),
    dict(rules=(), share_embeddings=False),
    dict(tie_logits=False, rules=(*RULES, ('logits', TRAIN))),
  ],
)
def test_finds_what_the_model_as_it_is_finds(options):
  decoder, graphdef, variables = make(**options)
  slow = jax.jit(search_slowly, static_argnums=(0, 3))
  search = searcher(decoder, variables, 3)
  for inputs in SOURCES:
    found = search(inputs)
    expected = slow(graphdef, variables, inputs, 3)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)


def on_a_mesh(variables):
  mesh = jax.make_mesh(
    (2, 2),
    (sharding.DATA, sharding.MODEL),
    axis_types=(AxisType.Auto,) * 2,
    devices=jax.devices()[:4],
  )
  return jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))


def test_a_mesh_finds_what_one_device_finds():
  decoder, _, variables = make()
  expected = searcher(decoder, variables)(SOURCES[0])
  found = searcher(decoder, on_a_mesh(variables))(SOURCES[0])
  np.testing.assert_array_equal(found.tokens, expected.tokens)
  np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)


@pytest.mark.parametrize('beam_size', [1, 2])
def test_outputs_are_as_long_as_the_settings_allow(beam_size):
  decoder, _, variables = make((), settings=dict(max_ratio=1.5, max_extra=2))
  bias = variables['params']['logits_bias'].at[corpus.EOS_ID].set(-1e9)
  params = {**variables['params'], 'logits_bias': bias}
  search = searcher(decoder, {**variables, 'params': params}, beam_size)
  inputs = SOURCES[0].copy()
  inputs[1, 3:] = corpus.PAD_ID
  found = search(inputs)
  assert found.lengths.tolist() == [[9] * beam_size, [6] * beam_size]


@pytest.mark.parametrize(
  'beam_size, place', [(1, lambda variables: variables), (2, on_a_mesh)]
)
def test_finished_sentences_leave_the_batch(beam_size, place, monkeypatch):
  settings = dict(batch_size=32, max_ratio=2.0, max_extra=1)
  random = np.random.default_rng(1)
  inputs = random.integers(3, 24, (32, LENGTH))
  lengths = random.integers(0, LENGTH + 1, 32)
  inputs[np.arange(LENGTH) >= lengths[:, None]] = corpus.PAD_ID
  decoder, _, variables = make((), settings=settings)
  bias = variables['params']['logits_bias'].at[corpus.EOS_ID].set(-1e9)
  variables['params']['logits_bias'] = bias
  ours = searcher(decoder, place(variables), beam_size)(inputs)
  monkeypatch.setattr(shrinking, 'LEAST', 33)
  decoder, _, _ = make((), settings=settings)
  whole = searcher(decoder, variables, beam_size)(inputs)
  limits = np.where(lengths, 2 * lengths + 1, 0)
  np.testing.assert_array_equal(ours.lengths[:, 0], limits)
  np.testing.assert_array_equal(ours.tokens, whole.tokens)
  np.testing.assert_allclose(ours.scores, whole.scores, rtol=1e-6)


def compiled(decoder, variables, inputs, beam_size):
  search = searcher(decoder, variables, beam_size)
  [arrays] = search.args
  function = lambda *a: search.func(*a, **search.keywords)
  return jax.jit(function).lower(arrays, inputs).compile().as_text()


def made_by(program, operation):
  """Shapes of the arrays that an operation of a compiled program makes."""
  types = re.findall(rf' = (.*?) {operation}\(', program)
  shapes = re.findall(r'\[([\d,]*)\]', ' '.join(types))
  return [[int(n) for n in shape.split(',') if n] for shape in shapes]


@pytest.mark.parametrize('beam_size', [1, 3])
def test_a_step_neither_sorts_the_vocabulary_nor_copies_its_matrix(beam_size):
  decoder, _, variables = make(
    (), vocab_size=24 * 25, settings=dict(batch_size=1)
  )
  program = compiled(decoder, variables, SOURCES[0][:1], beam_size)
  sorted_ids = made_by(program, 'sort')
  assert all(shape[-1] <= 2 * beam_size for shape in sorted_ids), sorted_ids
  for operation in ('copy', 'transpose', 'pad'):
    for shape in made_by(program, operation):
      assert np.prod(shape, dtype=int) < 24 * 25, (operation, shape)


def counted(decoder, monkeypatch):
  """Collects the calls of the programs that prepare and that search."""
  calls = []

  def watch(owner, name):
    program = getattr(owner, name)

    def call(*arguments, **options):
      calls.append(name)
      return program(*arguments, **options)

    monkeypatch.setattr(owner, name, call)

  watch(decoder._serve, '_make')
  watch(decoder, '_compiled')
  return calls


def test_prepared_once_for_each_set_of_arrays(monkeypatch):
  decoder, _, variables = make()
  calls = counted(decoder, monkeypatch)
  for _ in range(2):
    search = searcher(decoder, {**variables})  # other dicts, the same arrays
    for inputs in SOURCES:
      search(inputs)
  assert calls.count('_make') == 1
  # And one program searches each batch.
  assert calls.count('_compiled') == 2 * len(SOURCES)
  bias = variables['params']['logits_bias'].at[corpus.EOS_ID].set(9)
  changed = {**variables['params'], 'logits_bias': bias}
  found = searcher(decoder, {**variables, 'params': changed})(SOURCES[0])
  assert calls.count('_make') == 2
  np.testing.assert_array_equal(found.lengths[:, 0], 1)
  searcher(decoder, variables, 3)
  assert calls.count('_make') == 3


def name(equation):
  found = equation.primitive.name
  if found == 'convert_element_type':
    before, after = equation.invars[0].aval, equation.outvars[0].aval
    return f'{before.dtype} to {after.dtype}'
  return found


def repeated(jaxpr, fixed):
  """Names of what is computed of nothing but variables that are fixed."""
  names = []
  for equation in jaxpr.eqns:
    known = [isinstance(v, Literal) or v in fixed for v in equation.invars]
    inner = [
      getattr(value, 'jaxpr', value)
      for value in equation.params.values()
      if hasattr(getattr(value, 'jaxpr', value), 'eqns')
    ]
    for program in inner:
      if len(program.invars) == len(known):
        pairs = zip(program.invars, known, strict=True)
        names += repeated(program, {v for v, k in pairs if k})
    if known and all(known):
      fixed = fixed | set(equation.outvars)
      if not inner:
        names.append(name(equation))
  return set(names)


def loops(jaxpr):
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'while':
      yield equation
    elif equation.primitive.name in ('jit', 'pjit', 'shard_map'):
      inner = equation.params['jaxpr']
      yield from loops(getattr(inner, 'jaxpr', inner))


def repeated_by_the_loop(decoder, variables):
  search = searcher(decoder, variables)
  [arrays] = search.args
  function = lambda *a: search.func(*a, **search.keywords)
  [loop] = loops(jax.make_jaxpr(function)(arrays, SOURCES[0]).jaxpr)
  body, count = loop.params['body_jaxpr'].jaxpr, loop.params['body_nconsts']
  return repeated(body, set(body.invars[:count]))


CAST = 'float32 to bfloat16'
KEPT = (
  ('.*/up', dict(name='quantized', base=dict(TRAIN, contraction='cores'))),
  ('.*/down', dict(TRAIN, num_modes=4, contraction='two')),
)


@pytest.mark.parametrize(
  'rules, options, work',
  [
    (KEPT, dict(settings=dict(expand_bytes=0)), {'round', 'dot_general'}),
    (KEPT, dict(), {'round', 'dot_general'}),
    ((), dict(dtype=jnp.bfloat16), {CAST}),
    ((), dict(dtype=jnp.bfloat16, tie_logits=False), {CAST}),
  ],
)
def test_the_loop_repeats_no_work_on_what_is_constant(rules, options, work):
  decoder, graphdef, variables = make(rules, **options)
  assert not repeated_by_the_loop(decoder, variables) & work
  decoder._serve = serving.Server(graphdef, lambda model, tokens: None)
  assert repeated_by_the_loop(decoder, variables) >= work


def test_what_is_multiplied_in_bfloat16_is_cast_and_nothing_else():
  decoder, _, variables = make((), dtype=jnp.bfloat16)
  form, arrays = decoder._serve(variables, 4)
  params, _ = form.treedef.unflatten(arrays)
  dtypes = {
    jax.tree_util.keystr(path, simple=True, separator='/'): array.dtype
    for path, array in jax.tree_util.tree_leaves_with_path(params)
  }
  whole = {name for name, dtype in dtypes.items() if dtype == jnp.float32}
  norms = {name for name in dtypes if 'norm' in name}
  assert whole == {*norms, 'embed/factors/matrix', 'logits_bias'}
  # What stays is no copy.
  assert params['logits_bias'] is variables['params']['logits_bias']
  assert set(dtypes.values()) == {jnp.dtype('float32'), jnp.dtype('bfloat16')}


def test_bfloat16_finds_what_casting_at_use_finds():
  decoder, graphdef, variables = make((), dtype=jnp.bfloat16)
  found = searcher(decoder, variables)(SOURCES[0])
  decoder._serve = serving.Server(graphdef, lambda model, tokens: None)
  expected = searcher(decoder, variables)(SOURCES[0])
  np.testing.assert_array_equal(found.tokens, expected.tokens)
  np.testing.assert_array_equal(found.scores, expected.scores)


def test_forgets_with_the_arrays():
  decoder, _, variables = make()
  _, arrays = decoder._serve(variables, 4)
  made = [weakref.ref(a) for a in decoder._serve._made.arrays]
  del arrays
  gc.collect()
  assert made and all(ref() is not None for ref in made)
  del variables['params']['logits_bias']
  gc.collect()
  assert all(ref() is None for ref in made)
