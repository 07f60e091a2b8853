"""The command line: commands, pipes, kills and mistakes."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = '--config=configs/quickstart.py:tiny'
STUDY = '--config=configs/studies/slides_mnist.py'
NUM_STEPS, EVERY = 30, 10
SMALL = (
  CONFIG,
  f'--config.num_steps={NUM_STEPS}',
  f'--config.evaluation.every={EVERY}',
  '--config.optimizer.warmup_steps=5',
  '--config.evaluation.max_sentences=8',
  '--config.evaluation.beam_size=1',
  '--config.evaluation.batch_size=8',
  '--config.data.bucket_lengths=(32,)',
  "--config.data.options={'num_train':300,'num_validation':20,'num_test':20}",
  '--config.model.vocab_size=300',
  '--config.logging.every=1',
)


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
  """A home of its own, and one compilation of each program for all runs."""
  home = tmp_path_factory.mktemp('home')
  return {
    **os.environ,
    'HOME': str(home),
    'JAX_COMPILATION_CACHE_DIR': str(home / 'jax'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
  }


def start(environment, *arguments, **options):
  return subprocess.Popen(
    [sys.executable, '-m', 'tt_compress.main', *arguments],
    cwd=ROOT,
    env=environment,
    text=True,
    encoding='utf-8',
    **options,
  )


def call(environment, *arguments, given=''):
  """Standard output of a command that succeeds."""
  pipe = subprocess.PIPE
  process = start(environment, *arguments, stdin=pipe, stdout=pipe, stderr=pipe)
  output, errors = process.communicate(given, timeout=600)
  assert process.returncode == 0, errors
  return output


def read_json(path):
  return json.loads(path.read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def finished(environment, tmp_path_factory):
  """The workdir of an uninterrupted run, and what it printed."""
  workdir = tmp_path_factory.mktemp('finished') / 'run'
  return workdir, call(environment, *SMALL, f'--workdir={workdir}')


def test_what_a_run_prints_and_keeps(finished):
  workdir, output = finished
  results = read_json(workdir / 'results.json')
  assert output.splitlines()[-1] == f'BLEU = {results["test"]["bleu"]:.2f}'
  assert output.count('translation  ') == 3
  assert 'tensor_train(' in output and 'tt_rank=(1, ' in output
  score = results['nearest_sentence_bleu']
  assert f'nearest training sentence: BLEU = {score:.2f}' in output
  kept = {path.name for path in workdir.iterdir()}
  assert {'config.json', 'metrics.jsonl', 'vocabulary.model'} <= kept
  assert any(name.startswith('events.out.tfevents') for name in kept)


def test_results_of_a_run(finished):
  results = read_json(finished[0] / 'results.json')
  ratio = results['dense_num_params'] / results['num_params']
  assert results['compression_ratio'] == ratio > 1
  assert results['reference'] == 'quickstart-tiny-dense'
  assert results['config']['num_steps'] == NUM_STEPS
  assert {'jax', 'flax', 'optax'} <= set(results['versions'])
  assert 'git' in results
  assert results['backend'] == 'cpu' and results['num_devices'] == 1
  assert len(results['params_sha256']) == 64
  assert results['seconds'] > 0
  assert results['best_step'] in range(EVERY, NUM_STEPS + 1, EVERY)
  for split in ('validation', 'test'):
    scores = results[split]
    assert scores['num_sentences'] == 20 and scores['beam_size'] == 1
    assert 0 < scores['loss'] < 10 and 0 <= scores['bleu'] <= 100
    assert 'tok:13a' in scores['signature']
    assert len(scores['samples']) == 3


def wait_for(condition, process):
  deadline = time.monotonic() + 600
  while not condition():
    assert process.poll() is None, 'the run ended before it could be killed'
    assert time.monotonic() < deadline
    time.sleep(0.005)


# The fast tier kills two processes (test_processes.py).
@pytest.mark.full
def test_killed_and_continued_it_ends_with_the_same_bits(
  environment, finished, tmp_path
):
  workdir = tmp_path / 'run'
  command = (*SMALL, f'--workdir={workdir}')
  lines = workdir / 'metrics.jsonl'
  last_step = lambda: max(
    (
      json.loads(line)['step']
      for line in lines.read_text().splitlines()
      if line.endswith('}')
    ),
    default=0,
  )
  committed = workdir / 'checkpoints' / str(EVERY) / '_CHECKPOINT_METADATA'
  with open(tmp_path / 'log', 'w') as log:
    process = start(environment, *command, stdout=log, stderr=log)
    try:
      wait_for(committed.exists, process)
      wait_for(lambda: last_step() > EVERY + 2, process)
    finally:
      process.send_signal(signal.SIGKILL)
      process.wait()
  assert process.returncode == -signal.SIGKILL
  assert not (workdir / 'results.json').exists()
  with open(lines, 'a') as file:
    file.write('{"step": 1')  # what a kill may leave
  pipe = subprocess.PIPE
  process = start(environment, *command, stdout=pipe, stderr=pipe)
  _, errors = process.communicate(timeout=600)
  assert process.returncode == 0, errors
  assert 'resuming from step' in errors
  found = read_json(workdir / 'results.json')
  expected = read_json(finished[0] / 'results.json')
  assert found['params_sha256'] == expected['params_sha256']
  assert found['test'] == expected['test']


def test_a_finished_run_is_read(environment, finished):
  workdir, output = finished
  before = (workdir / 'metrics.jsonl').read_text()
  assert call(environment, *SMALL, f'--workdir={workdir}') == output
  assert (workdir / 'metrics.jsonl').read_text() == before


def test_evaluate_from_the_folder_alone(environment, finished):
  workdir, output = finished
  found = call(environment, '--mode=evaluate', f'--workdir={workdir}')
  assert output.endswith(found)


def test_predict_gives_a_line_for_each_line(environment, finished):
  workdir, _ = finished
  lines = ['Der Hund schläft.', '', '   ', 'Der Mann sieht ein Haus. ' * 9]
  # Characters that only some readers take for the end of a line.
  lines += ['Eine Frau\u2028singt.', 'Ein\x0bKind\x85lacht.', '\U0001f600']
  command = '--mode=predict', f'--workdir={workdir}'
  found = call(environment, *command, given='\n'.join(lines) + '\n')
  assert found.count('\n') == len(lines)
  translations = found.split('\n')
  assert translations[1] == translations[2] == ''


def test_ten_lines_are_continued(environment, tmp_path):
  """By a model of words with a memory and an adaptive softmax."""
  workdir = f'--workdir={tmp_path / "run"}'
  call(
    environment,
    '--config=configs/wikitext2_tt.py:tiny',
    '--config.num_steps=2',
    '--config.optimizer.warmup_steps=1',
    '--config.evaluation.every=2',
    '--config.evaluation.max_tokens=64',
    '--config.evaluation.final_tokens=64',
    '--config.data.options={"num_train":300,"num_validation":50,"num_test":50}',
    '--config.sampling.max_tokens=4',
    workdir,
  )
  config = read_json(tmp_path / 'run' / 'config.json')
  assert config['model']['cutoffs'] and config['model']['memory_length']
  # Words that the model does not know become <unk>.
  lines = ['A dog', 'The dog sees', '', 'A', 'The man', 'A woman', 'Xyzzy']
  lines += ['The', 'The child', 'A house .']
  found = call(
    environment, '--mode=predict', workdir, given='\n'.join(lines) + '\n'
  )
  answers = found.splitlines()
  assert len(answers) == len(lines) == 10
  for line, answer in zip(lines, answers, strict=True):
    given, words = line.split(), answer.split()
    assert len(given) <= len(words) <= len(given) + 4
    assert all(
      word in (one, '<unk>') for one, word in zip(given, words, strict=False)
    )


def test_compress_starts_from_a_trained_run(environment, finished, tmp_path):
  trained, output = finished
  command = '--mode=compress', f'--workdir={tmp_path / "fitted"}'
  found = call(
    environment,
    *SMALL,
    *command,
    f'--init_from={trained}',
    '--config.num_steps=0',
  )
  fit = read_json(tmp_path / 'fitted' / 'results.json')['fit']
  # The same rules fit what they have trained.
  assert fit['matrices'] and all(row['error'] < 1e-5 for row in fit['matrices'])
  score = output.splitlines()[-1]
  assert found.splitlines()[-1] == score
  assert f'fitted from {trained}, {score}' in found
  assert f'before fine-tuning: {score}' in found
  assert 'error' in found and '0.0000' in found
  # The folder knows where it began.
  assert call(environment, *command) == found


DRIVER = """
import json, os, runpy, sys
import ml_collections.config_flags
import tt_compress.training.run

