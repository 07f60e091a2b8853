"""Questions in files, as lines or as SQuAD has them, and of TFDS."""

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tt_compress.data import questions, text_files, tfds

# A question with its context and answers.
_Example = tuple[str, str, tuple[questions.Answer, ...]]


def load(
  split: str,
  *,
  files: Mapping[str, str],
  context_key: str = 'context',
  question_key: str = 'question',
  answer_key: str = 'answer',
  start_key: str = 'answer_start',
  num_validation: int = 0,
) -> questions.Questions:
  """Reads one split from a file, plain or .gz or .xz.

  Each line of a .jsonl file is an object with a context, a question, its answer
  and the first character of the answer in the context; or with lists of answers
  and of their first characters. A .json file has the form of SQuAD 1.1.

  Args:
    split: name of the split, a key of `files`.
    files: mapping from split to path. `~` and environment variables such as
      `$TT_COMPRESS_DATA` are expanded.
    context_key: key of the context in a line.
    question_key: key of the question.
    answer_key: key of the answer or answers.
    start_key: key of the first character or characters, from 0.
    num_validation: test questions that are held out for validation, with all
      others about their contexts, see `Questions.held_out`; for data without a
      third split.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: an unset variable, an unknown split, two validation splits, or
      bad content, with file and line or place.
  """
  if num_validation and 'validation' in files:
    raise ValueError(
      f'num_validation={num_validation} holds out test questions, but '
      f'files["validation"]={files["validation"]!r}; give one of the two'
    )
  is_held_out = bool(num_validation) and split != 'train'
  [path] = text_files.paths(
    'test' if is_held_out else split, files, max_paths=1
  )
  keys = dict(
    context_key=context_key,
    question_key=question_key,
    answer_key=answer_key,
    start_key=start_key,
  )
  whole = _read(path, tuple(keys.items()))
  if not is_held_out:
    return whole
  return whole.held_out(num_validation)[split == 'test']


def from_tfds(
  split: str,
  *,
  name: str,
  splits: Mapping[str, str],
  data_dir: str | None = None,
) -> questions.Questions:
  """A data set of TensorFlow Datasets with the features of `squad`.

  Args:
    split: 'train', 'validation' or 'test'.
    name: data set with its configuration.
    splits: mapping from our splits to those of the data set, slices included.
    data_dir: folder of prepared data, see `tfds.load`.

  Raises:
    ImportError, RuntimeError: as `tfds.load`.
    ValueError: an unknown data set or split, or an answer that is not in its
      context.
  """
  part = splits.get(split, split)
  names = 'context', 'question', 'answers'
  found = []
  for i, example in enumerate(
    tfds.examples(name, part, names, data_dir=data_dir)
  ):
    where = f'{name} {part} example {i}'
    context, question = (
      tfds.decode(example[key], f'{where}, {key}') for key in names[:2]
    )
    given = example['answers']
    texts = [tfds.decode(text, f'{where}, answers') for text in given['text']]
    starts = [int(start) for start in given['answer_start']]
    values = context, question, texts, starts
    found.append(_example(values, (*names, 'answer_start'), where))
  return _questions(found, f'{name} {part}')


# Validation and test may be parts of one file.
@functools.lru_cache(maxsize=1)
def _read(path: str, keys: tuple[tuple[str, str], ...]) -> questions.Questions:
  ending = text_files.suffix(path)
  if ending == '.jsonl':
    examples = _of_lines(path, dict(keys))
  elif ending == '.json':
    examples = _of_articles(path)
  else:
    raise ValueError(f'{path}: questions must be .jsonl or .json (or .gz, .xz)')
  # The name goes into results, which move between machines; paths do not.
  return _questions(examples, os.path.basename(path))


def _questions(examples: Iterable[_Example], name: str) -> questions.Questions:
  columns = list(zip(*examples, strict=True)) or ((), (), ())
  return questions.Questions(*columns, name)


def _of_lines(path: str, keys: Mapping[str, str]) -> Iterator[_Example]:
  names = tuple(keys.values())
  for number, line in enumerate(text_files.read_lines(path), 1):
    where = f'{path}:{number}'
    yield _example(text_files.json_values(line, keys, where), names, where)


def _of_articles(path: str) -> Iterator[_Example]:
  """The questions of a file of SQuAD: articles of paragraphs of questions."""
  names = 'context', 'question', 'text', 'answer_start'
  for article, place in _items(text_files.read_json(path), 'data', path):
    for paragraph, part in _items(article, 'paragraphs', place):
      context = _entry(paragraph, 'context', part)
      for asked, where in _items(paragraph, 'qas', part):
        question = _entry(asked, 'question', where)
        answers = [
          [_entry(answer, name, at) for name in names[2:]]
          for answer, at in _items(asked, 'answers', where)
        ]
        texts, starts = zip(*answers, strict=True) if answers else ((), ())
        values = context, question, list(texts), list(starts)
        yield _example(values, names, where)


def _entry(value: Any, key: str, where: str) -> Any:
  if not isinstance(value, dict) or key not in value:
    raise ValueError(f'{where}: no object with {key!r}, as SQuAD 1.1 has')
  return value[key]


def _items(value: Any, key: str, where: str) -> Iterator[tuple[Any, str]]:
  """The items of a list, each with its place in the file."""
  items = _entry(value, key, where)
  if not isinstance(items, list):
    raise ValueError(f'{where}: {key!r} is {items!r}, not a list')
  for i, item in enumerate(items):
    yield item, f'{where} {key}[{i}]'


def _example(
  values: Sequence[Any], names: Sequence[str], where: str
) -> _Example:
  """A question, checked.

  Args:
    values: a context, a question, one answer or a list of them, and their first
      characters.
    names: of these values, for errors.
    where: place of the question, for errors.
  """
  context, question, texts, starts = values
  texts, starts = (
    value if isinstance(value, list) else [value] for value in (texts, starts)
  )
  if len(texts) != len(starts):
    raise ValueError(
      f'{where}: {len(texts)} entries of {names[2]!r} and {len(starts)} of '
      f'{names[3]!r}; every answer needs one of each'
    )
  for start in starts:
    if type(start) is not int:  # True is an int, too.
      raise ValueError(f'{where}: {names[3]!r} is {start!r}, not an integer')
  answers = tuple(
    questions.Answer(questions.checked_text(text, names[2], where), start)
    for text, start in zip(texts, starts, strict=True)
  )
  context = questions.checked_text(context, names[0], where)
  question = questions.checked_text(question, names[1], where)
  questions.check_answers(context, answers, where)
  return context, question, answers
