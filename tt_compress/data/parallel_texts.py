"""Public parallel texts by name, and where their files are."""

import dataclasses
from collections.abc import Mapping, Sequence

from tt_compress.data import corpus, text


@dataclasses.dataclass(frozen=True)
class ParallelText:
  """A text of two languages.

  Attributes:
    languages: of the columns or of the aligned files, in this order.
    files: by split, relative to the folder of the data.
    num_held_out: numbers of pairs held out of the training file for validation
      and for the test; None if the text has these splits.
  """

  languages: tuple[str, str]
  files: Mapping[str, str | tuple[str, str]]
  num_held_out: int | None = None


def _tsv(folder: str) -> dict[str, str]:
  names = {'train': 'train', 'validation': 'valid', 'test': 'test'}
  return {split: f'{folder}/{name}.tsv.xz' for split, name in names.items()}


def _aligned(
  folder: str, names: Mapping[str, str], ends: Sequence[str]
) -> dict[str, tuple[str, ...]]:
  return {
    split: tuple(f'{folder}/{name}.{end}.gz' for end in ends)
    for split, name in names.items()
  }


def _newstest(pair: str, years: Sequence[int], ends: Sequence[str]) -> dict:
  """Test sets of WMT, which also serve for validation."""
  languages = tuple(pair.split('-'))
  return {
    f'newstest{year}/{pair}': ParallelText(
      languages,
      _aligned(
        f'wmt-newstest-{pair}',
        dict.fromkeys(('validation', 'test'), f'newstest{year}'),
        ends,
      ),
    )
    for year in years
  }


TEXTS: dict[str, ParallelText] = {
  'ding/de-en': ParallelText(('de', 'en'), _tsv('ding-deu-eng')),
  # Of the training pairs, 5 % alone.
  'iwslt14/de-en': ParallelText(
    ('de', 'en'),
    _aligned(
      'iwslt14-de-en',
      {
        'train': 'train_sample.tok.lc',
        'validation': 'valid.tok.lc',
        'test': 'test.tok.lc',
      },
      ('de', 'en'),
    ),
  ),
  'libreoffice/de-en': ParallelText(
    ('de', 'en'), _tsv('libreoffice-help-deu-eng')
  ),
  'multi30k/de-en': ParallelText(
    ('de', 'en'),
    _aligned(
      'multi30k',
      {'train': 'train', 'validation': 'val', 'test': 'test_2016_flickr'},
      ('de', 'en'),
    ),
  ),
  **_newstest('en-de', range(2009, 2016), ('eng', 'deu')),
  **_newstest('en-fr', range(2009, 2015), ('eng', 'fra')),
  'tatoeba/de-en': ParallelText(
    ('en', 'de'), {'train': 'tatoeba-deu-eng/deu.txt.xz'}, num_held_out=2000
  ),
  'tatoeba/en-ro': ParallelText(
    ('en', 'ro'),
    _aligned('tatoeba-eng-ron', {'train': 'pairs'}, ('eng', 'ron')),
    num_held_out=500,
  ),
  'wordnet/en-ro': ParallelText(('en', 'ro'), _tsv('wordnet-eng-ron')),
}


def load(
  split: str,
  *,
  name: str,
  source_language: str,
  target_language: str,
  validation: str | None = None,
  test: str | None = None,
  folder: str = '${TT_COMPRESS_DATA}',
) -> corpus.Corpus:
  """Reads one split of a named text; see `text.load` for the reader.

  Args:
    split: 'train', 'validation' or 'test'.
    name: a key of `TEXTS`.
    source_language: the one that is translated, such as 'de'.
    target_language: the other one, such as 'en'.
    validation: name of the text whose validation split is used; that of `name`
      if None.
    test: name of the text whose test split is used; that of `name` if None.
    folder: that holds the folders of the texts.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: an unknown text, split or language, or bad content.
  """
  names = {'train': name, 'validation': validation, 'test': test}
  found = names.get(split) or name
  if found not in TEXTS:
    raise ValueError(f'no text {found!r}; there are {", ".join(TEXTS)}')
  chosen = TEXTS[found]
  languages = (source_language, target_language)
  if sorted(languages) != sorted(chosen.languages):
    raise ValueError(
      f'{found} has the languages {" and ".join(chosen.languages)}, not '
      f'source_language={source_language!r} and '
      f'target_language={target_language!r}'
    )
  if chosen.num_held_out is None and split not in chosen.files:
    raise ValueError(
      f'{found} has no split {split!r}, only {" and ".join(chosen.files)}; '
      f'take them from it by validation= or test=, and another text as name='
    )
  pairs = text.load(
    split,
    files={part: _under(folder, it) for part, it in chosen.files.items()},
    columns=[text.SIDES[languages.index(it)] for it in chosen.languages],
    num_validation=chosen.num_held_out,
    num_test=chosen.num_held_out,
  )
  return dataclasses.replace(pairs, name=f'{found} {split}')


def _under(folder: str, paths: str | tuple[str, str]) -> str | list[str]:
  if isinstance(paths, str):
    return f'{folder}/{paths}'
  return [f'{folder}/{path}' for path in paths]