folder, commands = sys.argv[1], json.load(sys.stdin)
for number, command in enumerate(commands):
  child = os.fork()
  if not child:
    for stream, name in ((1, 'out'), (2, 'err')):
      path = f'{folder}/{number}.{name}'
      os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), stream)
    sys.argv[1:] = command
    runpy.run_module('tt_compress.main', run_name='__main__', alter_sys=True)
  _, status, usage = os.wait4(child, 0)
  print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""
MISTAKES = {
  'argument': (
    ('--config=configs/quickstart.py:tyni',),
    ["unknown config argument 'tyni'", 'tiny'],
  ),
  'value': (
    ('--config=configs/wmt14_tt.py:rank=many',),
    ["rank='many' must be of type int"],
  ),
  'rank 0': (
    ('--config=configs/wmt14_tt.py:rank=0',),
    [
      '\nerror: cannot compress embed',
      'tt_rank must be an integer of at least 1',
    ],
  ),
  'setting': (
    (CONFIG, '--config.model.droput=1'),
    ["error: unknown setting 'model.droput'; nearest: model.dropout"],
  ),
  'type': (
    (CONFIG, '--config.num_steps=ten'),
    ['--config.num_steps', "'ten'"],
  ),
  'option of a rule': (
    (CONFIG, "--config.compress=(('embed',{'name':'low_rank','rnak':4}),)"),
    ['cannot compress embed', "'rnak'", "'rank'"],
  ),
  'rule without a match': (
    (CONFIG, "--config.compress=(('embde',{'name':'low_rank','rank':4}),)"),
    ["rule 'embde' matches none", "'embed'"],
  ),
  'file': (
    ('--config=configs/quikstart.py',),
    ["error: no config file 'configs/quikstart.py'; nearest: configs/quicks"],
  ),
  'file in two words': (
    ('--config.seed=1', '--config', 'configs/quikstart.py'),
    ["error: no config file 'configs/quikstart.py'; nearest: configs/quicks"],
  ),
  'argument of a file': (
    ('--config', 'configs/quickstart.py:teeny'),
    ["error: unknown config argument 'teeny'; this config has dense, tiny"],
  ),
  'nothing': ((), ['--config=configs/quickstart.py', '--workdir']),
  'mode': ((CONFIG, '--mode=trian'), ['trian', 'train']),
  'stray argument': ((CONFIG, 'train'), ["unexpected arguments: ['train']"]),
  'learning rate': (
    (CONFIG, '--config.optimizer.learning_rate=-1.0'),
    ['learning_rate=-1.0 must be a positive'],
  ),
  'no number': (
    (CONFIG, '--config.optimizer.learning_rate=nan'),
    ['learning_rate=nan must be a positive'],
  ),
  'nothing trained': (
    (CONFIG, '--mode=predict', '--workdir=NEW'),
    ['\nerror: no run in', 'train first'],
  ),
  'start from nowhere': (
    (CONFIG, '--mode=compress', '--init_from=nowhere', '--workdir=NEW'),
    ['nowhere is not the folder of a trained run', 'config.json is missing'],
  ),
  'start from nothing': (
    (CONFIG, '--mode=compress', '--workdir=NEW'),
    ['--mode=compress needs --init_from=FOLDER'],
  ),
  'start for another mode': (
    (CONFIG, '--init_from=OLD'),
    ['--init_from needs --mode=compress'],
  ),
  'start from another model': (
    (
      *SMALL,
      '--config.model.ffn_dim=16',
      '--mode=compress',
      '--init_from=OLD',
      '--workdir=NEW',
    ),
    ['ffn/down', 'float32[128, 64]', 'float32[16, 64]'],
  ),
  'lines to classify': (
    ('--config=configs/mnist.py:tiny', '--mode=predict', '--workdir=NEW'),
    ['\nerror: task=classification does not predict from lines of text'],
  ),
  'study': (
    (CONFIG, '--mode=study', '--workdir=NEW'),
    ['this configuration is a single run', 'configs/studies/'],
  ),
  'study as a run': (
    (STUDY, '--workdir=NEW'),
    ['slides_mnist is a study; run it with --mode=study'],
  ),
  'row of a study': (
    (STUDY, '--mode=study', '--config.study.only=M6', '--workdir=NEW'),
    ["error: there is no row 'M6'", "'slides-M6'"],
  ),
  'data of a study': (
    (STUDY, '--mode=study', '--config.data.path=nowhere', '--workdir=NEW'),
    ['no train-images-idx3-ubyte and no', 'in nowhere'],
  ),
  'devices of a run': (
    (CONFIG, '--devices=8', '--workdir=NEW'),
    ['--devices needs --mode=plan'],
  ),
  'budget of a run': (
    (CONFIG, '--budget=4M', '--workdir=NEW'),
    ['--budget needs --mode=plan'],
  ),
  'format of a run': (
    (CONFIG, '--format=stablehlo', '--workdir=NEW'),
    ['--format needs --mode=export'],
  ),
  'budget without a run': (
    (CONFIG, '--mode=plan', '--budget=4M', '--workdir=NEW'),
    ['error: no run in', 'config.json is missing'],
  ),
  'number of devices': (
    (CONFIG, '--mode=plan', '--devices=1000', '--workdir=NEW'),
    ["error: --devices='1000' must be a number from 1 to 256"],
  ),
  'another configuration': (
    (*SMALL, '--config.seed=7', '--workdir=OLD'),
    ['another configuration', 'seed: 0 -> 7', '--workdir'],
  ),
}
PLAN = ('--config=configs/wmt14_tt.py', '--mode=plan', '--workdir=NEW')
COMMANDS = {'plan': PLAN, **{name: MISTAKES[name][0] for name in MISTAKES}}


