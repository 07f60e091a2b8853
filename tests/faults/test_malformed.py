"""Malformed input: a clear error, or the right value; nothing else."""

import gzip
import io
import json
import lzma
import os
import random
import struct
import tracemalloc

import pytest

from tests.faults import fuzzing, readers
from tt_compress.data import corpus, text, text_files, tfds, vocabularies
from tt_compress.training import metrics, records, workdir

MEGABYTES = 2**20
LONG = b'x' * (10 * MEGABYTES)


def header(*sizes):
  return bytes([0, 0, 8, len(sizes)]) + struct.pack(f'>{len(sizes)}I', *sizes)


def good(name, file=None):
  files = readers.READERS[name].files
  return files[file or next(iter(files))]


IMAGES = 'train-images-idx3-ubyte'
SETTINGS = json.loads(good('safetensors'))
CONFIG = json.loads(good('config'))
QUESTION = json.loads(good('questions jsonl'))


def changed(content, **entries):
  return json.dumps(content | entries).encode()


def bomb(opener, size):
  """A packed file of lines, much larger than it looks."""
  file = io.BytesIO()
  with opener(file, 'wb') as packed:
    for _ in range(size // MEGABYTES):
      packed.write((b'a\t' + b'b' * 1021 + b'\n') * 1024)
  return file.getvalue()


# A Parquet file begins and ends with its name, before which its tables are.
DAMAGED = good('parquet')[:-9] + b'\xff' + good('parquet')[-8:]

# Reader, {file: content}, what the error says.
REFUSED = [
  ('aligned', {'a.de': b'Ja\nN\xffin\n'}, r'a\.de:2: invalid UTF-8 at byte 1'),
  ('aligned', {'a.en': b'Yes\nN\0\n'}, r'a\.en:2: NUL byte'),
  ('aligned', {'a.de': LONG}, r'a\.de:1: a line of more than 1000000 char'),
  ('aligned', {'a.de': b''}, r'a\.de: empty file'),
  ('aligned', {'a.en': b'Yes\n'}, r'2 lines in .*a\.de but 1 in .*a\.en'),
  ('aligned', {'a.en': b'Y\n' * 3}, r'2 lines in .*a\.de but 3 in .*a\.en'),
  ('aligned', {'a.de': b' \n\t\n'}, r'none of 2 pairs has text'),
  ('tsv', {'a.tsv': b'a\tb\na\n'}, r'a\.tsv:2: 1 columns, not 2'),
  ('tsv', {'a.tsv': 'a\tb\n'.encode('utf-16')}, r'a\.tsv:1: '),
  ('gz', {'a.tsv.gz': good('gz')[:-9]}, r'a\.tsv\.gz: cannot read it to its e'),
  ('gz', {'a.tsv.gz': good('tsv')}, r'a\.tsv\.gz: cannot read it'),
  ('gz', {'a.tsv.gz': good('xz')}, r'a\.tsv\.gz: cannot read it'),
  (
    'gz',
    {'a.tsv.gz': bomb(gzip.open, 24 * MEGABYTES)},
    r'than 200 times its s',
  ),
  ('gz', {'a.tsv.gz': gzip.compress(LONG, 1)}, r'gz:1: a line of more than'),
  ('gz', {'a.tsv.gz': good('gz') + b'rest'}, r'a\.tsv\.gz: cannot read it'),
  ('xz', {'a.tsv.xz': good('xz') + b'restYZ'}, r'a\.tsv\.xz: cannot read it'),
  (
    'xz',
    {'a.tsv.xz': good('xz') + good('xz').replace(b'7zXZ', b'7zXY')},
    r'a\.tsv\.xz: cannot read it',
  ),
  ('xz', {'a.tsv.xz': good('xz')[:-5]}, r'a\.tsv\.xz: cannot read it to its e'),
  (
    'xz',
    {'a.tsv.xz': bomb(lzma.open, 24 * MEGABYTES)},
    r'than 200 times its s',
  ),
  ('jsonl', {'a.jsonl': b'{"source": "a"'}, r'a\.jsonl:1: bad JSON'),
  ('jsonl', {'a.jsonl': b'3\n'}, r'a\.jsonl:1: a JSON object is expected'),
  ('jsonl', {'a.jsonl': b'{"source": "a"}'}, r"a\.jsonl:1: no key 'target'"),
  ('jsonl', {'a.jsonl': b'{"n": ' + b'9' * 5000 + b'}'}, r'jsonl:1: bad JSON'),
  ('jsonl', {'a.jsonl': b'[' * 100_000}, r'a\.jsonl:1: bad JSON'),
  (
    'jsonl',
    {'a.jsonl': b'{"source": ["a"], "target": "b"}'},
    r"'source' is \['a'\], not a string",
  ),
  (
    'jsonl',
    {'a.jsonl': b'{"source": "\\ud83d", "target": "b"}'},
    r'a\.jsonl:1: .*half a surrogate',
  ),
  ('parquet', {'a.parquet': b'ein Text\n'}, r'a\.parquet: no Parquet file'),
  ('parquet', {'a.parquet': DAMAGED}, r'a\.parquet: .* or a damaged one'),
  ('parquet', {'a.parquet': readers.parquet_file([])}, r'parquet: no rows'),
  ('labels', {'a.txt': b'-1\tso\n'}, r"a\.txt:1: label '-1' is not an integer"),
  ('labels', {'a.txt': b'1\t \n'}, r'a\.txt:1: blank text'),
  (
    'labels',
    {'a.txt': b'9' * 30 + b'\tso\n'},
    r"a\.txt:1: label '9{30}' is no",
  ),
  ('labels', {'a.txt': b'9' * 5000 + b'\tso\n'}, r'a\.txt:1: label'),
  (
    'labels',
    {'a.txt': 'Ⅳ\tso\n'.encode()},
    r'a\.txt:1: label .* no|not an int',
  ),
  (
    'labels jsonl',
    {'a.jsonl': b'{"label": {}, "text": "a"}'},
    r'jsonl:1: label',
  ),
  ('questions', {'a.json': b'{"data": [{'}, r'a\.json: bad JSON .*line 1'),
  (
    'questions',
    {'a.json': b'{"data": 3}'},
    r"a\.json: 'data' is 3, not a list",
  ),
  ('questions', {'a.json': b'[]'}, r"a\.json: no object with 'data'"),
  ('questions', {'a.json': b'\xff\xfe{}'}, r'a\.json: bad JSON'),
  (
    'questions jsonl',
    {'a.jsonl': changed(QUESTION, answer_start=1)},
    r"a\.jsonl:1: the answer 'Paris' does not start at character 1",
  ),
  (
    'questions jsonl',
    {'a.jsonl': changed(QUESTION, answer_start=True)},
    r"a\.jsonl:1: 'answer_start' is True, not an integer",
  ),
  ('csv', {'a.csv': b'y,x,z\n'}, r'/a\.csv: no rows'),
  ('csv', {'a.csv': b'y,x,z\n-1,2,3\n'}, r"a\.csv:2: y is '-1', not a class"),
  (
    'safetensors in parts',
    {'model.safetensors.index.json': b'{"weight_map": {"a": "\\ud800"}}'},
    r"index\.json names files outside of its folder: \['\\ud800'\]",
  ),
  ('csv', {'a.csv': b'y,x,z\n1,2\n'}, r'a\.csv:2: 2 columns, not 3'),
  (
    'csv',
    {'a.csv': b'y,x,z\n1,2,nan\n'},
    r"a\.csv:2: z is 'nan', not a finite",
  ),
  ('csv', {'a.csv': b'y,x,z\n1,2,1e999\n'}, r"a\.csv:2: z is '1e999'"),
  ('csv', {'a.csv': b'y,x,z\n1,' + b'9' * 20 + b',1\n'}, r'a\.csv:2: x is'),
  ('csv', {'a.csv': b'y,x,z\n"1,2,3\n'}, r'a\.csv:\d: unexpected end of data'),
  ('csv', {'a.csv': b'y,x,x\n1,2,3\n'}, r"a\.csv: column 'x' must be one of"),
  ('criteo', {'a.tsv': good('criteo')[:-1]}, r'a\.tsv:4: .*middle of a row'),
  ('criteo', {'a.tsv': b'2' + good('criteo')[1:]}, r"a\.tsv:1: label is '2'"),
  ('criteo', {'a.tsv': b'1\t2\n'}, r'a\.tsv:1: 2 fields, not the 40'),
  ('criteo', {'a.tsv': b''}, r'a\.tsv: the file has no rows'),
  ('criteo', {'a.tsv': gzip.compress(good('criteo'))}, r'it holds gzip data'),
  ('criteo', {'a.tsv': LONG}, r'a\.tsv:1: a line of more than'),
  (
    'criteo',
    {'a.tsv': good('criteo').replace(b'05db9164', b'05db916\0', 1)},
    r"a\.tsv:1: C1 is '05db916\\x00', not 8 hexadecimal digits",
  ),
  ('avazu', {'a.csv': b'id,klick\n'}, r"a\.csv:1: the columns are \['id', 'kl"),
  (
    'avazu',
    {'a.csv': good('avazu').replace(b'14102100', b'yesterday', 1)},
    r"a\.csv:2: hour is 'yesterday', not digits",
  ),
  ('stream', {'a.txt': b'a\n\xc3\n'}, r'a\.txt:2: invalid UTF-8'),
  ('idx', {IMAGES: header(2**31, 2**31, 2**31)}, r'0 bytes of data.*truncated'),
  ('idx', {IMAGES: good('idx') + b'x'}, r'ubyte: 25 bytes of data.*too long'),
  ('idx', {IMAGES: header(3, 2)}, r'ubyte: .*truncated|wrong magic'),
  ('idx', {IMAGES: header(2, 2, 6) + bytes(24)}, r'2 examples and 3 labels'),
  (
    'idx gz',
    {f'{IMAGES}.gz': gzip.compress(header(1, 1, 1) + bytes(24 * MEGABYTES))},
    r'ubyte\.gz: it holds more than 200 times its size',
  ),
  ('idx gz', {f'{IMAGES}.gz': good('idx')}, r'ubyte\.gz: cannot read it'),
  ('words', {'vocabulary.json': b'{}'}, r'vocabulary\.json: not a vocabulary'),
  ('words', {'vocabulary.json': b'[3]'}, r'vocabulary\.json: not a vocabulary'),
  (
    'words',
    {'vocabulary.json': good('words').replace(b'<unk>', b'<unc>')},
    r'vocabulary\.json: specials=',
  ),
  (
    'pieces',
    {'vocabulary.model': b'no model'},
    r'model: not a SentencePiece m',
  ),
  ('pieces', {'vocabulary.model': b''}, r'vocabulary\.model: '),
  ('bytes', {'vocabulary.bytes': b'bits'}, r'bytes: not a vocabulary of bytes'),
  ('config', {'config.json': b'{"task": '}, r'config\.json is damaged: .*JSON'),
  ('config', {'config.json': b'[]'}, r'config\.json is damaged: it holds a li'),
  ('config', {'config.json': b'{}'}, r'config\.json is not the configuration'),
  (
    'config',
    {'config.json': changed(CONFIG, model=3)},
    r'json is not the confi',
  ),
  ('results', {'results.json': b'{"test": 1}'}, r'results\.json .* lacks'),
  ('data', {'data.json': b'\0'}, r'data\.json is damaged: it is not JSON'),
  ('fit', {'fit.json': b'null'}, r'fit\.json is damaged: it holds a NoneType'),
  (
    'safetensors',
    {'model.safetensors': b'\xff' * 99},
    r'cannot read .*safeten',
  ),
  (
    'safetensors',
    {'model.safetensors': struct.pack('<Q', 2**62) + b'{}'},
    r'cannot read .*safetensors: .*copy it again',
  ),
  (
    'safetensors',
    {'config.json': b'{"model_type": []}'},
    r'model_type=\[\] is n',
  ),
  (
    'safetensors',
    {'config.json': changed(SETTINGS, n_embd={})},
    r'config\.json has settings of other types than a gpt2',
  ),
  (
    'safetensors in parts',
    {'model.safetensors.index.json': b'{"weight_map": ["a"]}'},
    r'index\.json has no weight_map',
  ),
  (
    'safetensors in parts',
    {'model.safetensors.index.json': b'{"weight_map": {"a": "../a"}}'},
    r"index\.json names files outside of its folder: \['\.\./a'\]",
  ),
  ('gguf', {'a.gguf': b'GGML' + bytes(99)}, r'a\.gguf: it is no GGUF file'),
  (
    'gguf',
    {'a.gguf': good('gguf')[:-1]},
    r'the file is incomplete, copy it ag',
  ),
  (
    'gguf',
    {'a.gguf': good('gguf').replace(struct.pack('<Q', 2) * 2, b'\x7f' * 16)},
    r'a\.gguf: .* ends at byte \d+ of|does not fill',
  ),
  ('gguf', {'a.gguf': b''}, r'cannot read .*a\.gguf'),
  ('stdin', {'stdin': b'a\nb\xff\n'}, r'standard input:2: invalid UTF-8'),
  ('stdin', {'stdin': b'a\0b\n'}, r'standard input:1: NUL byte'),
  ('stdin', {'stdin': LONG}, r'standard input:1: a line of more than'),
  ('rules', {'rules': b'encoder/(\n'}, r"rule 'encoder/\(' is not a regular"),
  ('rules', {'rules': b'encoder/ffm/.*\n'}, r'rule .* matches none of 2 names'),
]

# Reader, {file: content}; equal to the reading of the good files.
ACCEPTED = [
  ('aligned', {'a.de': b'\xef\xbb\xbfGuten Tag\r\nJa\r\n'}),
  ('aligned', {'a.en': b'Good day\nYes'}),
  ('tsv', {'a.tsv': b'\xef\xbb\xbf' + good('tsv').replace(b'\n', b'\r\n')}),
  ('jsonl', {'a.jsonl': b'\xef\xbb\xbf\n' + good('jsonl')}),
  ('questions', {'a.json': b'\xef\xbb\xbf' + good('questions')}),
  ('criteo', {'a.tsv': good('criteo').replace(b'\n', b'\r\n')}),
  ('csv', {'a.csv': good('csv').replace(b'\n', b'\r\n')}),
  (
    'gz',
    {
      'a.tsv.gz': gzip.compress(good('tsv')[:9])
      + gzip.compress(good('tsv')[9:])
    },
  ),
  (
    'xz',
    {
      'a.tsv.xz': lzma.compress(good('tsv')[:9])
      + lzma.compress(good('tsv')[9:])
    },
  ),
  ('stdin', {'stdin': b'\xef\xbb\xbfGuten Tag\r\nJa'}),
  (
    'metrics',
    {'metrics.jsonl': good('metrics') + b'\xff\nnull\n{"step": "1"}\n'},
  ),
]


def read(name, folder, files):
  """What a reader makes of its files, some of them replaced."""
  for file, content in (readers.READERS[name].files | files).items():
    (folder / file).write_bytes(content)
  return readers.READERS[name](folder)


def plain(value):
  """For comparisons; names and files of data differ."""
  if isinstance(value, corpus.Corpus):
    value = list(value)
  if hasattr(value, '__dict__') and 'name' in vars(value):
    value = {k: v for k, v in vars(value).items() if k != 'name'}
  return repr(value)


@pytest.mark.parametrize('name', readers.READERS)
def test_good_files_are_read(name, tmp_path):
  read(name, tmp_path, {})


def cases(entries):
  # Not named by their content: the head of a gzip file has the time in it.
  return [
    pytest.param(*entry, id=f'{entry[0]}-{next(iter(entry[1]))}-{number}')
    for number, entry in enumerate(entries)
  ]


@pytest.mark.parametrize('name, files, told', cases(REFUSED))
def test_malformed_input_is_named(name, files, told, tmp_path):
  assert len(REFUSED) >= 60
  tracemalloc.start()
  with pytest.raises((ValueError, OSError), match=told) as caught:
    read(name, tmp_path, files)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert readers.is_clear(caught.value, tmp_path)
  assert peak < 700 * MEGABYTES


@pytest.mark.parametrize('name, files', cases(ACCEPTED))
def test_odd_input_is_read_as_it_is_meant(name, files, tmp_path):
  (tmp_path / 'good').mkdir()
  expected = read(name, tmp_path / 'good', {})
  assert plain(read(name, tmp_path, files)) == plain(expected)


def test_separators_inside_a_line_do_not_end_it(tmp_path):
  found = read('aligned', tmp_path, {'a.de': 'a\u2028b\nc\x85d\n'.encode()})
  assert found.source == ('a\u2028b', 'c\x85d')


def test_a_pipe_is_refused(tmp_path):
  os.mkfifo(tmp_path / 'a.tsv')
  with pytest.raises(ValueError, match=r'a\.tsv: a folder or a pipe'):
    text.load('train', files={'train': str(tmp_path / 'a.tsv')})


@pytest.mark.parametrize('how', ['written', 'replaced'])
def test_files_that_change_while_they_are_read_are_refused(
  tmp_path, monkeypatch, how
):
  paths = [tmp_path / 'a.de', tmp_path / 'a.en']
  for path in paths:
    path.write_bytes(b'a\nb\n')
  decode = text_files._decode

  def change(line, path, number):
    if path == str(paths[1]) and number == 1:
      for each in paths:
        if how == 'replaced':
          each.with_suffix('.new').write_bytes(b'c\nd\n')
          os.replace(each.with_suffix('.new'), each)
        else:
          os.utime(each, ns=(1, 1))
    return decode(line, path, number)

  load = lambda: text.load('train', files={'train': list(map(str, paths))})
  load()  # the control
  monkeypatch.setattr(text_files, '_decode', change)
  with pytest.raises(ValueError, match='has changed while it was read'):
    load()


def test_a_vocabulary_of_another_run_is_refused(tmp_path):
  made = read('words', tmp_path, {})
  assert len(made) == 1
  words = vocabularies.load(tmp_path / 'vocabulary.json')
  with pytest.raises(ValueError, match='outside of 0..5'):
    words.decode([6])


def test_features_of_other_packages_are_not_imported(tmp_path, monkeypatch):
  folder = tmp_path / 'data' / 'mnist' / '3.0.1'
  folder.mkdir(parents=True)
  (tmp_path / 'evil.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")')
  monkeypatch.syspath_prepend(tmp_path)
  for content in (
    {'type': 'evil.Feature', 'content': {}},
    {'featuresDict': {'features': {'a': {'pythonClassName': 'evil.Feature'}}}},
    {'jsonFeature': {'json': '{"type": "evil.Feature"}'}},
  ):
    (folder / 'features.json').write_text(json.dumps(content))
    with pytest.raises(
      ValueError, match="names 'evil.Feature', which is no cl"
    ):
      tfds.examples('mnist', 'train', (), data_dir=str(tmp_path / 'data'))
  for name in ('huggingface:squad', '../mnist', 'kubric:a/b'):
    with pytest.raises(ValueError, match='is no name of a data set'):
      tfds.examples(name, 'train', (), data_dir=str(tmp_path / 'data'))
  assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('name', ['lock', 'metrics.jsonl'])
def test_links_in_a_workdir_are_not_followed(name, tmp_path):
  outside = tmp_path / 'outside'
  outside.write_text('kept')
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / name).symlink_to(outside)
  if name == 'lock':
    with pytest.raises(OSError, match='lock is a link'):
      with workdir.locked(str(tmp_path / 'run')):
        pass
  else:  # The file takes its place.
    with metrics.Writer(tmp_path / 'run') as writer:
      writer.write(1, {'loss': 0.0})
  assert outside.read_text() == 'kept'


