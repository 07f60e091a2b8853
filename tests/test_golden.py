"""Every published parameter count, met by what is built.

Models are built abstractly and compressed by rules, as a run does it; nothing
is allocated. What `golden/param_counts.json` holds and nothing here counts is
an error.
"""

import functools
import json
import math
import pathlib
import re

import jax
import pytest
from flax import nnx

from tt_compress import configuration, parameterizations, rules
from tt_compress.nn import compress, linear, matrix, modules
from tt_compress.training import build

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = json.loads((ROOT / 'tests/golden/param_counts.json').read_text())


def split(build_module):
  """Shapes of the trained arrays of what a function builds."""
  _, params, _ = modules.split(nnx.eval_shape(build_module))
  return params


def num_params(tree):
  """Of arrays that are shapes alone."""
  leaves = jax.tree.leaves(tree)
  assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
  return modules.num_params(tree)


def count_matrix(name, rows, cols, **options):
  """(parameters, dense ones) of a parameterization."""
  spec = parameterizations.make(name, rows, cols, **options)
  build_matrix = lambda: matrix.Matrix(spec, std=1.0, rngs=nnx.Rngs(0))
  return num_params(split(build_matrix)), rows * cols


# Rows of the published embeddings, whose modes are padded.
UNPADDED_ROWS = {'imdb': 25000, 'sst': 17200}


def count_reshaped(name, option, entry):
  row_modes, col_modes = entry['shape']
  rows = UNPADDED_ROWS.get(entry['id'].split('_')[0], math.prod(row_modes))
  return count_matrix(
    name,
    rows,
    math.prod(col_modes),
    row_modes=row_modes,
    col_modes=col_modes,
    **{option: entry['ranks']},
  )


count_train = functools.partial(count_reshaped, 'tensor_train', 'tt_rank')
count_ring = functools.partial(count_reshaped, 'tensor_ring', 'tr_rank')
count_tucker = functools.partial(count_reshaped, 'tucker', 'tucker_rank')


def count_pair(entry):
  params, dense = zip(
    *(count_matrix('dense', *shape) for shape in entry['shape']), strict=True
  )
  return sum(params), sum(dense)


def count_ket(name, entry):
  rows, cols = entry['shape']['vocab'], entry['shape']['dim']
  if rows != 'any':
    return count_matrix(name, rows, cols, **entry['ranks'])
  one, many = (count_matrix(name, n, cols, **entry['ranks']) for n in (1, 999))
  assert many == tuple(999 * number for number in one)
  return many


def count_ket_embedding(method):
  """Of the target embedding of sequence-to-sequence models, and dense."""

  def count(entry):
    rows, cols = entry['shape']['vocab'], entry['shape']['dim']
    rank, order = entry['ranks']['rank'], entry['ranks']['order']
    path = (
      f'{ROOT}/configs/iwslt14_word2ketxs.py:size=published,'
      f'method={method},order={order},rank={rank},dim={cols}'
    )
    sizes = []
    for arguments in ('', ',dense'):
      config = configuration.load(path + arguments)
      if rows != 'any':
        config.model.vocab_size = rows
      sizes.append(num_params(build_config(config)['target_embed']))
    return tuple(sizes)

  return count


def count_product(name, option, entry):
  return count_matrix(name, *entry['shape'], **{option: entry['ranks']})


class MLP(nnx.Module):
  """The network 784-256-10, of which nothing but its size matters here."""

  def __init__(self, rngs):
    self.hidden = linear.Linear(784, 256, rngs=rngs)
    self.out = linear.Linear(256, 10, rngs=rngs)


def build_compressed(make, rule_list=()):
  """Shapes of the trained arrays of a compressed model."""

  def abstract():
    model = make(nnx.Rngs(0))
    compress.compress(model, rule_list, nnx.Rngs(0))
    return model

  return split(abstract)


build_mlp = functools.partial(build_compressed, MLP)


def count_mlp(entry):
  if entry['ranks'] is None:
    return num_params(build_mlp()), None
  row_modes, col_modes = entry['shape']
  choice = dict(
    name='tensor_train',
    tt_rank=entry['ranks'],
    row_modes=row_modes,
    col_modes=col_modes,
  )
  return num_params(build_mlp([('hidden', choice)])), num_params(build_mlp())


def count_svd(entry):
  """Of the hidden layer's matrix alone, as published."""
  choice = dict(name='low_rank', rank=entry['ranks'], middle=True)
  found, dense = (
    num_params(params['hidden']['factors'])
    for params in (build_mlp([('hidden', choice)]), build_mlp())
  )
  return found, dense


