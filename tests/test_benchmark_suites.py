"""Every suite of `python -m benchmarks` with tiny cases."""

import ast
import contextlib
import json
import os
import pathlib
import stat
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import (
  adaptive,
  attention,
  contractions,
  decode,
  depth,
  dispatch,
  gpu,
  language,
  layers,
  lookups,
  memory,
  model,
  networks,
  peer_cases,
  peers,
  reader,
  records,
  recurrent,
  sample,
  similar,
  subprocesses,
  suites,
  training,
)
from tt_compress import configuration, parameterizations, timing
from tt_compress.data import corpus, sentence_pieces
from tt_compress.parallel import sharding
from tt_compress.training import build

ENGINES = ['decode_worker', 'decode_torch', 'decode_ctranslate2']
ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def zero_weights(monkeypatch):
  """Programs that are not timed need not draw weights, nor eight devices."""

  def zeros(config, sharding):
    made = build.blueprint(config)
    whole = {'params': made.params, 'buffers': made.buffers}
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), whole)

  one = sharding.make_mesh(devices=jax.devices()[:1])
  monkeypatch.setattr(sharding, 'make_mesh', lambda: one)
  monkeypatch.setattr(build, 'initialize', zeros)


@pytest.fixture
def made_up_times(monkeypatch):
  """Calls everything once, and says that ours takes a quarter of the time."""

  def interleaved(functions, **options):
    for function in functions.values():
      jax.block_until_ready(function())
    return {name: [0.5 if name == 'ours' else 2.0] for name in functions}

  monkeypatch.setattr(timing, 'interleaved', interleaved)


def test_a_ratio_is_ours_over_dense():
  found = records.ratios({'ours': [1.0, 2.0], 'dense': [4.0, 8.0]})
  assert found['ratio'] == found['ratio_of_minima'] == 0.25
  assert (found['ms'], found['reference_ms']) == (1500, 6000)


def test_the_pair_of_a_case():
  first, second = networks.cases({}, layers=(1,), tiny=True)
  for case in (first, second):
    pair = case.pair()
    assert pair['ours'].compress and not pair['dense'].compress
    assert pair['dense'].model.tie_logits
  assert first.config.model.tie_logits and not second.config.model.tie_logits


def test_the_large_cases_can_be_built():
  names = {
    'ffn': ['encoder/layers/5/ffn/up', 'decoder/layers/5/ffn/down'],
    'tables': ['embed', 'logits'],
  }
  first, second, *_ = model.CASES
  for case, wanted in (
    (first, names['ffn']),
    (second, names['ffn'] + names['tables']),
  ):
    specs = build.blueprint(case.config).matrices
    for path in wanted:
      assert type(specs[path]) is parameterizations.REGISTRY['tensor_train']
  assert build.blueprint(first.config).matrices['embed'].num_params == 2**24


def test_a_batch_holds_words_alone():
  config = networks.transformer((), 1)
  batch = networks.training(config).batch
  assert batch['targets'].size == 4096
  for side in ('inputs', 'targets'):
    ids = np.asarray(batch[side])
    assert ids.min() > corpus.UNK_ID and ids.max() < config.model.vocab_size


@pytest.mark.full
def test_model(zero_weights, made_up_times):
  [found] = model.measure(model.TINY, rounds=1)
  assert (found['kind'], found['ratio'], found['goal']) == ('step', 0.25, 0.85)
  assert len(model.table([found]).splitlines()) == 3
  json.dumps(found)


def test_recurrent(zero_weights, made_up_times, monkeypatch):
  monkeypatch.setattr(recurrent, '_torch', lambda *_, **options: options.copy)
  monkeypatch.setattr(recurrent.importlib.util, 'find_spec', lambda _: True)
  found = recurrent.measure(recurrent.TINY, rounds=1)
  references = [(each['reference'], each['goal']) for each in found]
  assert references == [('torch.nn.LSTM', 1), ('nnx.RNN', None), ('dense', 1)]
  assert len(recurrent.table(found).splitlines()) == 5
  json.dumps(found)