@pytest.fixture(scope='module')
def answers(environment, finished, tmp_path_factory):
  """(exit code, KiB of memory, standard output, errors) of all COMMANDS.

  One process imports everything once and forks for each of them.
  """
  folder = tmp_path_factory.mktemp('answers')
  folders = {'=NEW': f'={folder / "new"}', '=OLD': f'={finished[0]}'}
  commands = [
    [part[:-4] + folders.get(part[-4:], part[-4:]) for part in command]
    for command in COMMANDS.values()
  ]
  answer = subprocess.run(
    [sys.executable, '-c', DRIVER, folder],
    input=json.dumps(commands),
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    timeout=600,
    check=True,
  )
  found = {}
  for number, (name, line) in enumerate(
    zip(COMMANDS, answer.stdout.splitlines(), strict=True)
  ):
    code, memory = map(int, line.split())
    output = (folder / f'{number}.out').read_text()
    found[name] = code, memory, output, (folder / f'{number}.err').read_text()
  return found, folder


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_is_explained(answers, name):
  code, _, output, errors = answers[0][name]
  assert code != 0
  for words in MISTAKES[name][1]:
    assert words in output + errors
  if 'Flags parsing error' not in errors:  # Those are told by absl.
    assert re.search('^error: ', errors, re.MULTILINE)
    assert 'Traceback' not in errors
    assert '--workdir: ' not in output + errors  # The list of all flags.


