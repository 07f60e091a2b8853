"""Answers to questions in files, against a reader of one question at a time."""

import functools
import json
import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress import configuration
from tt_compress.nn import modules
from tt_compress.parallel import sharding
from tt_compress.tasks import question_answering
from tt_compress.tasks.scores import overlap
from tt_compress.training import build, metrics, run

NUM_STEPS, MAX_ANSWER = 6, 3
NAMES = 'Ada Bo Cy Di Ed Flo'.split()


def example(number, length=0):
  """A text, a question and two answers that are right."""
  name = f'{NAMES[number % 6]} {NAMES[number // 6]}'
  text = (
    f'{"So, " * (number % 3 + length)}the cat is {name}\u2019s. A dog, too.'
  )
  begin = text.index(name)
  return dict(
    context=text,
    question='Whose is the cat' + '?' * (number % 2 + 1),
    answer=[name, name.split()[1]],
    answer_start=[begin, begin + name.index(' ') + 1],
  )


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  folder = tmp_path_factory.mktemp('questions')
  # One context of the training is too long for it, and one of the test.
  splits = {
    'train': [*map(example, range(20)), example(3, length=20)],
    'validation': [example(20), example(21)],
    'test': [*map(example, range(22, 31)), example(31, length=20)],
  }
  splits['train'][0].update(answer='da', answer_start=12)
  paths = {}
  for split, lines in splits.items():
    paths[split] = str(folder / f'{split}.jsonl')
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    pathlib.Path(paths[split]).write_text(text, encoding='utf-8')
  return paths


def make_config(files):
  config = configuration.defaults(
    'questions',
    configuration.parse(''),
    model='reader',
    task='question_answering',
  )
  config.num_steps = NUM_STEPS
  config.data.options = dict(files=files)
  config.data.update(batch_size=5, bucket_lengths=(20,), max_question_length=5)
  config.model.update(
    vocab_size=24, embed_dim=4, hidden_dim=3, num_layers=1, dropout=0.2
  )
  config.compress = (('embed', dict(name='word2ketxs', order=2, rank=2)),)
  config.optimizer.update(
    name='adamax',
    learning_rate=0.02,
    schedule='constant',
    warmup_steps=0,
    clip_norm=10.0,
  )
  config.evaluation.update(
    every=NUM_STEPS, batch_size=4, max_answer_length=MAX_ANSWER
  )
  config.logging.every = 1
  return config


@pytest.fixture(scope='module')
def trained(files, tmp_path_factory):
  """By number of devices: the folder of a run and its results."""
  make_mesh, found = sharding.make_mesh, {}
  for number in (1, 8):
    folder = tmp_path_factory.mktemp('run')
    with pytest.MonkeyPatch.context() as patch:
      mesh = make_mesh(devices=jax.devices()[:number])
      patch.setattr(sharding, 'make_mesh', lambda *_, mesh=mesh, **__: mesh)
      found[number] = folder, run.Run(make_config(files), str(folder)).train()
  return found


@pytest.fixture(scope='module')
def made(files, trained):
  folder, _ = trained[8]
  return run.Run(make_config(files), str(folder))


@functools.cache
def model_of(made):
  """The words of a run and its model, for inputs without padding."""
  path = pathlib.Path(made.workdir, 'vocabulary.json')
  variables = jax.device_get(made.variables(made.chosen))
  model = modules.merge(
    made.blueprint.graphdef, **jax.tree.map(jnp.asarray, variables)
  )
  words = json.loads(path.read_text())['words']
  return words, jax.jit(lambda *inputs: model(*inputs))


def read(made, context, question):
  """Spans of one question by falling probability, and log-probabilities."""
  words, model = model_of(made)
  find = lambda text: list(re.finditer(r'\w+|[^\w\s]', text))
  encode = lambda matches: np.array(
    [[words.index(m[0]) if m[0] in words[2:] else 1 for m in matches]]
  )
  here, asked = find(context), find(question)
  lower = [m[0].lower() for m in here]
  features = [
    [
      m[0] in [a[0] for a in asked],
      m[0].lower() in [a[0].lower() for a in asked],
      lower.count(m[0].lower()) / len(here),
    ]
    for m in here
  ]
  starts, ends = (
    np.asarray(each[0], np.float64)
    for each in model(
      encode(here), np.array([features], np.float32), encode(asked[:5])
    )
  )
  spans = sorted(
    (
      (starts[i] + ends[j], context[here[i].start() : here[j].end()])
      for i in range(len(here))
      for j in range(i, min(len(here), i + MAX_ANSWER))
    ),
    reverse=True,
  )
  return spans, starts, ends, here


def lines(path):
  text = pathlib.Path(path).read_text(encoding='utf-8')
  return [json.loads(line) for line in text.splitlines()]


def test_one_and_eight_devices_train_alike(trained):
  losses = [
    [r['train/loss'] for r in metrics.read(folder) if 'train/loss' in r]
    for folder, _ in trained.values()
  ]
  assert len(losses[0]) == NUM_STEPS
  np.testing.assert_allclose(*losses, rtol=0, atol=1e-5)
  one, eight = (results['test'] for _, results in trained.values())
  assert one['loss'] == pytest.approx(eight['loss'], abs=1e-5)


