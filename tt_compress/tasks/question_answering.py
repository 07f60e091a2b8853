"""Answers to questions as parts of a context."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import nnx
from jaxtyping import Array, Float, Int

from tt_compress.data import (
  batching,
  corpus,
  questions,
  reading,
  reading_batches,
  text_files,
)
from tt_compress.nn import dropout, modules
from tt_compress.parallel import evaluation
from tt_compress.tasks import base, question_settings, run_vocabulary
from tt_compress.tasks.decoding import spans
from tt_compress.tasks.scores import overlap

_KEYS = {'context_key': 'context', 'question_key': 'question'}


class QuestionAnswering(base.Task):
  """A task that finds the answer to a question in its context.

  The loss of a question is -log p(start) - log p(end) of its first answer.
  Training leaves out contexts that are longer than the longest bucket;
  evaluation and prediction read contexts of any length.
  """

  kind = 'questions'
  metrics = {'f1': 'max', 'exact_match': 'max', 'loss': 'min'}
  unit = 'questions'
  inputs = ('data.vocabulary', 'data.max_question_length')
  reporting = ('evaluation.batch_size', 'evaluation.max_answer_length')
  reads_lines = True

  def __init__(self, config, graphdef: nnx.GraphDef, workdir: str | None):
    super().__init__(config, graphdef, workdir)
    self.words = run_vocabulary.RunVocabulary(
      workdir,
      self._texts,
      name=config.data.vocabulary,
      options=config.data.vocabulary_options,
      model=config.model,
    )
    self._best = evaluation.over_devices(self._batch_best)

  @property
  def vocabularies(self) -> list[run_vocabulary.RunVocabulary]:
    return [self.words]

  @classmethod
  def defaults(cls) -> dict:
    return question_settings.defaults()

  @classmethod
  def check(cls, config) -> None:
    super().check(config)
    question_settings.check(config)

  @classmethod
  def batch_rows(cls, config) -> int:
    return config.data.batch_size * max(config.data.bucket_lengths)

  @classmethod
  def batch_shapes(
    cls, config, batch_multiple: int
  ) -> dict[str, jax.ShapeDtypeStruct]:
    return question_settings.batch_shapes(config, batch_multiple)

  @classmethod
  def shrink(cls, config) -> None:
    question_settings.shrink(config)

  def _texts(self) -> list[str]:
    """What the vocabulary is made of: every context once, all questions."""
    found = self.load('train')
    return [*dict.fromkeys(found.contexts), *found.questions]

  def prepare(self) -> dict:
    train = self.load('train')
    facts = {
      'num_questions': self.num_examples,
      'num_left_out': len(train) - self.num_examples,
      'train_sha256': train.digest,
      **self.words.facts(),
    }
    for split in corpus.SPLITS:
      facts[f'{split}_unaligned'] = self._labels(split).num_unaligned
      facts[f'{split}_cut'] = self._reading(split).num_cut
    logging.info(
      'left out %d questions with contexts of more than %d words',
      facts['num_left_out'],
      self._longest,
    )
    return facts

  @property
  def _longest(self) -> int:
    """Words of a context that training reads."""
    return max(self._config.data.bucket_lengths)

  @functools.lru_cache(maxsize=3)  # noqa: B019 - a task lives as long as a run
  def _reading(self, split: str) -> reading.Reading:
    found = self.load(split)
    return self._read(
      found.contexts,
      found.questions,
      [f'{found.name}: questions[{i}]' for i in range(len(found))],
    )

  def _read(
    self, contexts: Sequence[str], asked: Sequence[str], places: Sequence[str]
  ) -> reading.Reading:
    return reading.read(
      self.words.value,
      contexts,
      asked,
      max_asked=self._config.data.max_question_length,
      places=places,
    )

  @functools.lru_cache(maxsize=3)  # noqa: B019 - a task lives as long as a run
  def _labels(self, split: str) -> reading.Labels:
    found, read = self.load(split), self._reading(split)
    labels = reading.label(read, [answers[0] for answers in found.answers])
    logging.info(
      '%s: %d of %d answers begin or end within a word, and %d questions are '
      'cut',
      found.name,
      labels.num_unaligned,
      len(found),
      read.num_cut,
    )
    return labels

  @functools.cached_property
  def _trained(self) -> Int[np.ndarray, ' members']:
    """Indices of the questions that training reads."""
    found = np.flatnonzero(self._reading('train').lengths <= self._longest)
    if not len(found):
      raise ValueError(
        f'{self.load("train").name}: no context has at most {self._longest} '
        'words, the longest of data.bucket_lengths'
      )
    return found

  def train_batches(self, **share: int) -> batching.Batches:
    config = self._config
    return reading_batches.make(
      self._reading('train'),
      self._labels('train'),
      self._trained,
      bucket_lengths=config.data.bucket_lengths,
      batch_size=config.data.batch_size,
      seed=config.seed,
      **share,
    )

  @property
  def num_examples(self) -> int:
    return len(self._trained)

  def loss(
    self,
    model: nnx.Module,
    batch: Mapping[str, jax.Array],
    noise: dropout.Noise | None = None,
    carry: Any = None,
  ) -> tuple[jax.Array, jax.Array, Any]:
    losses = _losses(*_log_probabilities(model, batch, noise), batch)
    weights = batch['weights']
    return jnp.sum(losses * weights), jnp.sum(weights), carry

  def _batch_best(
    self,
    variables: Mapping,
    batch: Mapping[str, jax.Array],
    number: int,
    max_length: int,
  ) -> tuple[Array, ...]:
    """The best spans of each question: first, last, log p; and the losses."""
    model = modules.merge(self._graphdef, **variables)
    starts, ends = _log_probabilities(model, batch)
    number = min(number, starts.shape[1] * max_length)
    best = spans.best(starts, ends, max_length=max_length, number=number)
    return *best, _losses(starts, ends, batch)

  def _answers(
    self,
    variables: Mapping,
    contexts: Sequence[str],
    found: reading.Reading,
    labels: reading.Labels | None,
    number: int,
  ) -> tuple[list[list[base.Answer]], Float[np.ndarray, ' questions']]:
    """The best answers to each question, and the loss of the given answer."""
    settings = self._config.evaluation
    batches = reading_batches.make(
      found,
      labels,
      np.arange(len(contexts)),
      bucket_lengths=self._config.data.bucket_lengths,
      batch_size=settings.batch_size,
      shuffle=False,
    )
    answers: list[list[base.Answer]] = [[] for _ in contexts]
    losses = np.zeros(len(contexts))
    for step in range(batches.steps_per_epoch):
      batch = batches.batch(step)
      best = self._best(
        variables,
        batch,
        number=number,
        max_length=settings.max_answer_length,
      )
      *best, each = jax.device_get(best)
      for row in np.flatnonzero(batch['weights']):
        i = batch['questions'][row]
        losses[i] = each[row]
        places = zip(*(a[row] for a in best), strict=True)
        answers[i] = _parts(contexts[i], found.spans[i], places)
    return answers, losses

  def answers(
    self, variables: Mapping, split: str
  ) -> tuple[list[base.Answer], Float[np.ndarray, ' questions']]:
    """The best answer to each question of a split, and the losses."""
    found, labels = self._reading(split), self._labels(split)
    contexts = self.load(split).contexts
    answers, losses = self._answers(variables, contexts, found, labels, 1)
    return [best[0] for best in answers], losses

  def example_losses(
    self, variables: Mapping, split: str
  ) -> Float[np.ndarray, ' examples']:
    return self.answers(variables, split)[1]

  def validate(self, variables: Mapping) -> dict[str, float]:
    scores = self.evaluate(variables, 'validation')
    return {name: scores[name] for name in self.metrics}

  def evaluate(self, variables: Mapping, split: str) -> base.Scores:
    """Scores of a split.

    Returns:
      'f1' and 'exact_match' from 0 to 100, of the best of several right
      answers; 'loss' (nats per question), 'num_questions' and 'data', the name
      of the data.
    """
    found = self.load(split)
    answers, losses = self.answers(variables, split)
    mean = lambda score: (
      100
      * math.fsum(
        overlap.best(score, answer.text, [each.text for each in right])
        for answer, right in zip(answers, found.answers, strict=True)
      )
      / len(found)
    )
    return {
      'f1': mean(overlap.f1),
      'exact_match': mean(overlap.exact_match),
      'loss': float(np.mean(losses)),
      'num_questions': len(found),
      'data': found.name,
    }

  def predict(
    self, variables: Mapping, lines: Sequence[str], num_best: int
  ) -> list[list[base.Answer]]:
    """The likeliest parts of the context of every line.

    Args:
      variables: of the model.
      lines: JSON objects with a 'context' and a 'question'; the answer to a
        blank line is empty.
      num_best: answers to a line.

    Raises:
      ValueError: something else, with the number of the line.
    """
    answers = [[base.Answer('', 0.0)] for _ in lines]
    filled = [i for i, line in enumerate(lines) if line.strip()]
    if not filled:
      return answers
    places = [f'line {i + 1}' for i in filled]
    asked = (_parse(lines[i], at) for i, at in zip(filled, places, strict=True))
    contexts, texts = zip(*asked, strict=True)
    found = self._read(contexts, texts, places)
    best, _ = self._answers(variables, contexts, found, None, num_best)
    for i, each in zip(filled, best, strict=True):
      answers[i] = each
    return answers

  def report_answer(self, answer: base.Answer) -> str:
    """The answer and its probability; empty for a blank line."""
    return answer.text and f'{answer.text}\t{answer.score:.4f}'

  def progress(self, scores: base.Scores) -> str:
    return f'validation loss {scores["loss"]:.4f}  {self.headline(scores)}'

  def headline(self, scores: base.Scores) -> str:
    return f'F1 = {scores["f1"]:.2f}  exact match = {scores["exact_match"]:.2f}'

  def report(self, split: str, scores: base.Scores) -> str:
    return (
      f'\n{split} loss {scores["loss"]:.4f}  '
      f'{scores["num_questions"]:,} questions, {scores["data"]}\n'
      f'{self.headline(scores)}'
    )


def _log_probabilities(
  model: nnx.Module,
  batch: Mapping[str, jax.Array],
  noise: dropout.Noise | None = None,
) -> tuple[Float[Array, 'batch length'], Float[Array, 'batch length']]:
  """Those of the first and of the last word of the answer."""
  context, matches = batch['inputs'], batch['matches']
  lengths = jnp.sum(context != corpus.PAD_ID, axis=1, keepdims=True)
  features = (
    matches & reading.AS_SPELLED,
    (matches & reading.IN_LOWER_CASE) // reading.IN_LOWER_CASE,
    batch['counts'] / jnp.maximum(1, lengths),
  )
  return model(context, jnp.stack(features, axis=-1), batch['asked'], noise)


def _losses(
  starts: Float[Array, 'batch length'],
  ends: Float[Array, 'batch length'],
  batch: Mapping[str, jax.Array],
) -> Float[Array, ' batch']:
  take = lambda a, i: jnp.take_along_axis(a, i[:, None], axis=1)[:, 0]
  return -take(starts, batch['first']) - take(ends, batch['last'])


def _parts(
  context: str, places: Int[np.ndarray, 'words 2'], best: Iterable
) -> list[base.Answer]:
  """Spans of words as parts of a context, without those of padding.

  A line break in a part becomes a space: predictions have a line each.
  """
  part = lambda i, j: ' '.join(context[places[i, 0] : places[j, 1]].split())
  return [
    base.Answer(part(i, j), math.exp(log_p))
    for i, j, log_p in best
    if j < len(places)
  ]


def _parse(line: str, where: str) -> tuple[str, ...]:
  """The context and the question of a line."""
  values = text_files.json_values(line, _KEYS, where)
  return tuple(
    questions.checked_text(value, key, where)
    for value, key in zip(values, _KEYS.values(), strict=True)
  )
