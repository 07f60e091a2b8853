import gzip
import lzma
import os

import pytest

from tt_compress.data import parallel_texts, sources

OPENERS = {'.gz': gzip.open, '.xz': lzma.open}


def write(folder, paths, lines):
  """Writes a file of columns, or aligned files if there are several paths."""
  if isinstance(paths, str):
    texts = {paths: ['\t'.join(line) for line in lines]}
  else:
    texts = dict(zip(paths, zip(*lines, strict=True), strict=True))
  for path, text in texts.items():
    file = folder / path
    file.parent.mkdir(exist_ok=True)
    with OPENERS[file.suffix](file, 'wt', encoding='utf-8') as out:
      out.writelines(f'{line}\n' for line in text)


def load(folder, split, name, source, target, **options):
  return sources.load(
    'pairs',
    'parallel_text',
    split,
    name=name,
    source_language=source,
    target_language=target,
    folder=str(folder),
    **options,
  )


@pytest.mark.parametrize('name', parallel_texts.TEXTS)
def test_every_text_in_both_directions(tmp_path, name):
  text = parallel_texts.TEXTS[name]
  held_out = text.num_held_out or 0
  sizes = dict.fromkeys(text.files, 2 * held_out + 5)
  for split, paths in text.files.items():
    lines = [
      [f'{it} {i}' for it in text.languages] for i in range(sizes[split])
    ]
    write(tmp_path, paths, lines)
  if held_out:
    sizes = dict(train=5, validation=held_out, test=held_out)
  one, two = text.languages
  for split, size in sizes.items():
    found = load(tmp_path, split, name, one, two)
    turned = load(tmp_path, split, name, two, one)
    assert len(found) == size
    assert found.name == f'{name} {split}'
    assert found.source == turned.target
    assert found.target == turned.source
    assert {line.split()[0] for line in found.source} == {one}
    assert {line.split()[0] for line in found.target} == {two}


def test_a_split_of_another_text(tmp_path):
  for name in ('ding/de-en', 'newstest2014/en-de'):
    text = parallel_texts.TEXTS[name]
    for paths in text.files.values():
      write(tmp_path, paths, [[f'{it} {name}' for it in text.languages]])
  names = dict(test='newstest2014/en-de')
  arguments = ('ding/de-en', 'de', 'en')
  assert load(tmp_path, 'test', *arguments, **names).source == (
    'de newstest2014/en-de',
  )
  for split in ('train', 'validation'):
    assert load(tmp_path, split, *arguments, **names).target == (
      'en ding/de-en',
    )


@pytest.mark.parametrize(
  'split, arguments, options, message',
  [
    ('train', ('ding', 'de', 'en'), {}, "no text 'ding'; there are ding/de-en"),
    (
      'train',
      ('ding/de-en', 'de', 'fr'),
      {},
      "languages de and en, not .*'fr'",
    ),
    ('train', ('ding/de-en', 'de', 'de'), {}, 'languages de and en, not'),
    (
      'train',
      ('newstest2014/en-de', 'de', 'en'),
      {},
      "2014/en-de has no split 'train', only val",
    ),
    (
      'test',
      ('ding/de-en', 'de', 'en'),
      {'test': 'newstest2014/en-fr'},
      'newstest2014/en-fr has the languages en and fr',
    ),
  ],
)
def test_what_does_not_exist(tmp_path, split, arguments, options, message):
  with pytest.raises(ValueError, match=message):
    load(tmp_path, split, *arguments, **options)


@pytest.mark.full
@pytest.mark.parametrize(
  'name, sizes',
  [
    ('ding/de-en', (41_017, 1000, 1000)),
    ('iwslt14/de-en', (8622, 7283, 6750)),
    ('libreoffice/de-en', (21_562, 1000, 1000)),
    ('multi30k/de-en', (29_000, 1014, 1000)),
    ('tatoeba/de-en', (165_813, 2000, 2000)),
    ('tatoeba/en-ro', (9527, 500, 500)),
    ('wordnet/en-ro', (44_190, 2000, 2000)),
  ],
)
def test_real_texts(name, sizes):
  folder = os.environ.get('TT_COMPRESS_DATA')
  if not folder:
    pytest.skip('TT_COMPRESS_DATA names no folder')
  paths = parallel_texts.TEXTS[name].files['train']
  path = paths if isinstance(paths, str) else paths[0]
  if not os.path.exists(os.path.join(folder, path)):
    pytest.skip(f'TT_COMPRESS_DATA has no {path}')
  languages = name.split('/')[1].split('-')
  found = [
    load(folder, split, name, *languages)
    for split in ('train', 'validation', 'test')
  ]
  assert tuple(map(len, found)) == sizes