def test_reader(zero_weights, made_up_times):
  found = reader.measure(reader.TINY, rounds=1)
  references = [(each['reference'], each['ratio']) for each in found]
  assert references == [('lazy', 0.25), ('regular', 0.25), ('lazy', 0.25)]
  assert len(reader.table(found).splitlines()) == 5
  json.dumps(found)


def test_similar(made_up_times):
  inner, nearest = similar.measure(similar.TINY, rounds=1)
  assert (inner['kind'], nearest['kind']) == ('inner', 'nearest')
  assert inner['ratio'] == 0.25
  assert max(inner['error'], nearest['error']) < 1e-5
  assert len(similar.table([inner, nearest]).splitlines()) == 4
  json.dumps(inner)


def test_sample(zero_weights, made_up_times):
  [found] = sample.measure(sample.TINY, rounds=1)
  # Two texts in half a second, and in two.
  assert found['tokens'] == 4 * sample.TOKENS
  assert found['dense_tokens'] == sample.TOKENS
  assert found['speedup'] == 4
  assert len(sample.table([found]).splitlines()) == 3
  call = sample.continuation(sample.TINY[0].config, 3)
  assert [len(ids) for [(ids, _)] in call()] == [sample.TOKENS] * 3


def test_language(zero_weights, made_up_times):
  [found] = language.measure(language.TINY, rounds=1)
  assert (found['speedup'], found['goal']) == (4, 1)
  # 16 x 32 tokens in half a second, and in two, rounded to three digits.
  assert (found['tokens'], found['dense_tokens']) == (1020, 256)
  assert len(language.table([found]).splitlines()) == 3
  batch = language.batch(language.TINY[0].config)
  assert batch['weights'].all() and not batch['starts'].any()
  inputs, targets = batch['inputs'], batch['targets']
  np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
  assert 0 <= inputs.min() < inputs.max() < 1024
  json.dumps(found)


def test_decode(zero_weights, made_up_times, monkeypatch):
  translated = []
  decode_ids = sentence_pieces.SentencePieces.decode

  def seen(self, ids):
    translated.append(list(ids))
    return decode_ids(self, ids)

  monkeypatch.setattr(sentence_pieces.SentencePieces, 'decode', seen)
  [found] = decode.measure(decode.TINY, rounds=1)
  assert (found['speedup'], found['goal']) == (4, 1.1)
  # Two sentences in a half, and in two seconds.
  assert (found['sentences'], found['dense_sentences']) == (4, 1)
  # Two of a beam, for two sentences, by two models: all equally long.
  lengths = [len(ids) - ids.count(corpus.PAD_ID) for ids in translated]
  assert lengths == [decode.STEPS] * 8
  assert not any(corpus.EOS_ID in ids for ids in translated)
  assert len(decode.table([found]).splitlines()) == 3
  json.dumps(found)


@pytest.mark.full
def test_training(zero_weights, monkeypatch):
  monkeypatch.setattr(training, '_STEPS', 3)
  [found] = gpu.measure(gpu.TINY[:1], rounds=1)
  [case] = training.TINY
  assert found['steps'] == 6
  seconds = found['ms'] / 1000
  assert found['tokens'] * seconds == pytest.approx(
    case.config.data.batch_tokens, rel=0.02
  )
  words = case.config.model.vocab_size
  # Smoothed, and the first steps of a schedule change little.
  assert found['loss'] == pytest.approx(np.log(words), rel=0.1)
  assert found['dense_loss'] == pytest.approx(np.log(words), rel=0.1)
  assert len(gpu.table([found]).splitlines()) == 5
  json.dumps(found)


def test_a_loss_that_is_not_finite_is_an_error():
  run = training._Run(lambda: None, 1, {}, 0.0, losses=[1.0, float('nan')])
  with pytest.raises(FloatingPointError, match='losses of turns are .1.0, nan'):
    training._facts(run, [1.0], '')


