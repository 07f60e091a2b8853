"""The door of this folder: parallel text by the name of its source."""

import inspect

from tt_compress.data import corpus, embedded, text, tfds

SOURCES = {
  'embedded': embedded.load,
  'text': text.load,
  'tfds': tfds.load,
}


def load(source, split, **options):
  """Loads one split of a parallel corpus.

  Args:
    source: a key of `SOURCES`.
    split: 'train', 'validation' or 'test'.
    **options: keyword arguments of that source's `load`.

  Returns:
    A `Corpus` of aligned sentences.

  Raises:
    ValueError: an unknown source, split or option, or a missing option; the
      valid ones are named.
  """
  return call(SOURCES, source, split, options)


def call(known_sources, source, split, options):
  """Loads a split from one of several sources, checking the names first.

  Args:
    known_sources: mapping from name to a function of (split, **options).
    source: a key of it.
    split: 'train', 'validation' or 'test'.
    options: keyword arguments of that source.

  Raises:
    ValueError: an unknown source, split or option, or a missing option; the
      valid ones are named.
  """
  if source not in known_sources:
    raise ValueError(
      f'unknown source {source!r}; there are {sorted(known_sources)}'
    )
  if split not in corpus.SPLITS:
    raise ValueError(
      f'unknown split {split!r}; there are {list(corpus.SPLITS)}'
    )
  parameters = inspect.signature(known_sources[source]).parameters.values()
  known = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
  for option in options:
    if option not in known:
      raise ValueError(
        f'unknown option {option!r} of source {source!r}; it has '
        f'{sorted(known)}'
      )
  for option, parameter in known.items():
    if parameter.default is parameter.empty and option not in options:
      raise ValueError(
        f'source {source!r} needs the option {option!r}; it has {sorted(known)}'
      )
  return known_sources[source](split, **options)