def test_other_validation_data_are_refused_when_a_run_resumes(tmp_path):
  facts = {'num_pairs': 3, 'validation_sha256': 'a'}
  workdir.compare_data(facts, str(tmp_path))
  workdir.compare_data(facts, str(tmp_path))
  with pytest.raises(ValueError, match='validation_sha256: a -> b'):
    workdir.compare_data(facts | {'validation_sha256': 'b'}, str(tmp_path))
  # An older version recorded none.
  records.write(str(tmp_path / 'data.json'), {'num_pairs': 3})
  workdir.compare_data(facts, str(tmp_path))


def test_readers_survive_random_changes(tmp_path):
  names, ends, problems = list(readers.READERS), set(), []
  for number in range(400):
    draw = random.Random(f'1 {number}')
    name = names[number % len(names)]
    end, problem = fuzzing.trial(name, draw, tmp_path / str(number))
    ends.add(end)
    problems += [problem] if problem else []
  assert ends == {'read', 'refused'}
  assert not problems


def test_a_bare_error_is_noticed(tmp_path, monkeypatch):
  decode = lambda line, path, number: line.decode()
  monkeypatch.setattr(text_files, '_decode', decode)
  with pytest.raises(UnicodeDecodeError) as caught:
    read('tsv', tmp_path, {'a.tsv': b'a\t\xff\n'})
  assert not readers.is_clear(caught.value, tmp_path)