def test_gpu_has_the_records_of_the_suites(monkeypatch):
  rounds = []

  def measure(cases, **options):
    rounds.append(options)
    return [{'case': case.text} for case in cases]

  for suite in gpu._SUITES.values():
    monkeypatch.setattr(suite, 'measure', measure)
  found = gpu.measure(gpu.CASES, rounds=2)
  texts = [f'{record["suite"]}: {record["case"]}' for record in found]
  assert texts == [case.text for case in gpu.CASES]
  assert rounds == [{'rounds': 2}] * len(gpu.CASES)
  assert {record['suite'] for record in found} == set(gpu._SUITES)
  text = gpu.table(found)
  assert all(record['case'] in text for record in found)


def test_gpu_records_errors(monkeypatch):
  def measure(cases, **options):
    raise RuntimeError(f'no memory for {cases[0].text}')

  monkeypatch.setattr(training, 'measure', measure)
  monkeypatch.setattr(layers, 'measure', lambda cases, **_: [{'case': 'fine'}])
  failed, done = gpu.measure([gpu.CASES[0], gpu.Case('layers', None)])
  assert failed['error'] == f'no memory for {failed["case"]}'
  assert done == {'suite': 'layers', 'case': 'fine'}
  text = gpu.table([failed, done])
  assert failed['error'] in text and '| fine |' in text


def test_attention():
  [found] = attention.measure(attention.TINY, rounds=1, seconds=0)
  assert (found['implementation'], found['difference']) == ('xla', 0)
  assert len(attention.table([found]).splitlines()) == 3
  json.dumps(found)


@pytest.mark.full
def test_depth(zero_weights):
  scanned, unrolled = depth.measure(depth.TINY, rounds=1)
  assert (scanned['form'], scanned['goal']) == ('scanned', 1.2)
  assert unrolled['ratio'] == 1
  for record in (scanned, unrolled):
    assert len(record['trace']) == len(record['compile']) == 2
  assert len(depth.table([scanned, unrolled]).splitlines()) == 4
  json.dumps([scanned, unrolled])


@pytest.mark.full
def test_memory(zero_weights):
  step, *matrices = memory.measure(memory.TINY, rounds=1)
  assert step['kind'] == 'step'
  assert {record['kind'] for record in matrices} == {'gradient'}
  _, apply, _ = matrices
  # Factors 12 x 2 and 8 x 2, x and the weights of the sum, beside a matrix.
  sizes = [4 * (40 + 6 * (12 + 8)), 4 * (96 + 6 * (12 + 8))]
  assert apply['arguments'] == records.rounded(sizes[0] / 2**20)
  assert apply['dense_arguments'] == records.rounded(sizes[1] / 2**20)
  for record in (step, *matrices):
    ours = record['arguments'] + record['temporaries']
    dense = record['dense_arguments'] + record['dense_temporaries']
    assert record['ratio'] == pytest.approx(ours / dense, rel=0.02)
    ours, dense = ours + record['outputs'], dense + record['dense_outputs']
    assert record['whole'] == pytest.approx(ours / dense, rel=0.02)
  assert len(memory.table([step, *matrices]).splitlines()) == 6
  json.dumps([step, *matrices])


def test_dispatch(zero_weights):
  first, *others = dispatch.CASES
  [found] = dispatch.measure([first], rounds=1)
  # Three cores or a matrix, and x.
  assert (found['arrays'], found['dense_arrays']) == (4, 2)
  assert len(dispatch.table([found]).splitlines()) == 3
  json.dumps(found)
  step, translation = (
    {name: count for name, (_, count) in case.pair().items()} for case in others
  )
  # Two more cores and a bias less, four times; with both moments in training.
  assert translation['ours'] - translation['dense'] == 4
  assert step['ours'] - step['dense'] == 3 * 4