def count_adapters(entry):
  """Low rank beside frozen matrices of queries and values."""
  dim, num_layers = entry['shape']['model_dim'], entry['shape']['num_layers']
  parts = (
    dict(name='frozen', base=dict(name='dense')),
    dict(name='low_rank', rank=entry['ranks'], initialization='zero'),
  )
  params, dense = count_matrix('sum', dim, dim, parts=parts)
  return 2 * num_layers * params, 2 * num_layers * dense


class LlamaLayer(nnx.Module):
  """The matrices of a layer, of which nothing but their sizes matters here."""

  def __init__(self, dim, hidden, rngs):
    shapes = [(dim, dim)] * 4 + [(dim, hidden)] * 2 + [(hidden, dim)]
    self.matrices = nnx.List(
      linear.Linear(*shape, use_bias=False, rngs=rngs) for shape in shapes
    )


def count_llama(entry):
  """All matrices of layers with a nonlinearity between factors of low rank."""
  shape = entry['shape']
  dim, num_layers = shape['model_dim'], shape['num_layers']
  make = functools.partial(LlamaLayer, dim, shape['ffn_dim'])
  choice = dict(name='low_rank', rank=entry['ranks'], activation='silu')
  params, dense = (
    num_params(build_compressed(make, rule_list))
    for rule_list in ([('.*', choice)], [])
  )
  # Embeddings, logits, and the scales of two norms per layer and of one more.
  others = 2 * shape['vocab'] * dim + (2 * num_layers + 1) * dim
  return num_layers * params + others, num_layers * dense + others


def count_text_classifier(entry):
  """Of a config file; a row '..._tt1' is its variant of that name."""
  data, _, variant = entry['id'].split('_')
  argument = 'dense' if variant == 'full' else f'variant={variant}'
  config = configuration.load(f'{ROOT}/configs/{data}_tt.py:{argument}')
  return num_params(build_config(config)), None


def build_config(config):
  blueprint = build.blueprint(config)
  assert not blueprint.report.unreached
  return blueprint.params


def count_run(file, arguments):
  """Of a config file, and of its dense twin."""

  def count(entry):
    path = f'{ROOT}/configs/{file}.py:{arguments}'
    blueprint = build.blueprint(configuration.load(path))
    assert not blueprint.report.unreached
    return num_params(blueprint.params), blueprint.dense_num_params

  return count


def count_slides(arguments):
  return count_run('multi30k_slides', f'size=published,{arguments}')


def fairseq(arguments):
  return f'data={arguments},size=published'


def count_stacks(arguments):
  """Of encoder and decoder, without embeddings."""

  def count(entry):
    path = f'{ROOT}/configs/fairseq_shapeshifter.py:{fairseq(arguments)}'
    params = build_config(configuration.load(path))
    return num_params({k: params[k] for k in ('encoder', 'decoder')}), None

  return count


def count_wmt14(arguments):
  path = f'{ROOT}/configs/wmt14_tt.py:{arguments}'
  return lambda entry: (
    num_params(build_config(configuration.load(path))),
    None,
  )


def count_t5(entry):
  """Of `configs/t5_small.py`, whose arguments the id and its ranks give."""
  _, method, *_ = entry['id'].split('_')
  names = dict(small='dense', phm16='phm', lowrank='low_rank')
  arguments = ['size=published', f'method={names.get(method, method)}']
  if isinstance(entry['ranks'], dict):
    arguments.append(f'rank={entry["ranks"]["encdec"]}')
    arguments.append(f'embedding_rank={entry["ranks"]["embedding"]}')
  path = f'{ROOT}/configs/t5_small.py:{",".join(arguments)}'
  return num_params(build_config(configuration.load(path))), None


def build_wikitext103(arguments):
  path = f'{ROOT}/configs/wikitext103_tt.py:{arguments}'
  return build_config(configuration.load(path))


def count_wikitext103(entry):
  return num_params(build_wikitext103('dense')), None


def count_wikitext103_train(entry):
  """Of the embedding or the softmax, and of the matrix of the dense twin."""
  params = build_wikitext103(f'rank={entry["ranks"]}')
  embedding, softmax = num_params(params['embed']), num_params(params['logits'])
  assert embedding == softmax
  return embedding, num_params(build_wikitext103('dense')['embed'])


