"""The loss against its definition; translation of awkward lines."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress import configuration
from tt_compress.data import batching, corpus
from tt_compress.models.transformer import transformer, transformer_config
from tt_compress.nn import cross_entropy, embed, modules
from tt_compress.tasks import base, translation
from tt_compress.training import workdir

PAIRS = [
  ('ein Hund', 'a dog'),
  ('eine Katze', 'a cat'),
  ('ein Hund und eine Katze', 'a dog and a cat'),
  ('zwei Hunde', 'two dogs'),
]


@pytest.fixture(scope='module')
def task_and_variables(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  path = folder / 'pairs.tsv'
  path.write_text('\n'.join('\t'.join(pair) for pair in PAIRS) + '\n')
  config = configuration.defaults('test', configuration.parse(''))
  config.data.source = 'text'
  config.data.options = dict(
    files={split: (str(path),) for split in corpus.SPLITS}
  )
  config.data.bucket_lengths = (8, 12)
  config.model.update(
    vocab_size=40,
    model_dim=8,
    ffn_dim=8,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
  )
  config.evaluation.update(
    batch_size=2, beam_size=2, max_ratio=0.0, max_extra=3, num_samples=2
  )
  options = dict(config.model)
  del options['name']
  model = transformer.Transformer(
    transformer_config.TransformerConfig(**options), rngs=nnx.Rngs(0)
  )
  graphdef, params, buffers = modules.split(model)
  task = translation.Translation(config, graphdef, str(folder / 'run'))
  return task, {'params': params, 'buffers': buffers}


@pytest.mark.parametrize('target_length', [None, 6])
def test_shapes_of_a_batch_are_those_of_the_longest(target_length):
  config = configuration.defaults('test', configuration.parse(''))
  sizes = dict(
    bucket_lengths=(8, 12), batch_tokens=50, target_length=target_length
  )
  config.data.update(sizes)
  shapes = translation.Translation.batch_shapes(config, 3)
  source = [[5] * 4, [5] * 11]
  target = [ids[: (target_length or 12) - 1] for ids in source]
  batches = batching.of_pairs(source, target, batch_multiple=3, **sizes)
  longest = max(
    (batches.batch(step) for step in range(2)),
    key=lambda batch: batch['inputs'].shape[1],
  )
  abstract = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)
  assert shapes == jax.tree.map(abstract, longest)
  assert shapes['inputs'].shape == (6, 12)
  assert shapes['targets'].shape == (6, target_length or 12)


class Ones:
  """A logit of 1 for the end of a sentence, 0 for everything else."""

  def features(self, inputs, decoder_inputs, noise):
    self.seen = np.asarray(decoder_inputs)
    return jnp.ones((*decoder_inputs.shape, 1))

  def cross_entropy(self, x, targets, weights, **options):
    table = embed.Embed(40, 1, rngs=nnx.Rngs(0))
    table.update({'matrix': jnp.zeros((40, 1)).at[2].set(1.0)})
    return cross_entropy.summed(table, x, targets, weights, **options)


def test_loss_shifts_targets_and_leaves_padding_out(task_and_variables):
  task, _ = task_and_variables
  targets = np.array([[5, 6, 2, 0], [7, 2, 0, 0], [0, 0, 0, 0]])
  model = Ones()
  batch = {'inputs': targets, 'targets': targets}
  total, weight, _ = task.loss(model, batch, smoothing=0.0)
  np.testing.assert_array_equal(
    model.seen, [[1, 5, 6, 2], [1, 7, 2, 0], [1, 0, 0, 0]]
  )
  assert weight == 5
  log_normalizer = np.log(39 + np.e)
  np.testing.assert_allclose(total, 5 * log_normalizer - 2, rtol=1e-6)


def test_examples_are_what_the_loss_of_an_epoch_weighs(task_and_variables):
  task, _ = task_and_variables
  task = translation.Translation(
    task._config.copy_and_resolve_references(), task._graphdef, None
  )
  task._config.data.max_length = 5  # leaves pairs out
  task._config.data.batch_tokens = 8
  alone = task.num_examples
  batches = task.train_batches(batch_multiple=8)
  steps = range(batches.steps_per_epoch)
  assert len(steps) > 1
  weights = [task.loss(Ones(), batches.batch(step))[1] for step in steps]
  assert alone == task.num_examples == sum(weights)
  every = sum(len(task.target.value.encode([t])[0]) + 1 for _, t in PAIRS)
  assert 0 < alone < every


def test_every_line_gets_its_translations(task_and_variables):
  task, variables = task_and_variables
  lines = ['ein Hund', '', ' '.join(['eine Katze'] * 30), '  ', 'Hund']
  found = task.generate(variables, lines)
  assert len(found) == len(lines)
  assert found[1] == found[3] == [base.Answer('', 0.0)]
  for line, best in zip(lines, found, strict=True):
    scores = [hypothesis.score for hypothesis in best]
    assert scores == sorted(scores, reverse=True)
    assert len(best) == (2 if line.strip() else 1)
  alone = task.generate(variables, ['ein Hund'])
  assert alone[0][0].text == found[0][0].text


def test_a_line_that_would_fill_the_memory_is_named(task_and_variables):
  task, variables = task_and_variables
  with pytest.raises(ValueError, match=r'line 2 has \d+ tokens; texts of at m'):
    task.predict(variables, ['ein Hund', 'x ' * 5000], 1)


def test_evaluate(task_and_variables):
  task, variables = task_and_variables
  found = task.evaluate(variables, 'test', max_sentences=3)
  assert found['num_sentences'] == 3
  assert found['samples'][-1][0] == PAIRS[-1][0]
  assert 'version:' in found['signature']
  # The mean over tokens, not over batches: as if there were one batch.
  encoded = [
    task.target.value.encode(side) for side in zip(*PAIRS, strict=True)
  ]
  padded = [np.zeros((len(PAIRS), 12), np.int32) for _ in encoded]
  for side, ids in zip(padded, encoded, strict=True):
    for row, pieces in zip(side, ids, strict=True):
      row[: len(pieces) + 1] = [*pieces, corpus.EOS_ID]
  model = modules.merge(task._graphdef, **variables)
  batch = {'inputs': padded[0], 'targets': padded[1]}
  total, weight, _ = task.loss(model, batch, smoothing=0.0)
  np.testing.assert_allclose(found['loss'], total / weight, rtol=1e-5)


def test_a_vocabulary_of_another_run_is_refused(task_and_variables):
  task, _ = task_and_variables
  task.save()
  config = task._config.copy_and_resolve_references()
  config.model.vocab_size = 10
  other = translation.Translation(config, task._graphdef, task._workdir)
  with pytest.raises(ValueError, match='pieces, but model.vocab_size=10'):
    other.prepare()


def test_the_vocabulary_of_a_trained_run_is_taken_over(
  task_and_variables, tmp_path
):
  task, _ = task_and_variables
  task.save()
  config = task._config.copy_and_resolve_references()
  config.model.vocab_size = 45  # would make another one
  folder = tmp_path / 'new'
  folder.mkdir()
  other = translation.Translation(config, task._graphdef, str(folder))
  assert other.target.value.digest != task.target.value.digest
  other = translation.Translation(config, task._graphdef, str(folder))
  other.adopt(task._workdir)
  assert other.target.value.digest == task.target.value.digest
  other.save()
  again = translation.Translation(config, task._graphdef, str(folder))
  assert again.target.value.digest == task.target.value.digest


def test_sizes_of_vocabularies_have_to_fit(task_and_variables):
  task, _ = task_and_variables
  config = task._config.copy_and_resolve_references()
  config.model.source_vocab_size = 40  # that of the model, as by default
  translation.Translation.check(config)
  config.model.source_vocab_size = 41
  told = 'source_vocab_size=41 differs from model.vocab_size=40.*joint_vocab'
  with pytest.raises(ValueError, match=told):
    translation.Translation.check(config)
  config.data.joint_vocabulary = False
  translation.Translation.check(config)
  config.model.source_vocab_size = None
  with pytest.raises(ValueError, match='=False needs model.source_vocab_size'):
    translation.Translation.check(config)
  config.model.padding_id = 5
  with pytest.raises(ValueError, match='model.padding_id=5 must be 0'):
    translation.Translation.check(config)
  config.data.vocabulary = 'bits'
  with pytest.raises(ValueError, match="data.vocabulary='bits' is unknown"):
    translation.Translation.check(config)


def test_each_language_has_its_own_words(task_and_variables, tmp_path):
  task, _ = task_and_variables
  config = task._config.copy_and_resolve_references()
  config.data.update(
    vocabulary='words', joint_vocabulary=False, vocabulary_options={}
  )
  config.model.update(source_vocab_size=6, vocab_size=9)
  folder = str(tmp_path / 'run')
  made = translation.Translation(config, None, folder)
  # Twice each; of one frequency in the order of the alphabet.
  assert made.source.value.words[4:] == ('Hund', 'Katze')
  assert made.target.value.words[4:] == ('a', 'cat', 'dog', 'and', 'dogs')
  facts = made.prepare()
  assert facts['source_num_pieces'] == 6 and facts['num_pieces'] == 9
  assert facts['source_vocabulary_sha256'] != facts['vocabulary_sha256']
  batches = made.train_batches()
  batches = [batches.batch(step) for step in range(batches.steps_per_epoch)]
  known = lambda name: sum(np.sum(batch[name] >= 4) for batch in batches)
  assert (known('inputs'), known('targets')) == (4, 10)

  def searcher(variables, beam_size, num_ids):
    assert num_ids == 9
    return lambda inputs: types.SimpleNamespace(
      tokens=np.where(inputs[:, None, :1] == 4, 6, 5), scores=np.zeros((2, 1))
    )

  made._decoder = types.SimpleNamespace(searcher=searcher)
  found = made.generate({}, ['Hund', 'Hunde'], beam_size=1)
  assert [best[0].text for best in found] == ['dog', 'cat']
  made.save()
  again = translation.Translation(config, None, folder)
  again.verify(facts)
  other = translation.Translation(config, None, str(tmp_path / 'other'))
  other.adopt(folder)
  assert other.source.value.digest == facts['source_vocabulary_sha256']
  config.data.vocabulary_options = dict(specials=('<pad>', '<unk>'))
  with pytest.raises(ValueError, match="'words' has id None; take"):
    translation.Translation(config, None, None).prepare()
  config.data.vocabulary = 'bytes'
  config.data.vocabulary_options = {}
  config.model.update(vocab_size=256, source_vocab_size=256)
  with pytest.raises(ValueError, match='of id 2, .*has id 10; take'):
    translation.Translation(config, None, None).prepare()


def test_a_vocabulary_that_has_changed_is_refused(task_and_variables, tmp_path):
  task, _ = task_and_variables
  folder = str(tmp_path / 'run')
  config = task._config.copy_and_resolve_references()
  make = lambda: translation.Translation(config, None, folder)
  first = make()
  facts = first.prepare()
  first.save()
  make().verify(facts)
  make().verify({})  # an older run recorded nothing
  config.model.vocab_size = 35
  (tmp_path / 'run' / 'vocabulary.model').unlink()
  make().save()
  with pytest.raises(ValueError, match='not the vocabulary that the model was'):
    make().verify(facts)
  other = translation.Translation(config, None, str(tmp_path / 'other'))
  other.adopt(folder)
  with pytest.raises(ValueError, match=f'vocabulary.model in {folder} is not'):
    other.verify(facts)


def test_a_loss_has_the_label_smoothing_of_its_configuration(
  task_and_variables,
):
  task, _ = task_and_variables
  targets = np.array([[5, 6, 2, 0]])
  batch = {'inputs': targets, 'targets': targets}
  losses = {}
  for smoothing in (0.0, 0.3):
    config = task._config.copy_and_resolve_references()
    config.label_smoothing = smoothing
    smoothed = translation.Translation(config, task._graphdef, None)
    losses[smoothing], *_ = smoothed.loss(Ones(), batch)
  # Logits of 1 for the end and 0 for 39 others: log p = logit - normalizer.
  normalizer = np.log(39 + np.e)
  uniform = normalizer - 1 / 40
  plain = 3 * normalizer - 1
  np.testing.assert_allclose(losses[0.0], plain, rtol=1e-6)
  np.testing.assert_allclose(
    losses[0.3], 0.7 * plain + 0.3 * 3 * uniform, rtol=1e-5
  )


def test_training_batches_follow_the_seed_and_the_limits(task_and_variables):
  task, _ = task_and_variables

  def batches(seed=0, **limits):
    config = task._config.copy_and_resolve_references()
    config.seed = seed
    config.data.batch_tokens = 12
    config.data.update(limits)
    made = translation.Translation(config, task._graphdef, task._workdir)
    made.target.value = task.target.value
    found = made.train_batches()
    return [found.batch(step) for step in range(found.steps_per_epoch)]

  order = lambda seed: [batch['inputs'].tolist() for batch in batches(seed)]
  assert order(0) == order(0)
  assert any(order(0) != order(seed) for seed in range(1, 4))

  sides = [task.target.value.encode(side) for side in zip(*PAIRS, strict=True)]
  lengths = [sorted(map(len, pair)) for pair in zip(*sides, strict=True)]
  differences = [high - low for low, high in lengths]
  ratios = [high / low for low, high in lengths]
  assert len(set(differences)) > 1 and len(set(ratios)) > 1
  for limits, kept in (
    (dict(max_difference=min(differences)), differences),
    (dict(max_ratio=min(ratios)), ratios),
  ):
    rows = sum(np.sum(b['targets'][:, 0] != 0) for b in batches(**limits))
    assert rows == kept.count(min(kept))


def test_scores_are_of_their_split_and_their_side(
  task_and_variables, tmp_path, monkeypatch
):
  task, variables = task_and_variables
  config = task._config.copy_and_resolve_references()
  pairs = {
    'train': PAIRS,
    'validation': [('ein Hund und eine Katze', 'a dog and a cat')],
    'test': [('zwei Hunde', 'two dogs and two small cats')],
  }
  for split, lines in pairs.items():
    text = ''.join('\t'.join(pair) + '\n' for pair in lines)
    (tmp_path / f'{split}.tsv').write_text(text)
  config.data.options = dict(
    files={split: str(tmp_path / f'{split}.tsv') for split in pairs}
  )
  config.data.bucket_lengths = (40,)
  made = translation.Translation(config, task._graphdef, None)
  # A hypothesis that is too short: with the sides swapped there would be no
  # brevity penalty.
  hypotheses = {
    'ein Hund und eine Katze': 'a dog and a cat',
    'zwei Hunde': 'two dogs and two small',
  }
  monkeypatch.setattr(
    made,
    'generate',
    lambda _, lines, **options: [
      [base.Answer(hypotheses[line], 0.0)] for line in lines
    ],
  )
  # In place of a loss, the sum of the target ids tells which pairs were seen.
  monkeypatch.setattr(
    made, '_loss', lambda _, batch: ([np.sum(batch['targets'])], [1])
  )
  total = lambda split: np.sum(
    made.target.value.encode([pairs[split][0][1]])[0], initial=corpus.EOS_ID
  )
  assert total('validation') != total('test')
  validated = made.validate(variables)
  assert validated == {
    'loss': total('validation'),
    'bleu': pytest.approx(100),
  }
  tested = made.evaluate(variables, 'test')
  assert tested['loss'] == total('test')
  assert tested['bleu'] == pytest.approx(100 * np.exp(1 - 6 / 5))


def test_the_training_pairs_have_a_loss_in_the_end(
  task_and_variables, monkeypatch
):
  task, variables = task_and_variables
  config = task._config.copy_and_resolve_references()
  config.evaluation.train_loss = True
  made = translation.Translation(config, task._graphdef, None)
  monkeypatch.setattr(made, 'mean_loss', lambda _, split: split)
  monkeypatch.setattr(
    made, 'generate', lambda _, lines, **options: [[base.Answer('', 0.0)]] * 4
  )
  assert made.evaluate(variables, 'validation')['train_loss'] == 'train'
  assert 'train_loss' not in made.evaluate(variables, 'test')
  assert 'train_loss' not in task.evaluate(variables, 'validation')
  monkeypatch.setattr(
    made, 'mean_loss', lambda _, split: {'validation': 1}[split]
  )
  made.validate(variables)


def test_tokenized_text_is_scored_as_plain_text(
  task_and_variables, monkeypatch
):
  task, variables = task_and_variables
  config = task._config.copy_and_resolve_references()
  config.evaluation.update(detokenize=True, lowercase=True)
  made = translation.Translation(config, task._graphdef, None)
  lines = [pair[1].replace('a ', 'A &apos;s ') for pair in PAIRS]
  made._splits['test'] = corpus.of_sides([pair[0] for pair in PAIRS], lines, '')
  answers = [line.lower().replace(' &apos;', '&apos;') for line in lines]
  monkeypatch.setattr(made, 'mean_loss', lambda *_: 0.0)
  monkeypatch.setattr(
    made,
    'generate',
    lambda *_, **options: [[base.Answer(line, 0.0)] for line in answers],
  )
  found = made.evaluate(variables, 'test')
  assert found['bleu'] == pytest.approx(100)
  assert found['token_bleu'] < 50
  assert 'case:lc' in found['signature']
  assert f'{found["token_bleu"]:.2f}' in made.report('test', found)


def test_scores_of_the_slides_are_of_tokens(task_and_variables):
  """Not of the words between spaces, and without case."""
  task, _ = task_and_variables
  config = task._config.copy_and_resolve_references()
  config.evaluation.nltk_bleu = True
  made = translation.Translation(config, task._graphdef, None)
  outputs, references = ['a Dog, two cats.'], ['A dog , two cats .']
  found = made._scores(outputs, references)
  assert found['nltk_bleu'] == pytest.approx(1)
  assert found['bleu'] < 90
  assert made._report_scores(found)[-1].endswith('1.0000')
  assert 'nltk_bleu' not in task._scores(outputs, references)


@pytest.mark.parametrize('lowercase', [True, False])
def test_case_counts_for_tokens_as_for_text(task_and_variables, lowercase):
  task, _ = task_and_variables
  config = task._config.copy_and_resolve_references()
  config.evaluation.update(detokenize=True, lowercase=lowercase)
  made = translation.Translation(config, task._graphdef, None)
  found = made._scores(['a dog , two Cats'], ['A dog , two cats'])
  for name in ('bleu', 'token_bleu'):
    assert (found[name] == pytest.approx(100)) == lowercase


def test_validations_are_greedy_and_predictions_have_the_beam_of_the_settings(
  task_and_variables, monkeypatch
):
  task, variables = task_and_variables
  made = translation.Translation(task._config, task._graphdef, None)
  monkeypatch.setattr(made, 'mean_loss', lambda *_: 0.0)
  sizes = []

  def generate(_, lines, beam_size):
    sizes.append(beam_size)
    return [[base.Answer('', 0.0)] * beam_size for _ in lines]

  monkeypatch.setattr(made, 'generate', generate)
  made.validate(variables)
  for num_best in (1, 3):
    [found] = made.predict(variables, ['Hund'], num_best)
    assert len(found) == num_best
  assert sizes == [1, task._config.evaluation.beam_size, 3] == [1, 2, 3]


def test_losses_are_of_all_pairs_that_a_bucket_holds(
  task_and_variables, monkeypatch
):
  task, variables = task_and_variables
  sides = [task.target.value.encode(side) for side in zip(*PAIRS, strict=True)]
  lengths = [max(map(len, pair)) + 1 for pair in zip(*sides, strict=True)]
  for longest in sorted(lengths)[-2:]:
    config = task._config.copy_and_resolve_references()
    config.data.bucket_lengths = (longest,)
    config.evaluation.batch_size = len(PAIRS)
    made = translation.Translation(config, task._graphdef, None)
    made.target.value = task.target.value
    rows = lambda _, batch: ([np.sum(batch['targets'][:, 0] != 0)], [1])
    monkeypatch.setattr(made, '_loss', rows)
    held = sum(length <= longest for length in lengths)
    assert made.mean_loss(variables, 'test') == held


def test_rare_characters_are_unknown_below_full_coverage(task_and_variables):
  task, _ = task_and_variables
  lines = [line for pair in PAIRS for line in pair]
  for coverage in (1.0, 0.98):
    config = task._config.copy_and_resolve_references()
    config.data.character_coverage = coverage
    found = translation.Translation(config, None, None).target.value
    ids = np.concatenate(found.encode(lines))
    assert np.any(ids == corpus.UNK_ID) == (coverage < 1)


def test_a_second_translation_of_a_split_is_timed(
  task_and_variables, monkeypatch
):
  task, variables = task_and_variables
  config = task._config.copy_and_resolve_references()
  config.evaluation.timed = True
  made = translation.Translation(config, task._graphdef, None)
  pairs = corpus.of_sides(*map(list, zip(*PAIRS, strict=True)), '')
  made._splits |= {'validation': pairs, 'test': pairs}
  calls = []
  monkeypatch.setattr(made, 'mean_loss', lambda *_: 0.0)
  monkeypatch.setattr(
    made,
    'generate',
    lambda _, lines, **options: (
      calls.append(options) or [[base.Answer(line, 0.0)] for line in lines]
    ),
  )
  found = made.evaluate(variables, 'test', beam_size=2)
  assert calls == 2 * [dict(beam_size=2)]
  assert found['seconds'] > 0
  assert f'{found["seconds"]:.2f} seconds' in made.report('test', found)
  made.validate(variables)
  assert len(calls) == 3


def test_a_run_is_evaluated_on_other_test_data(task_and_variables, tmp_path):
  task, _ = task_and_variables
  workdir.claim(task._config, str(tmp_path))
  for split in ('test', 'train'):
    config = task._config.copy_and_resolve_references()
    config.data.options.files[split] = ('other.tsv',)
    if split == 'test':
      workdir.compare(config, str(tmp_path))
    else:
      with pytest.raises(ValueError, match=r'data\.options\.files\.train'):
        workdir.compare(config, str(tmp_path))