def test_adaptive(made_up_times):
  found = adaptive.measure(adaptive.TINY, rounds=1)
  assert [each['ratio'] for each in found] == [0.25, 0.25]
  assert all(each['memory'] > 0 for each in found)
  assert len(adaptive.table(found).splitlines()) == 4
  json.dumps(found)


def test_lookups(made_up_times, monkeypatch):
  steps = []
  torch = contextlib.nullcontext((steps.append, 'a version'))
  monkeypatch.setattr(peers, 'python', lambda modules: 'python')
  monkeypatch.setattr(subprocesses, 'started', lambda *arguments: torch)
  found = lookups.measure(lookups.TINY, rounds=1)
  assert [record['ratio'] for record in found] == [0.25]
  assert len(steps) == 1 and found[0]['version'] == 'a version'
  assert len(lookups.table(found).splitlines()) == 3
  json.dumps(found)


FAKE = """#!{python}
import json, pathlib, sys
if '-c' in sys.argv:
  sys.exit({missing!r} in sys.argv[-1])
options = dict(part.split('=') for part in sys.argv if part.startswith('--'))
cases = json.loads(pathlib.Path(options['--cases']).read_text())
found = [
  dict(case=text, kind=kind, ratio=1e6, ms=2e6, reference_ms=2.0,
       implementation='theirs', num_params=7, threads=2)
  for text, case in zip({texts!r}, cases) for kind in case['goals']
]
pathlib.Path(options['--output']).write_text(json.dumps(found))
"""


