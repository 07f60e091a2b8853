"""Classification of texts, by a model that is added from here."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress import configuration, models
from tt_compress.data import corpus
from tt_compress.nn import embed, linear, modules
from tt_compress.parallel import sharding
from tt_compress.tasks import base, text_classification
from tt_compress.training import build, metrics, run

NUM_STEPS, RATE = 20, 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  vocab_size: int = 20
  dim: int = 6
  num_classes: int = 2


class BagOfWords(nnx.Module):
  """Logits mean_t(E[x_t]) W + b; padding is left out of the mean."""

  def __init__(self, config, *, rngs, dtype):
    self.embed = embed.Embed(config.vocab_size, config.dim, rngs=rngs)
    self.top = linear.Linear(config.dim, config.num_classes, rngs=rngs)

  def __call__(self, ids, noise=None):
    is_word = (ids != corpus.PAD_ID)[..., None]
    total = jnp.sum(self.embed(ids) * is_word, axis=1)
    return self.top(total / jnp.maximum(1, jnp.sum(is_word, axis=1)))


@pytest.fixture(scope='module', autouse=True)
def registered():
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(models.MODELS, 'bag_of_words', (Options, BagOfWords))
    yield


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  random = np.random.default_rng(0)
  paths = {}
  for number, split in ((23, 'train'), (9, 'validation'), (11, 'test')):
    lines = []
    for i in range(number):
      label = i % 2
      words = ['The film', 'is', ('bad', 'good')[label]]
      words += [f'{split}{i}x{k}' for k in range(random.integers(6))]
      lines.append(f'{label}\t{" ".join(words[int(random.integers(2)) :])}')
    paths[split] = str(folder / f'{split}.tsv')
    (folder / f'{split}.tsv').write_text('\n'.join(lines) + '\n')
  return paths


def make_config(files):
  config = configuration.defaults(
    'toy',
    configuration.parse(''),
    model='bag_of_words',
    task='text_classification',
  )
  config.data.options = dict(files=files)
  config.data.bucket_lengths = (3, 6)
  config.data.vocabulary_options = dict(
    specials=('<pad>', '<unk>'), min_count=2, lower_case=True
  )
  config.data.batch_size = 5
  config.evaluation.update(every=NUM_STEPS, batch_size=4)
  config.num_steps = NUM_STEPS
  config.compress = (('embed', dict(name='low_rank', rank=3)),)
  config.optimizer.update(
    name='sgd', learning_rate=RATE, schedule='constant', warmup_steps=0
  )
  config.logging.every = 1
  return config


MESHES = {'one device': 1, 'eight devices': 8}


@pytest.fixture(scope='module')
def trained(files, tmp_path_factory):
  """By mesh: the folder of a run and its results."""
  make_mesh, found = sharding.make_mesh, {}
  for name, number in MESHES.items():
    folder = tmp_path_factory.mktemp('run')
    with pytest.MonkeyPatch.context() as patch:
      mesh = make_mesh(devices=jax.devices()[:number])
      patch.setattr(sharding, 'make_mesh', lambda *_, mesh=mesh, **__: mesh)
      found[name] = folder, run.Run(make_config(files), str(folder)).train()
  return found


def words_by_frequency(path):
  """Words of the training texts that occur twice, by a plain count."""
  lines = pathlib.Path(path).read_text().lower().splitlines()
  words = [word for line in lines for word in line.split()[1:]]
  counts = sorted((-words.count(word), word) for word in set(words))
  return [word for count, word in counts if count <= -2]


def encoded(path, words):
  """Ids [texts, 6], cut and padded, and labels, by plain Python."""
  ids, labels = [], []
  for line in pathlib.Path(path).read_text().lower().splitlines():
    label, *text = line.split()
    row = [words.index(w) + 2 if w in words else 1 for w in text][:6]
    ids.append(row + [0] * (6 - len(row)))
    labels.append(int(label))
  return np.array(ids), np.array(labels)


def log_probabilities(params, ids):
  """log softmax(mean(E[ids]) W + b), E from its factors by NumPy."""
  table, top = params['embed']['factors'], params['top']
  rows = (table['left'] @ table['right'].T)[ids]
  is_word = (ids != 0)[..., None]
  x = (rows * is_word).sum(1) / np.maximum(1, is_word.sum(1))
  logits = x @ top['factors']['matrix'] + top['bias']
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_one_and_eight_devices_train_alike(trained):
  losses = [
    [r['train/loss'] for r in metrics.read(folder) if 'train/loss' in r]
    for folder, _ in trained.values()
  ]
  assert len(losses[0]) == NUM_STEPS
  np.testing.assert_allclose(*losses, rtol=0, atol=1e-5)
  assert sum(losses[0][-6:]) < sum(losses[0][:6])
  one, eight = (results['test'] for _, results in trained.values())
  assert one['loss'] == pytest.approx(eight['loss'], abs=1e-5)


def test_scores_are_their_definition(trained, files):
  folder, results = trained['eight devices']
  words = words_by_frequency(files['train'])
  assert set(words) == {'the', 'film', 'is', 'good', 'bad'}
  saved = json.loads((folder / 'vocabulary.json').read_text())
  assert saved['words'] == ['<pad>', '<unk>', *words]
  assert results['num_texts'] == 23 and results['num_pieces'] == 7
  again = run.Run(make_config(files), str(folder))
  params = jax.device_get(again.variables(again.chosen))['params']
  for split, number in (('validation', 9), ('test', 11)):
    ids, labels = encoded(files[split], words)
    log_p = log_probabilities(params, ids)
    scores = again.evaluate(split)
    assert scores == results[split]
    assert scores['num_texts'] == number == len(labels)
    loss = -np.mean(log_p[np.arange(number), labels])
    assert scores['loss'] == pytest.approx(loss, abs=1e-5)
    assert scores['accuracy'] == np.mean(log_p.argmax(-1) == labels)


def test_a_first_loss_is_its_definition(trained, files):
  """Of the whole first batch; its texts are those of the seed."""
  folder, _ = trained['eight devices']
  config = make_config(files)
  graphdef = build.blueprint(config).graphdef
  task = text_classification.TextClassification(config, graphdef, str(folder))
  variables = build.initialize(config, None)
  batch = task.train_batches().batch(0)
  log_p = log_probabilities(
    jax.device_get(variables)['params'], batch['inputs']
  )
  expected = -np.mean(log_p[np.arange(5), batch['labels']])
  first = next(r for r in metrics.read(folder) if 'train/loss' in r)
  assert first['train/loss'] == pytest.approx(expected, abs=1e-5)


def test_a_changed_vocabulary_is_refused(trained, files):
  folder, _ = trained['one device']
  path = folder / 'vocabulary.json'
  content = json.loads(path.read_text())
  content['words'][-2:] = content['words'][:-3:-1]
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match='vocabulary.json .* is not the vocab'):
    run.Run(make_config(files), str(folder)).evaluate()


def test_shapes_of_a_batch_are_those_of_the_longest(files):
  config = make_config(files)
  task = text_classification.TextClassification(config, None, None)
  batches = task.train_batches(batch_multiple=8)
  longest = max(
    map(batches.batch, range(batches.steps_per_epoch)),
    key=lambda batch: batch['inputs'].size,
  )
  abstract = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)
  shapes = task.batch_shapes(config, 8)
  assert shapes == jax.tree.map(abstract, longest)
  assert modules.num_params(shapes['inputs']) == 8 * 6


def test_predictions_and_losses_of_examples(files, trained):
  folder, _ = trained['eight devices']
  config = make_config(files)
  config.evaluation.class_names = ('bad', 'good')
  made = run.Run(config, str(folder))
  texts = [
    line.partition('\t')[2]
    for line in pathlib.Path(files['test']).read_text().splitlines()
  ]
  lines = [*texts[:6], '', ' \x0b ', *texts[6:]]
  found = made.predict(lines, num_best=2)
  blank = [found.pop(6), found.pop(6)]
  assert [made.task.report_answer(best[0]) for [*best] in blank] == ['', '']
  ids, labels = encoded(files['test'], words_by_frequency(files['train']))
  params = jax.tree.map(np.asarray, made.variables('best')['params'])
  expected = np.exp(log_probabilities(params, ids))
  for best, each in zip(found, expected, strict=True):
    assert [answer.text for answer in best] == [
      ('bad', 'good')[k] for k in np.argsort(-each)
    ]
    np.testing.assert_allclose(
      [answer.score for answer in best], sorted(each)[::-1], atol=1e-5
    )
  np.testing.assert_allclose(
    made.task.example_losses(made.variables('best'), 'test'),
    -np.log(expected[np.arange(len(labels)), labels]),
    atol=1e-5,
  )
  [answer] = made.predict(lines[:1], num_best=1)[0]
  assert made.task.report_answer(answer) == f'{answer.text}\t{answer.score:.4f}'
  assert made.predict([''], num_best=1) == [[base.Answer('', 0.0)]]


def test_a_label_outside_its_range_is_named_with_its_line(files, tmp_path):
  lines = ['0\tbad', '1\tgood', '2\tso so', '3\tmore', '1\tfine']
  path = tmp_path / 'three.tsv'
  path.write_text('\n'.join(lines) + '\n')
  config = make_config({**files, 'train': str(path)})
  task = text_classification.TextClassification(config, None, None)
  told = 'three.tsv, line 3: label 2 is outside 0 to 1; 2 of 5 labels are'
  with pytest.raises(ValueError, match=told):
    task.check_examples(task.load('train'))


def test_texts_are_cut_at_either_side_and_counted(files, tmp_path):
  path = tmp_path / 'long.tsv'
  path.write_text('0\tthe film is bad bad bad good\n1\tgood\n1\tbad\n')
  words = words_by_frequency(files['train'])
  whole = [words.index(w) + 2 for w in 'the film is bad bad bad good'.split()]
  for cut, kept in (('begin', whole[1:]), ('end', whole[:-1])):
    config = make_config({**files, 'test': str(path)})
    config.data.cut = cut
    task = text_classification.TextClassification(config, None, None)
    ids, share = task._encoded('test')
    assert [each.tolist() for each in ids][:2] == [kept, [whole[-1]]]
    assert share == pytest.approx(1 / 3)


def test_names_of_classes_are_counted(files):
  config = make_config(files)
  config.evaluation.class_names = ('bad',)
  with pytest.raises(ValueError, match='1 names for model.num_classes=2; '):
    configuration.check(config)