def test_data_are_counted(trained):
  _, results = trained[8]
  assert results['num_questions'] == 20 and results['num_left_out'] == 1
  assert results['train_unaligned'] == 1 and results['test_unaligned'] == 0
  assert results['train_cut'] == 11 and results['test_cut'] == 5
  assert results['test']['num_questions'] == 10


def test_scores_are_their_definition(made, trained, files):
  scores, losses = [], []
  for line in lines(files['test']):
    spans, starts, ends, here = read(made, line['context'], line['question'])
    [first] = [
      i for i, m in enumerate(here) if m.start() == line['answer_start'][0]
    ]
    losses.append(-starts[first] - ends[first + 1])
    scores.append(
      [
        max(score(spans[0][1], answer) for answer in line['answer'])
        for score in (overlap.f1, overlap.exact_match)
      ]
    )
  found = made.evaluate('test')
  assert found == trained[8][1]['test']
  assert found['loss'] == pytest.approx(np.mean(losses), abs=1e-5)
  wanted = 100 * np.mean(scores, axis=0)
  assert [found['f1'], found['exact_match']] == pytest.approx(list(wanted))
  variables = made.variables(made.chosen)
  np.testing.assert_allclose(
    made.task.example_losses(variables, 'test'), losses, atol=1e-5
  )


def test_predictions_are_the_best_spans(made, files):
  given = lines(files['test'])
  keys = 'context', 'question'
  asked = [json.dumps({key: line[key] for key in keys}) for line in given]
  found = made.predict(['', *asked[:3], ' ', *asked[3:]], num_best=4)
  assert [found.pop(4), found.pop(0)] == [
    [question_answering.base.Answer('', 0.0)]
  ] * 2
  for line, best in zip(given, found, strict=True):
    spans, *_ = read(made, line['context'], line['question'])
    assert [answer.text for answer in best] == [text for _, text in spans[:4]]
    np.testing.assert_allclose(
      [answer.score for answer in best],
      [math.exp(log_p) for log_p, _ in spans[:4]],
      rtol=1e-4,
    )
  [[answer]] = made.predict(asked[:1], num_best=1)
  assert made.task.report_answer(answer) == f'{answer.text}\t{answer.score:.4f}'
  few = made.predict(['{"context": "Ada", "question": "Who?"}'], num_best=9)
  assert [(a.text, a.score) for a in few[0]] == [('Ada', pytest.approx(1))]


@pytest.mark.parametrize(
  'line, message',
  [
    ('{"context": "a"', 'line 2: bad JSON'),
    ('["a"]', 'line 2: a JSON object is expected'),
    ('{"context": "a"}', "line 2: no key 'question' among"),
    ('{"context": "a", "question": 3}', "line 2: 'question' is 3, not a str"),
    ('{"context": "", "question": "a"}', "line 2: 'context' is blank"),
  ],
)
def test_bad_lines_are_named(made, line, message):
  good = '{"context": "a", "question": "b"}'
  with pytest.raises(ValueError, match=message):
    made.predict([good, line], num_best=1)


def test_an_answer_is_one_line():
  places = np.array([[0, 3], [4, 7]])
  best = [(0, 1, 0.0), (1, 2, -1.0)]
  [answer] = question_answering._parts('two\nred', places, best)
  assert (answer.text, answer.score) == ('two red', 1)


def test_shapes_of_a_batch_are_those_of_the_longest(files):
  config = make_config(files)
  graphdef = build.blueprint(config).graphdef
  task = question_answering.QuestionAnswering(config, graphdef, None)
  batches = task.train_batches(batch_multiple=8)
  longest = max(
    map(batches.batch, range(batches.steps_per_epoch)),
    key=lambda batch: batch['inputs'].size,
  )
  abstract = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)
  assert task.batch_shapes(config, 8) == jax.tree.map(abstract, longest)


@pytest.mark.parametrize(
  'setting, value, message',
  [
    ('data.batch_size', 0, 'data.batch_size=0 must be at least 1'),
    ('data.vocabulary', 'bytes', "data.vocabulary='bytes' .* does not say"),
    (
      'data.vocabulary_options',
      dict(tokenizer='13a'),
      "data.vocabulary='words' with .*13a.* does not say",
    ),
    ('model.num_features', 2, 'needs a reader with model.num_features=3; '),
  ],
)
def test_bad_settings_are_refused(files, setting, value, message):
  config = make_config(files)
  config.update_from_flattened_dict({setting: value})
  with pytest.raises(ValueError, match=message):
    configuration.check(config)


def test_a_training_without_short_contexts_is_refused(files):
  config = make_config(files)
  config.data.bucket_lengths = (5,)
  task = question_answering.QuestionAnswering(config, None, None)
  with pytest.raises(ValueError, match='no context has at most 5 words'):
    task.prepare()