def test_plan_for_devices(environment, tmp_path):
  arguments = ('--mode=plan', '--devices=4', f'--workdir={tmp_path}')
  output = call(environment, '--config=configs/mnist.py', *arguments)
  plan = read_json(tmp_path / 'plan.json')
  dense, ours = plan['devices']
  assert dense['name'] == plan['reference']
  assert dense['num_params'] == plan['dense_num_params']
  for found, num_params in ((ours, plan['num_params']), (dense, 203_530)):
    assert found['num_params'] == num_params
    assert found['data_bytes'] <= 1.02 * 4 * num_params
    assert f'{found["data_bytes"]:,}' in output


def test_plan_of_the_full_size_allocates_nothing(answers):
  found, folder = answers
  code, memory, output, errors = found['plan']
  assert code == 0, errors
  plan = read_json(folder / 'new' / 'plan.json')
  assert plan['num_params'] == 178_552_832
  assert plan['dense_num_params'] == 209_911_808
  assert plan['reference'] == 'wmt14_tt-dense'
  rows = {row['path']: row for row in plan['matrices']}
  assert rows['embed']['params'] == rows['logits']['params'] == 1_097_728
  assert rows['embed']['parameterization'] == 'tensor_train'
  assert sum(row['params'] for row in rows.values()) == (
    plan['num_params'] - plan['other_params']
  )
  assert '178,552,832' in output and '209,911,808' in output
  _, idle, _, _ = found['nothing']
  assert memory - idle < 200 * 1024  # one dense model is 820 MiB
