"""Labeled texts in files: what is read, and errors with their line."""

import gzip
import json
import lzma

import numpy as np
import pytest

from tt_compress.data import labeled_text, sources

TEXTS = ('a fine film', 'dull . dull', 'not\u2028bad')
LABELS = [2, 0, 1]
NAMES = ('bad', 'mixed', 'good')


def write(path, lines, opener=open):
  with opener(path, 'wb') as file:
    file.write(''.join(line + '\n' for line in lines).encode())
  return str(path)


def load(path, **options):
  return sources.load(
    'labeled text',
    'labeled_text_files',
    'train',
    files={'train': path},
    **options,
  )


@pytest.mark.parametrize(
  'ending, opener', [('', open), ('.gz', gzip.open), ('.xz', lzma.open)]
)
def test_every_form_gives_the_same_examples(tmp_path, ending, opener):
  both = list(zip(LABELS, TEXTS, strict=True))
  tabs = [f'{label}\t{text}' for label, text in both]
  spaces = [f'{label} {text}' for label, text in both]
  names = [f'{NAMES[label]}\t{text}' for label, text in both]
  objects = [json.dumps({'y': label, 'x': text}) for label, text in both]
  place = lambda name: tmp_path / f'{name}{ending}'
  found = [
    load(write(place('a.tsv'), tabs, opener)),
    load(write(place('b.fine.train'), spaces, opener), separator=' '),
    load(write(place('c.tsv'), names, opener), classes=NAMES),
    load(write(place('d.jsonl'), objects, opener), label_key='y', text_key='x'),
  ]
  for data in found:
    assert data.texts == TEXTS and data.labels.tolist() == LABELS
    assert data.labels.dtype == np.int32
    assert data.digest == found[0].digest
  assert found[0].name == f'a.tsv{ending}'  # results do not hold the folder


def test_a_text_may_hold_the_separator(tmp_path):
  path = write(tmp_path / 'a.tsv', ['1\tone\ttwo'])
  assert load(path).texts == ('one\ttwo',)


@pytest.mark.parametrize(
  'line, options, message',
  [
    ('no tab here', {}, r"a.txt:2: no '\\t' between a label and a text"),
    ('3\t ', {}, 'a.txt:2: blank text'),
    ('', {}, r"a.txt:2: no '\\t'"),
    ('-1\tbad', {}, "a.txt:2: label '-1' is not an integer from 0; .*classes"),
    ('good\tgood', {}, "label 'good' is not an integer"),
    ('fine\tgood', {'classes': ('1', 'good')}, "label 'fine' is not in"),
  ],
)
def test_bad_lines_are_named(tmp_path, line, options, message):
  path = write(tmp_path / 'a.txt', ['1\tgood', line])
  with pytest.raises(ValueError, match=message):
    load(path, **options)


@pytest.mark.parametrize(
  'line, message',
  [
    ('{"label": 1}', r"a.jsonl:1: no key 'text' among \['label'\]"),
    ('{"label": 1, "text": 3}', "a.jsonl:1: 'text' is 3, not a string"),
    ('{"label": true, "text": "a"}', "a.jsonl:1: label 'True' is not"),
    ('', 'a.jsonl:1: bad JSON'),
  ],
)
def test_bad_objects_are_named(tmp_path, line, message):
  path = write(tmp_path / 'a.jsonl', [line])
  with pytest.raises(ValueError, match=message):
    load(path)


def test_the_digest_is_of_texts_labels_and_order():
  make = lambda texts, labels: labeled_text.LabeledText(texts, labels, 'x')
  found = [
    make(('ab', 'c'), [0, 1]),
    make(('a', 'bc'), [0, 1]),
    make(('ab', 'c'), [1, 0]),
    make(('c', 'ab'), [0, 1]),
    make(('abc',), [0]),
  ]
  assert len({data.digest for data in found}) == len(found)


def test_bad_examples_are_refused():
  for texts, labels, message in (
    (('a',), [0, 1], 'x: 1 examples and 2 labels'),
    ((), [], 'x: no examples'),
    (('a',), [-1], 'x: label -1 is negative'),
  ):
    with pytest.raises(ValueError, match=message):
      labeled_text.LabeledText(texts, labels, 'x')


def test_validation_is_held_out_of_training(tmp_path):
  lines = [f'{i % 2}\ttext {i}' for i in range(20)]
  path = write(tmp_path / 'a.tsv', lines)
  files = {'train': path, 'test': path}
  load = lambda split, **options: labeled_text.load(
    split, files=files, num_validation=5, **options
  )
  parts = [load('train'), load('validation')]
  assert [len(part) for part in parts] == [15, 5]
  assert {*parts[0].texts} | {*parts[1].texts} == {
    f'text {i}' for i in range(20)
  }
  for part in parts:
    numbers = [int(text.split()[1]) for text in part.texts]
    assert part.labels.tolist() == [number % 2 for number in numbers]
    assert part.place(2) == f'{part.name}, line {numbers[2] + 1}'
  assert load('validation').texts == parts[1].texts
  assert len(load('test')) == 20


@pytest.mark.parametrize('number', [20, 25, -1])
def test_a_held_out_part_must_leave_training(tmp_path, number):
  path = write(tmp_path / 'a.tsv', [f'0\ttext {i}' for i in range(20)])
  with pytest.raises(ValueError, match=f'num_validation={number} must be'):
    labeled_text.load('train', files={'train': path}, num_validation=number)


def test_two_validation_splits_are_refused(tmp_path):
  path = write(tmp_path / 'a.tsv', ['0\ta', '1\tb'])
  with pytest.raises(ValueError, match='give one of the two'):
    labeled_text.load(
      'train', files={'train': path, 'validation': path}, num_validation=1
    )


def test_generated_opinions_can_be_told_apart():
  splits = [
    sources.load('labeled text', 'generated', split, num_classes=3)
    for split in ('train', 'validation', 'test')
  ]
  texts = [text for split in splits for text in split.texts]
  assert len({*texts}) == len(texts) == 2600
  for split in splits:
    assert {*split.labels.tolist()} == {0, 1, 2}
    votes = [
      max(range(3), key=lambda c: text.count(f'opinion{c}x'))
      for text in split.texts
    ]
    assert 0.7 < np.mean(votes == split.labels) < 1


def test_texts_of_tfds(monkeypatch):
  """A data set of TensorFlow Datasets, whose texts are bytes."""
  asked = []

  def examples(name, part, features, *, data_dir=None):
    asked.append((name, part, *features, data_dir))
    for i in range(6):
      yield {'text': f'text {i} \u00e9'.encode(), 'label': np.int64(i % 2)}

  monkeypatch.setattr(labeled_text.tfds, 'examples', examples)
  load = lambda split: sources.load(
    'labeled text', 'tfds', split, name='imdb_reviews', num_validation=2
  )
  parts = {split: load(split) for split in ('train', 'validation', 'test')}
  assert [len(part) for part in parts.values()] == [4, 2, 6]
  assert parts['test'].texts[5] == 'text 5 \u00e9'
  assert parts['test'].labels.tolist() == [0, 1, 0, 1, 0, 1]
  held_out = {*parts['validation'].texts}
  assert {*parts['train'].texts} == {*parts['test'].texts} - held_out
  assert parts['validation'].name == 'imdb_reviews train, validation'
  assert parts['test'].place(3) == 'imdb_reviews test, example 3'
  assert asked == [
    ('imdb_reviews', part, 'text', 'label', None)
    for part in ('train', 'train', 'test')
  ]
