import gzip
import json
import logging
import lzma
import os

import pytest

from tt_compress.data import corpus, text, text_files

SOURCE = ['Guten Tag .', 'Ja .', 'Wie geht es dir ?']
TARGET = ['Good day .', 'Yes .', 'How are you ?']


def write(path, lines, opener=open):
  with opener(path, 'wb') as file:
    file.write(''.join(line + '\n' for line in lines).encode())
  return str(path)


def load(*paths, **options):
  files = {'train': paths if len(paths) > 1 else paths[0]}
  return text.load('train', files=files, **options)


@pytest.mark.parametrize(
  'suffix, opener', [('', open), ('.gz', gzip.open), ('.xz', lzma.open)]
)
def test_every_form_gives_the_same_corpus(tmp_path, suffix, opener):
  pair = [
    write(tmp_path / f'{side}{suffix}', lines, opener)
    for side, lines in (('de', SOURCE), ('en', TARGET))
  ]
  both = list(zip(SOURCE, TARGET, strict=True))
  tsv = write(tmp_path / f'a.tsv{suffix}', map('\t'.join, both), opener)
  rows = [json.dumps({'de': s, 'en': t}) for s, t in both]
  jsonl = write(tmp_path / f'a.jsonl{suffix}', rows, opener)
  keys = dict(source_key='de', target_key='en')
  for found in (load(*pair), load(tsv), load(jsonl, **keys)):
    assert found.source == tuple(SOURCE)
    assert found.target == tuple(TARGET)
  assert text.load('train', files={'train': (tsv,)}).source == tuple(SOURCE)


def test_columns_have_names(tmp_path):
  pair = [write(tmp_path / 'de', SOURCE), write(tmp_path / 'en', TARGET)]
  reverse = dict(columns=('target', 'source'))
  found = load(*pair, **reverse)
  assert (found.source, found.target) == (tuple(TARGET), tuple(SOURCE))
  both = zip(SOURCE, TARGET, strict=True)
  lines = [f'{t}\tCC-BY {i}\t{s}' for i, (s, t) in enumerate(both)]
  path = write(tmp_path / 'a.txt', lines)
  found = load(path, columns=('target', 'licence', 'source'))
  assert (found.source, found.target) == (tuple(SOURCE), tuple(TARGET))
  with pytest.raises(ValueError, match=r'a\.txt:1: 3 columns, not 2'):
    load(path, **reverse)
  with pytest.raises(ValueError, match='2 aligned files for the columns'):
    load(*pair, columns=('target', 'licence', 'source'))
  for columns in (('source',), ('source', 'source'), ('source', 'ziel')):
    with pytest.raises(ValueError, match="have 'source' and 'target' once"):
      load(path, columns=columns)
  with pytest.raises(ValueError, match=r'a\.jsonl has keys; set source_key'):
    load(write(tmp_path / 'a.jsonl', ['{}']), **reverse)


def test_pairs_are_held_out_of_the_training_files(tmp_path):
  path = write(tmp_path / 'a.tsv', [f's{i}\tt{i // 2}' for i in range(20)])
  splits = dict(num_validation=4, num_test=6)
  found = {
    split: text.load(split, files={'train': path}, **splits)
    for split in corpus.SPLITS
  }
  assert [len(part) for part in found.values()] == [10, 4, 6]
  assert len({t for part in found.values() for t in set(part.target)}) == 10
  # The file may have one of the splits.
  other = write(tmp_path / 'b.tsv', ['s\tt'])
  files = {'train': path, 'test': other}
  part = dict(files=files, num_validation=4)
  assert text.load('test', **part).source == ('s',)
  assert len(text.load('train', **part)) == 16
  with pytest.raises(ValueError, match=r"num_test=6 .* files has 'test'"):
    text.load('train', files=files, num_test=6)


def test_lines_end_at_line_feeds_alone(tmp_path):
  lines = ['a\u2028b', 'c\x0bd\x0ce', 'f\x85g\x1ch', 'i\rj', 'k\u2029l']
  path = write(tmp_path / 'odd', lines)
  assert text_files.read_lines(path) == lines
  assert load(path, write(tmp_path / 'en', 'vwxyz')).source == tuple(lines)


def test_byte_order_mark_and_carriage_returns_are_removed(tmp_path, caplog):
  path = tmp_path / 'windows'
  path.write_bytes(b'\xef\xbb\xbfeins\r\nzwei\r\nohne Ende')
  with caplog.at_level(logging.WARNING, logger='absl'):
    found = text_files.read_lines(str(path))
  assert found == ['eins', 'zwei', 'ohne Ende']
  assert 'windows:3: the last line has no end' in caplog.text


def test_blank_sides_take_the_other_side_along(tmp_path, caplog):
  source = write(tmp_path / 'de', ['a', '', 'c', ' \t', 'e', ''])
  target = write(tmp_path / 'en', ['A', 'B', '', 'D', 'E', ''])
  with caplog.at_level(logging.WARNING):
    found = load(source, target)
  assert list(zip(found.source, found.target, strict=True)) == [
    ('a', 'A'),
    ('e', 'E'),
  ]
  assert 'left out 4 of 6 pairs' in caplog.text