@pytest.fixture
def environment(tmp_path, monkeypatch):
  """Makes one with a Python that knows what it is asked, but for a module."""

  def make(missing, cases=()):
    path = tmp_path / 'bin' / 'python'
    path.parent.mkdir()
    texts = [case.text for case in cases]
    path.write_text(
      FAKE.format(python=sys.executable, missing=missing, texts=texts)
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv('TT_COMPRESS_PEERS', str(tmp_path))

  return make


def test_peers_are_joined_with_ours(environment):
  cases = peer_cases.TINY[:2]
  environment('nothing', cases)
  found = peers.measure(cases, rounds=1)
  kinds = [(record['case'], record['kind']) for record in found]
  assert kinds == [
    (case.text, kind) for case in cases for kind in ('forward', 'gradient')
  ]
  for record in found:
    assert record['to_peer'] == records.rounded(record['ratio'] / 1e6)
    assert record['time_to_peer'] == records.rounded(record['ms'] / 2e6)
    assert record['goal'] == 1 and record['peer_num_params'] == 7
  assert len(peers.table(found).splitlines()) == 6
  json.dumps(found)


def test_peers_of_other_cases_are_refused(environment):
  environment('nothing', peer_cases.TINY[1:])
  with pytest.raises(ValueError, match='not of the same case'):
    peers.measure(peer_cases.TINY[:1], rounds=1)


def test_missing_peers_say_how_to_install_them(environment, monkeypatch):
  monkeypatch.setenv('TT_COMPRESS_PEERS', 'no-such-folder')
  with pytest.raises(ModuleNotFoundError, match="'torch' in no-such-folder"):
    peers.measure(peer_cases.TINY, rounds=1)
  environment('tltorch')
  with pytest.raises(ModuleNotFoundError) as raised:
    peers.measure(peer_cases.TINY, rounds=1)
  assert "'tltorch'" in str(raised.value)
  assert all(line in str(raised.value) for line in peer_cases.INSTALL)


@pytest.mark.skipif(
  not os.environ.get('TT_COMPRESS_PEERS'),
  reason='TT_COMPRESS_PEERS names no environment with other packages',
)
def test_the_peers_themselves():
  assert lookups.measure(lookups.TINY, rounds=1)
  found = peers.measure(peer_cases.TINY, rounds=1)
  assert len(found) == 2 * len(peer_cases.TINY)
  for record in found:
    assert record['peer_num_params'] == record['num_params']


@pytest.mark.parametrize(
  'main, files',
  [
    (['peers_torch'], {'peers_torch', 'peer_cases', 'layer_cases'}),
    (ENGINES, {*ENGINES, 'decode_work'}),
    (['click_torch'], {'click_torch', 'click_cases'}),
    (['products_torch'], {'products_torch'}),
    (['step_torch'], {'step_torch', 'step_work', 'decode_work'}),
    (['lookups_torch'], {'lookups_torch', 'lookup_work', 'layer_cases'}),
  ],
)
def test_peers_need_no_jax(main, files):
  """The imports of their process, followed through files of this project."""
  waiting, seen = list(main), set()
  while waiting:
    name = waiting.pop()
    seen.add(name)
    tree = ast.parse((ROOT / 'benchmarks' / f'{name}.py').read_text())
    for node in ast.walk(tree):
      if isinstance(node, ast.ImportFrom):
        names = [alias.name for alias in node.names]
        is_timing = (node.module, names) == ('tt_compress', ['timing'])
        top = node.module.split('.')[0]
        assert is_timing or top not in ('jax', 'tt_compress')
        if node.module == 'benchmarks':
          waiting += [a.name for a in node.names if a.name not in seen]
      if isinstance(node, ast.Import):
        for alias in node.names:
          assert alias.name.split('.')[0] not in ('jax', 'tt_compress')
  assert seen == files


@pytest.mark.parametrize('case', peer_cases.CASES, ids=lambda case: case.text)
def test_cases_of_peers_can_be_built(case):
  assert layers.specs(case)['ours'].num_params < np.prod(case.shape)


def run(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'benchmarks', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )


def test_the_command(tmp_path):
  output = tmp_path / 'found.json'
  result = run('--tiny', '--only=^apply', '--rounds=1', f'--output={output}')
  assert not result.returncode, result.stderr
  report = json.loads(output.read_text())
  [record] = report['records']
  assert record['case'].startswith('apply low_rank')
  assert '--only=^apply' in report['command']
  assert record['case'] in result.stdout


def test_cases_without_time_are_left_out(tmp_path):
  output = tmp_path / 'found.json'
  arguments = '--only=^(apply|logits)', '--rounds=1', '--minutes=0.001'
  result = run('--tiny', *arguments, f'--output={output}')
  assert not result.returncode, result.stderr
  report = json.loads(output.read_text())
  [done] = report['records']
  [left] = report['left_out']
  assert done['case'].startswith('apply') and left.startswith('logits')


def test_an_unknown_suite_or_case_is_refused():
  result = run('--suite=speed')
  assert result.returncode and 'layers|contractions|model' in result.stderr
  with pytest.raises(ValueError, match='only=a song matches none of\nTT feed'):
    suites.chosen(model.CASES, 'a song')


def test_contractions_are_compared_with_the_choice():
  found = contractions.measure(contractions.TINY, rounds=2, seconds=0.0)
  assert [record['kind'] for record in found] == ['forward', 'gradient']
  for record in found:
    medians = {name: ms for name, (_, ms) in record['ways'].items()}
    assert len(medians) > 1 and record['loss'] >= 1
    assert medians[record['best']] == min(medians.values())
    assert record['chosen'] in medians
  assert 'choices are within 20%' in contractions.table(found)


@pytest.mark.parametrize('suite', suites.SUITES.values())
def test_suites_are_alike(suite):
  assert suite.CASES and suite.TINY and suite.ROUNDS >= 1
  texts = [case.text for case in suite.CASES]
  assert len(set(texts)) == len(texts)
  assert callable(suite.measure) and callable(suite.table)


def test_configurations_are_those_of_runs():
  paths = [case.text for case in memory.CASES if case.text.endswith('.py')]
  for path in paths:
    assert configuration.load(str(ROOT / path)).compress
