"""Questions about texts that hold the answers, and files of them."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tt_compress.data import corpus, text_files


@dataclasses.dataclass(frozen=True)
class Answer:
  """A part of a context.

  Attributes:
    text: of the answer.
    start: its first character in the context, from 0.
  """

  text: str
  start: int


@dataclasses.dataclass(frozen=True)
class Questions:
  """Questions, each with a context and its answers there.

  Args:
    contexts: one for each question, also where several share it.
    questions: in the order of the file.
    answers: of each question, at least one; `answers[i][j].text` starts at
      character `answers[i][j].start` of `contexts[i]`.
    name: of the data, for messages.

  Raises:
    ValueError: different numbers of contexts, questions and answers, no
      questions, or an answer that is not in its context.
  """

  contexts: tuple[str, ...]
  questions: tuple[str, ...]
  answers: tuple[tuple[Answer, ...], ...]
  name: str

  def __post_init__(self) -> None:
    for field in ('contexts', 'questions', 'answers'):
      object.__setattr__(self, field, tuple(getattr(self, field)))
    numbers = len(self.contexts), len(self.questions), len(self.answers)
    if len(set(numbers)) > 1:
      raise ValueError(
        f'{self.name}: {numbers} contexts, questions and answers; every '
        'question needs all three'
      )
    if not self.questions:
      raise ValueError(f'{self.name}: no questions')
    for i, (context, answers) in enumerate(
      zip(self.contexts, self.answers, strict=True)
    ):
      _check_answers(context, answers, f'{self.name}: questions[{i}]')

  def __len__(self) -> int:
    return len(self.questions)

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of contexts, questions and answers, in hexadecimal."""
    total = hashlib.sha256()
    examples = zip(self.contexts, self.questions, self.answers, strict=True)
    for context, question, answers in examples:
      corpus.update(total, [context, question, str(len(answers))])
      for answer in answers:
        corpus.update(total, [str(answer.start), answer.text])
    return total.hexdigest()


def load(
  split: str,
  *,
  files: Mapping[str, str],
  context_key: str = 'context',
  question_key: str = 'question',
  answer_key: str = 'answer',
  start_key: str = 'answer_start',
) -> Questions:
  """Reads one split from a .jsonl file, plain or .gz or .xz.

  Each line is an object with a context, a question, its answer and the first
  character of the answer in the context; or with lists of answers and of their
  first characters.

  Args:
    split: name of the split, a key of `files`.
    files: mapping from split to path. `~` and environment variables such as
      `$TT_COMPRESS_DATA` are expanded.
    context_key: key of the context.
    question_key: key of the question.
    answer_key: key of the answer or answers.
    start_key: key of the first character or characters, from 0.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: an unset variable, an unknown split, or bad content, with file
      and line.
  """
  [path] = text_files.paths(split, files, max_paths=1)
  if text_files.suffix(path) != '.jsonl':
    raise ValueError(f'{path}: questions must be .jsonl (also .gz or .xz)')
  keys = dict(
    context_key=context_key,
    question_key=question_key,
    answer_key=answer_key,
    start_key=start_key,
  )
  contexts, questions, answers = [], [], []
  for number, line in enumerate(text_files.read_lines(path), 1):
    where = f'{path}:{number}'
    context, question, texts, starts = text_files.json_values(line, keys, where)
    contexts.append(_text(context, context_key, where))
    questions.append(_text(question, question_key, where))
    found = _answers(texts, starts, answer_key, start_key, where)
    _check_answers(context, found, where)
    answers.append(found)
  # The name goes into results, which move between machines; paths do not.
  return Questions(contexts, questions, answers, os.path.basename(path))


def _text(value: Any, key: str, where: str) -> str:
  text = text_files.check_text(value, key, where)
  if not text.strip():
    raise ValueError(f'{where}: {key!r} is blank')
  return text


def _answers(
  texts: Any, starts: Any, answer_key: str, start_key: str, where: str
) -> tuple[Answer, ...]:
  """The answers of a line, one or a list."""
  texts, starts = (
    value if isinstance(value, list) else [value] for value in (texts, starts)
  )
  if len(texts) != len(starts):
    raise ValueError(
      f'{where}: {len(texts)} entries of {answer_key!r} and {len(starts)} of '
      f'{start_key!r}; every answer needs one of each'
    )
  for start in starts:
    if type(start) is not int:  # True is an int, too.
      raise ValueError(f'{where}: {start_key!r} is {start!r}, not an integer')
  return tuple(
    Answer(_text(text, answer_key, where), start)
    for text, start in zip(texts, starts, strict=True)
  )


def _check_answers(context: str, answers: Sequence[Answer], where: str) -> None:
  if not answers:
    raise ValueError(f'{where}: no answers; every question needs one')
  for answer in answers:
    start, end = answer.start, answer.start + len(answer.text)
    if start < 0 or context[start:end] != answer.text:
      found = context[start:end] if start >= 0 else ''
      raise ValueError(
        f'{where}: the answer {answer.text!r} does not start at character '
        f'{start} of its context, which has {found!r} there; characters count '
        'from 0'
      )