def test_different_line_counts_are_refused(tmp_path):
  source = write(tmp_path / 'de', SOURCE)
  target = write(tmp_path / 'en', TARGET[:2])
  with pytest.raises(ValueError, match=r'3 lines in .*de but 2 in .*en'):
    load(source, target)


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('a.tsv', b'', r'a\.tsv: empty file'),
    ('a.tsv', b'\n\n', r'a\.tsv: none of 2 pairs has text'),
    ('a.tsv', b'a\tb\nnur eins\n', r'a\.tsv:2: 1 columns'),
    ('a.tsv', b'a\tb\tc\n', r'a\.tsv:1: 3 columns'),
    ('a.tsv', b'a\tb\nc\t\xff\n', r'a\.tsv:2: invalid UTF-8 at byte 2'),
    ('a.tsv', b'a\tb\nc\t\0\n', r'a\.tsv:2: NUL byte'),
    ('a.jsonl', b'{"source": "a", "target": "b"}\n{\n', r'jsonl:2: bad JSON'),
    ('a.jsonl', b'[1]\n', r'jsonl:1: a JSON object is expected'),
    ('a.jsonl', b'{"source": "a"}\n', r"jsonl:1: no key 'target' .*target_key"),
    ('a.jsonl', b'{"source": 3, "target": "b"}\n', r"'source' is 3, not a str"),
    ('a.jsonl', b'{"source": "\\ud800", "target": "b"}\n', r'half a surrogate'),
    ('a.tsv.gz', b'no gzip\n', r'a\.tsv\.gz: cannot read .* damaged'),
    ('a.tsv.xz', b'no xz\n', r'a\.tsv\.xz: cannot read .* damaged'),
    # Without the time: processes that share tests have to agree on names.
    ('a.tsv.gz', gzip.compress(b'a\tb\n' * 9, mtime=0)[:-9], r'cannot read'),
    ('a.txt', b'a\n', r'a\.txt:1: 1 columns, not 2 .*: source, target'),
    ('a.de', b'a\tb\n', r'must be \.tsv, \.txt or \.jsonl'),
  ],
)
def test_bad_content_is_named(tmp_path, name, content, message):
  path = tmp_path / name
  path.write_bytes(content)
  with pytest.raises(ValueError, match=message):
    load(str(path))


def test_absurdly_long_lines_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(text_files, 'MAX_LINE', 10)
  monkeypatch.setattr(text_files, '_MAX_BYTES', 48)
  path = write(tmp_path / 'a', ['ä' * 10, 'ö' * 11])
  with pytest.raises(ValueError, match='a:2: a line of more than 10 char'):
    text_files.read_lines(path)
  path = write(tmp_path / 'b', ['x' * 100])
  with pytest.raises(ValueError, match='b:1: a line of more than 10 char'):
    text_files.read_lines(path)
  path = write(tmp_path / 'c', ['😀' * 10])
  assert text_files.read_lines(path) == ['😀' * 10]


def test_missing_things_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='nowhere.tsv: no such file'):
    load(str(tmp_path / 'nowhere.tsv'))
  with pytest.raises(ValueError, match='a folder'):
    load(str(tmp_path), str(tmp_path))
  with pytest.raises(ValueError, match=r"no files for split 'test'.*'train'"):
    text.load('test', files={'train': 'a.tsv'})
  with pytest.raises(ValueError, match='3 paths; give 1 to 2'):
    load('a', 'b', 'c')


def test_environment_variables_are_expanded(tmp_path, monkeypatch):
  monkeypatch.setenv('TEXT_FOLDER', str(tmp_path))
  write(tmp_path / 'a.tsv', ['a\tb'])
  assert load('$TEXT_FOLDER/a.tsv').source == ('a',)
  assert load('${TEXT_FOLDER}/a.tsv').source == ('a',)
  monkeypatch.delenv('TEXT_FOLDER')
  with pytest.raises(ValueError, match='TEXT_FOLDER is not set; set it'):
    load('$TEXT_FOLDER/a.tsv')


def test_corpus_refuses_sides_that_do_not_match():
  with pytest.raises(ValueError, match='x: 2 source and 1 target'):
    corpus.of_sides(('a', 'b'), ('c',), 'x')
  with pytest.raises(ValueError, match='x: no sentences'):
    corpus.of_sides((), (), 'x')


def test_multi30k_is_aligned():
  folder = os.environ.get('TT_COMPRESS_DATA')
  if not folder or not os.path.isdir(os.path.join(folder, 'multi30k')):
    pytest.skip('TT_COMPRESS_DATA names no folder with multi30k')
  path = '$TT_COMPRESS_DATA/multi30k/val'
  found = load(f'{path}.de.gz', f'{path}.en.gz')
  assert len(found) == 1014
  assert found.source[0].startswith('Eine Gruppe von Männern')
  assert found.target[0].startswith('A group of men')
