"""Questions in files: contexts, answers at their place, errors by line."""

import functools
import gzip
import json
import lzma
import os
import pathlib

import numpy as np
import pytest

from tt_compress.data import questions, sources, tfds

CONTEXT = 'Überall 10\u201320 °F, or \U0001f600 no °F.'
ONE = dict(context=CONTEXT, question='How?', answer='°F', answer_start=14)
TWO = dict(ONE, question='Where?', answer=['°F', 'no'], answer_start=[26, 23])


def write(path, lines, opener=open):
  with opener(path, 'wb') as file:
    file.write(''.join(line + '\n' for line in lines).encode())
  return str(path)


def load(path, **options):
  return sources.load(
    'questions',
    'question_files',
    'validation',
    files={'validation': path},
    **options,
  )


@pytest.mark.parametrize(
  'ending, opener', [('', open), ('.gz', gzip.open), ('.xz', lzma.open)]
)
def test_every_form_gives_the_same_questions(tmp_path, ending, opener):
  path = tmp_path / f'a.jsonl{ending}'
  data = load(write(path, [json.dumps(ONE), json.dumps(TWO)], opener))
  assert data.contexts == (CONTEXT, CONTEXT) and len(data) == 2
  assert data.questions == ('How?', 'Where?')
  make = questions.Answer
  assert data.answers == ((make('°F', 14),), (make('°F', 26), make('no', 23)))
  assert data.name == f'a.jsonl{ending}'  # results do not hold the folder
  again = questions.Questions(data.contexts, data.questions, data.answers, 'x')
  assert data.digest == again.digest


def test_keys_have_options(tmp_path):
  line = json.dumps({'c': 'a b', 'q': 'what?', 'a': 'b', 's': 2, 'id': 7})
  keys = dict(context_key='c', question_key='q', answer_key='a', start_key='s')
  data = load(write(tmp_path / 'a.jsonl', [line]), **keys)
  assert data.contexts == ('a b',) and data.questions == ('what?',)
  assert data.answers == ((questions.Answer('b', 2),),)


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(answer_start=13), "'°F' does not start at character 13 .* has ' °'"),
    (dict(answer_start=-3), "'°F' does not start at character -3 .* has ''"),
    (dict(answer_start=99), "'°F' does not start at character 99 .* has ''"),
    (dict(answer='°f'), "'°f' does not start at character 14 .* has '°F'"),
    (dict(answer_start='14'), "'answer_start' is '14', not an integer"),
    (dict(answer_start=True), "'answer_start' is True, not an integer"),
    (dict(answer_start=14.0), "'answer_start' is 14.0, not an integer"),
    (dict(answer_start=[14, 26]), "1 entries of 'answer' and 2 of 'answer_st"),
    (dict(answer=[], answer_start=[]), 'no answers; every question needs one'),
    (dict(answer=['°F', 'on'], answer_start=[14, 23]), "'on' does not start"),
    (dict(answer=''), "'answer' is blank"),
    (dict(answer=3), "'answer' is 3, not a string"),
    (dict(question=' '), "'question' is blank"),
    (dict(question=None), "'question' is None, not a string"),
    (dict(context='\ud800'), "'context' holds NUL or half a surrogate"),
  ],
)
def test_bad_questions_are_named(tmp_path, change, message):
  lines = [json.dumps(ONE), json.dumps(ONE | change)]
  with pytest.raises(ValueError, match=f'a.jsonl:2: .*{message}'):
    load(write(tmp_path / 'a.jsonl', lines))


def test_bad_files_are_named(tmp_path):
  with pytest.raises(ValueError, match='a.jsonl:1: bad JSON'):
    load(write(tmp_path / 'a.jsonl', ['']))
  line = json.dumps({'context': 'a', 'question': 'b', 'answer': 'a'})
  message = "b.jsonl:1: no key 'answer_start' among .*answer_key and start_key"
  with pytest.raises(ValueError, match=message):
    load(write(tmp_path / 'b.jsonl', [line]))
  with pytest.raises(ValueError, match='questions must be .jsonl or .json'):
    load(write(tmp_path / 'a.txt', [json.dumps(ONE)]))


def squad(*asked):
  paragraphs = [
    {'context': 'a b', 'qas': []},
    {'context': CONTEXT, 'qas': list(asked)},
  ]
  return {'version': '1.1', 'data': [{'title': 'x', 'paragraphs': paragraphs}]}


ASKED = {
  'id': '1',
  'question': 'How?',
  'answers': [
    {'text': '°F', 'answer_start': 14},
    {'text': 'no', 'answer_start': 23},
  ],
}


def test_files_of_squad_are_read(tmp_path):
  path = tmp_path / 'dev.json'
  again = dict(ASKED, question='x' * 2_000_000)  # Longer than any line may be.
  data = load(write(path, [json.dumps(squad(ASKED, again), indent=1)]))
  assert len(data) == 2 and data.contexts[0] == CONTEXT
  make = questions.Answer
  assert data.answers[0] == (make('°F', 14), make('no', 23))