# (pattern of ids, how it is counted); the first match wins. A count is a
# function of the entry to (parameters, those of what it is compared with).
COUNTS = (
  ('(imdb|sst)_tt._core_params|ffn_tt_r2_one_matrix', count_train),
  ('(imdb|sst)_total_.*', count_text_classifier),
  ('nmt_tt.', count_train),
  ('txl_tt.', count_wikitext103_train),
  ('txl_total_full', count_wikitext103),
  ('nmt_tr.', count_ring),
  ('ffn_tucker_r2_one_matrix', count_tucker),
  ('ffn_dense', count_pair),
  ('w2k_giga_.*', count_ket_embedding('word2ket')),
  ('w2kxs_readme_.*', count_ket_embedding('word2ketxs')),
  ('w2k_.*', functools.partial(count_ket, 'word2ket')),
  ('w2kxs_.*', functools.partial(count_ket, 'word2ketxs')),
  ('phm_.*', functools.partial(count_product, 'phm', 'n')),
  ('ss_.*', functools.partial(count_product, 'kronecker', 'rank')),
  ('mnist_(base|tt_.*)', count_mlp),
  ('mnist_svd_.*', count_svd),
  ('lora_.*', count_adapters),
  ('cola_.*', count_llama),
  ('nmt_total_full', count_wmt14('dense')),
  ('nmt_total_tt1', count_wmt14('rank=64')),
  ('nmt_total_tt2', count_wmt14('rank=48')),
  ('nmt_total_tt3', count_wmt14('rank=32')),
  ('nmt_total_tr1', count_wmt14('method=tensor_ring,rank=32')),
  ('nmt_total_tr2', count_wmt14('method=tensor_ring,rank=16')),
  ('multi30k_vocab', count_slides('dense')),
  *((f'multi30k_tt_{k}of6', count_slides(f'layers={k}')) for k in (6, 5, 3, 1)),
  ('multi30k_tucker_total', count_slides('method=tucker')),
  ('multi30k_all_tucker.*', count_slides('method=tucker,attention')),
  ('t5_.*', count_t5),
  (
    'iwslt14_transformer_total',
    count_run('fairseq_shapeshifter', fairseq('iwslt14-de-en,dense')),
  ),
  (
    'iwslt14_shapeshifter_.*',
    count_run('fairseq_shapeshifter', fairseq('iwslt14-de-en')),
  ),
  ('fairseq_base_encdec', count_stacks('wmt14-en-de,dense')),
  ('wmt16_shapeshifter_.*', count_stacks('wmt16-en-ro')),
  ('wmt14_shapeshifter_.*', count_stacks('wmt14-en-fr')),
)
# Two matrices, embedding and softmax, are compared with one that is tied.
UNTIED = r'(nmt|txl)_t[tr]\d'
COUNT_OF = rules.assign(COUNTS, [entry['id'] for entry in GOLDEN])
BY_ID = {entry['id']: entry for entry in GOLDEN}
MORE_THAN_TWICE = 'inequality_gt_2x_of_'


@pytest.mark.parametrize('entry', BY_ID.values(), ids=BY_ID)
def test_count(entry):
  """The count, exactly, and the published number as far as it is given."""
  params, dense = COUNT_OF[entry['id']](entry)
  ours = {'params': params}
  if entry['expected_params'] is not None:
    assert params == entry['expected_params']
  if entry['dense_params'] is not None:
    assert dense == entry['dense_params']
  if entry['expected_ratio'] is not None:
    copies = 2 if re.fullmatch(UNTIED, entry['id']) else 1
    ours['ratio'] = dense / (copies * params)
    assert ours['ratio'] == pytest.approx(entry['expected_ratio'], abs=5e-5)
  if entry['published'] is not None:
    found, published = ours[entry['published_unit']], entry['published']
    assert abs(found - published) <= entry['tolerance']
    if entry['check'] == 'exact':  # to all the digits that were printed
      _, _, decimals = str(published).partition('.')
      assert round(found, len(decimals)) == published
  if entry['check'].startswith(MORE_THAN_TWICE):
    other = BY_ID[entry['check'].removeprefix(MORE_THAN_TWICE)]
    assert params > 2 * COUNT_OF[other['id']](other)[0]


@pytest.mark.parametrize(
  'rank, total', [(192, 90_674_138), (128, 70_875_098), (96, 63_924_698)]
)
def test_totals_of_transformer_xl(rank, total):
  """Those that follow from the shapes; 94M, 73M and 65M are published."""
  assert num_params(build_wikitext103(f'rank={rank}')) == total


def test_the_small_transformer_of_the_slides():
  """1.6 is published."""
  count = count_slides('method=fewer_layers,layers=3')
  params, dense = count(None)
  assert dense / params == pytest.approx(1.523, abs=5e-4)


def test_every_entry_is_counted():
  assert len(BY_ID) == len(GOLDEN)
  assert set(COUNT_OF) == set(BY_ID)


def test_every_entry_says_how_it_is_checked():
  """In words that `test_count` knows."""
  for entry in GOLDEN:
    is_inequality = entry['check'].startswith(MORE_THAN_TWICE)
    assert is_inequality or entry['check'] in ('exact', 'rounded')
    assert entry['expected_params'] or entry['expected_ratio']
    assert (entry['published'] is None) == (entry['published_unit'] is None)
