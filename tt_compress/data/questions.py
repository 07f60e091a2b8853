"""Questions about texts that hold the answers."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
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
      check_answers(context, answers, f'{self.name}: questions[{i}]')

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

  def held_out(self, number: int) -> tuple['Questions', 'Questions']:
    """Two parts that have no context in common.

    Contexts are taken in the order of a hash, so the parts do not depend on the
    order of the questions, which keep theirs.

    Args:
      number: of questions that the first part has at least; it has all
        questions about its last context, too.

    Raises:
      ValueError: nothing would be left for one of the parts.
    """
    groups: dict[str, list[int]] = {}
    for i, context in enumerate(self.contexts):
      groups.setdefault(context, []).append(i)
    taken: set[int] = set()
    for context in sorted(groups, key=_hash):
      if len(taken) >= number:
        break
      taken.update(groups[context])
    if not 0 < len(taken) < len(self):
      raise ValueError(
        f'{self.name}: num_validation={number} of {len(self)} questions cannot '
        'be held out; it must be at least 1, and questions about one context '
        'stay together'
      )
    return tuple(
      self._part(sorted(part), ending)
      for part, ending in (
        (taken, 'validation'),
        (set(range(len(self))) - taken, 'the others'),
      )
    )

  def _part(self, members: Sequence[int], ending: str) -> 'Questions':
    take = lambda values: [values[i] for i in members]
    return Questions(
      take(self.contexts),
      take(self.questions),
      take(self.answers),
      f'{self.name}, {ending}',
    )


def checked_text(value: Any, key: str, where: str) -> str:
  """The value of a key, if it is text and not blank.

  Raises:
    ValueError: something else.
  """
  text = text_files.check_text(value, key, where)
  if not text.strip():
    raise ValueError(f'{where}: {key!r} is blank')
  return text


def check_answers(context: str, answers: Sequence[Answer], where: str) -> None:
  """Refuses answers that are not in their context.

  Args:
    context: that they are from.
    answers: at least one.
    where: name of the question, for errors.

  Raises:
    ValueError: no answer, or one that does not start where it says.
  """
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


def _hash(text: str) -> bytes:
  return hashlib.sha256(text.encode()).digest()