@pytest.mark.parametrize(
  'content, message',
  [
    ('{"data": [\n1,]}', r'd.json: bad JSON \(.*line 2'),
    ('[1]', "d.json: no object with 'data'"),
    ('{"data": {}}', "d.json: 'data' is {}, not a list"),
    ('{"data": [3]}', r"d.json data\[0\]: no object with 'paragraphs'"),
    (
      json.dumps(squad(dict(ASKED, answers=[]))),
      r'data\[0\] paragraphs\[1\] qas\[0\]: no answers',
    ),
    (
      json.dumps(
        squad(ASKED, dict(ASKED, answers=[{'text': 'F', 'answer_start': 3}]))
      ),
      r"data\[0\] paragraphs\[1\] qas\[1\]: the answer 'F' does not start",
    ),
    (json.dumps(squad()), 'd.json: no questions'),
  ],
)
def test_places_in_bad_files_of_squad_are_named(tmp_path, content, message):
  with pytest.raises(ValueError, match=message):
    load(write(tmp_path / 'd.json', [content]))


def test_questions_about_a_context_are_held_out_together(tmp_path):
  lines = [
    json.dumps(
      dict(context=f'{c} b', question=f'{q}?', answer='b', answer_start=2)
    )
    for q in 'pqr'
    for c in 'acde'
  ]
  files = {'train': 'none', 'test': write(tmp_path / 'a.jsonl', lines)}
  read = functools.partial(sources.load, 'questions', 'question_files')
  parts = [
    read(split, files=files, num_validation=4)
    for split in ('validation', 'test')
  ]
  assert not set(parts[0].contexts) & set(parts[1].contexts)
  for part in parts:
    assert part.questions == ('p?', 'p?', 'q?', 'q?', 'r?', 'r?')
  assert parts[0].name == 'a.jsonl, validation'
  with pytest.raises(ValueError, match='num_validation=12 of 12 questions'):
    read('test', files=files, num_validation=12)
  with pytest.raises(ValueError, match='num_validation=4 holds out test'):
    read('test', files=dict(files, validation='b'), num_validation=4)


def test_data_sets_of_squad_have_our_splits(monkeypatch):
  given = {'text': [b'b'], 'answer_start': np.array([2], np.int32)}
  example = {'context': b'a b', 'question': b'c?', 'answers': given}
  asked = []

  def examples(name, part, features, **options):
    asked.append((name, part, tuple(features)))
    return [example]

  monkeypatch.setattr(tfds, 'examples', examples)
  read = functools.partial(
    sources.load,
    'questions',
    'tfds',
    name='squad',
    splits={'test': 'validation'},
  )
  data = read('test')
  assert data.answers == ((questions.Answer('b', 2),),)
  assert data.name == 'squad validation'
  assert asked == [('squad', 'validation', ('context', 'question', 'answers'))]
  given['answer_start'] = np.array([1], np.int32)
  with pytest.raises(ValueError, match="squad train example 0: the answer 'b'"):
    read('train')


def test_generated_questions_have_one_answer_in_their_text():
  data = sources.load('questions', 'generated', 'train', num_train=50)
  assert len(set(data.contexts)) == 50
  for context, question, [answer] in zip(
    data.contexts, data.questions, data.answers, strict=True
  ):
    asked = question.removeprefix('What is ').removesuffix('?')
    assert context.count(asked.removeprefix('the ')) == 1
    fact = f'The {asked.removeprefix("the ")} is {answer.text}.'
    assert fact in context


def test_the_digest_is_of_all_parts():
  def digest(context='ab ab', question='b', *answers):
    made = tuple(questions.Answer(*answer) for answer in answers)
    return questions.Questions((context,), (question,), (made,), 'x').digest

  found = [
    digest('ab ab', 'b', ('a', 0)),
    digest('ab ab', 'b', ('a', 3)),
    digest('ab ab', 'b', ('ab', 0)),
    digest('ab ab', 'b', ('a', 0), ('a', 3)),
    digest('ab ab', 'b', ('a', 3), ('a', 0)),
    digest('ab ab', 'c', ('a', 0)),
    digest('ab abc', 'b', ('a', 0)),
  ]
  assert len(set(found)) == len(found)
  # The same texts and numbers in the same order, in two and in one question.
  one, zero = questions.Answer('1', 0), questions.Answer('0', 1)
  make = lambda *parts: questions.Questions(*parts, 'x').digest
  two = make(('10', '1'), ('q', '0'), ((one,), (one,)))
  assert two != make(('10',), ('q',), ((one, zero, one),))


def test_bad_data_are_refused():
  answer = questions.Answer('b', 1)
  for parts, message in (
    (
      (('ab',), ('q', 'r'), ((answer,),)),
      r'x: \(1, 2, 1\) contexts, questions',
    ),
    (((), (), ()), 'x: no questions'),
    ((('ab',), ('q',), ((),)), r'x: questions\[0\]: no answers'),
    ((('ba',), ('q',), ((answer,),)), r"x: questions\[0\]: the answer 'b'"),
  ):
    with pytest.raises(ValueError, match=message):
      questions.Questions(*parts, 'x')


REAL = (
  pathlib.Path(os.environ.get('TT_COMPRESS_DATA', '/nowhere'))
  / 'squad-v1.1-partial'
)


@pytest.mark.skipif(
  not REAL.is_dir(), reason='TT_COMPRESS_DATA names no folder with SQuAD'
)
def test_answers_of_squad_are_in_their_place():
  for name, number in (('train_subset', 4330), ('dev_partial', 9380)):
    data = load(str(REAL / f'{name}.jsonl.gz'))
    assert len(data) == number
  assert data.answers[0] == (questions.Answer('Denver Broncos', 177),)
