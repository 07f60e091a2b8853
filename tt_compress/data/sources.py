"""All data by kind and name of the source."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from tt_compress.data import (
  click_log_files,
  corpus,
  embedded,
  embedded_headlines,
  generated_clicks,
  generated_questions,
  images,
  keyword_options,
  labeled_text,
  opinions,
  parallel_texts,
  question_files,
  questions,
  tables,
  text,
  tfds,
  token_streams,
)
from tt_compress.data.click_logs import click_log

Kind = Literal[
  'pairs',
  'labeled text',
  'labeled images',
  'token streams',
  'table rows',
  'questions',
  'click logs',
]
Data = (
  corpus.Corpus
  | labeled_text.LabeledText
  | images.Images
  | token_streams.TokenStream
  | tables.TableRows
  | questions.Questions
  | click_log.ClickLog
)

# A source of several kinds has an entry under each of them.
SOURCES: dict[Kind, dict[str, Callable[..., Data]]] = {
  'pairs': {
    'embedded': embedded.load,
    'embedded_headlines': embedded_headlines.load,
    'parallel_text': parallel_texts.load,
    'text': text.load,
    'tfds': tfds.load,
  },
  'labeled text': {
    'labeled_text_files': labeled_text.load,
    'tfds': labeled_text.from_tfds,
    'generated': opinions.load,
  },
  'labeled images': {
    'mnist': images.mnist,
    'idx': images.from_idx,
    'tfds': images.from_tfds,
    'digits': images.digits,
    'generated': images.generated,
  },
  'token streams': {
    'text_stream': token_streams.load,
    'embedded': token_streams.from_embedded,
  },
  'table rows': {'table_files': tables.load},
  'questions': {
    'question_files': question_files.load,
    'tfds': question_files.from_tfds,
    'generated': generated_questions.load,
  },
  'click logs': {
    'click_log_files': click_log_files.load,
    'generated': generated_clicks.load,
  },
}


def load(kind: Kind, source: str, split: str, **options: Any) -> Data:
  """Loads one split of some data.

  Args:
    kind: what the data are, a key of `SOURCES`.
    source: a key of `SOURCES[kind]`.
    split: 'train', 'validation' or 'test'.
    **options: keyword arguments of that source.

  Returns:
    'pairs': `corpus.Corpus`, 'labeled text': `labeled_text.LabeledText`,
    'labeled images': `images.Images`, 'token streams':
    `token_streams.TokenStream`, 'table rows': `tables.TableRows`, 'questions':
    `questions.Questions`, 'click logs': `click_log.ClickLog`.

  Raises:
    ValueError: an unknown split, or what `check` refuses.
  """
  check(kind, source, options)
  if split not in corpus.SPLITS:
    raise ValueError(
      f'unknown split {split!r}; there are {list(corpus.SPLITS)}'
    )
  return SOURCES[kind][source](split, **options)


def check(kind: Kind, source: str, options: Mapping[str, Any]) -> None:
  """Refuses a source of another kind and options that it does not have.

  Raises:
    ValueError: an unknown source, one of another kind, an unknown option or a
      missing one; the valid ones are named.
  """
  if source not in SOURCES[kind]:
    kinds = [other for other, known in SOURCES.items() if source in known]
    problem = f'holds {" or ".join(kinds)}' if kinds else 'is unknown'
    raise ValueError(
      f'data source {source!r} {problem}; sources of {kind} are '
      f'{sorted(SOURCES[kind])}'
    )
  keyword_options.check(
    SOURCES[kind][source], options, f'data source {source!r}'
  )
