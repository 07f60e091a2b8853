"""Vocabularies of pretrained models, against the libraries and transformers."""

import io
import json
import re
import sys

import numpy as np
import pytest
import sentencepiece

pytest.importorskip('tokenizers', reason='the extra pretrained is missing')

from tests.pretrained import test_gguf, texts  # noqa: E402
from tt_compress.data import vocabularies  # noqa: E402

NUM = 50
TEXTS = (
  'the theory of the other',
  'Naïve façade — „Straße“ 你好 ☃ 🙂',
  '  two  spaces\tand a line\n\nfeed ',
  'in 1984, 3.14 and 007',
  "I'm sure they'll say it's",
  f'{texts.SPECIALS[1]}the{texts.SPECIALS[0]}',
  '',
)


def load(folder, **options):
  options = {'max_size': 1000, 'cache_dir': '', 'folder': str(folder)} | options
  return vocabularies.train('pretrained', [], **options)


@pytest.fixture
def folder(tmp_path):
  texts.write(tmp_path)
  return tmp_path


def merged(text):
  """The ids of a text by the definition: bytes, then merges in their order."""
  names = texts.vocabulary()
  parts = re.split('(' + '|'.join(map(re.escape, texts.SPECIALS)) + ')', text)
  found = []
  for part in parts:
    if part in texts.SPECIALS:
      found.append(names.index(part))
      continue
    words = re.findall(
      r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+",
      part,
    )
    for word in words:
      tokens = [byte_name(b) for b in word.encode()]
      for pair in texts.MERGES:
        k = 0
        while k + 1 < len(tokens):
          if tuple(tokens[k : k + 2]) == pair:
            tokens[k : k + 2] = [''.join(pair)]
          k += 1
      found += [names.index(token) for token in tokens]
  return found


def byte_name(byte):
  """The character of a byte in GPT-2: visible ones stand for themselves."""
  visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
  if byte in visible:
    return chr(byte)
  return chr(256 + [b for b in range(256) if b not in visible].index(byte))


def check_byte_level(words):
  for text, ids in zip(TEXTS, words.encode(TEXTS), strict=True):
    assert ids.dtype == np.int32
    assert ids.tolist() == merged(text)
  for text in TEXTS[:5]:
    [ids] = words.encode([text])
    assert words.decode([words.bos_id, *ids, words.eos_id, 9]) == text
  assert (words.eos_id, words.bos_id, words.pad_id, words.unk_id) == (
    *(0, 1),
    *(None, None),
  )


def test_the_ids_of_a_folder(folder, tmp_path):
  words = load(folder)
  assert len(words) == 2 + 256 + len(texts.MERGES)
  check_byte_level(words)
  words.save(tmp_path / f'a{words.suffix}')
  found = vocabularies.load(tmp_path / f'a{words.suffix}')
  assert found.digest == words.digest
  check_byte_level(found)


def test_an_absent_special_token_leaves_that_of_the_other_file(folder):
  settings = folder / 'tokenizer_config.json'
  settings.write_text(json.dumps({'eos_token': None}))
  special = {'eos_token': texts.SPECIALS[1]}
  (folder / 'special_tokens_map.json').write_text(json.dumps(special))
  assert load(folder).eos_id == 1


def test_a_missing_library_is_named(tmp_path, monkeypatch):
  test_gguf.write(tmp_path / 'a.gguf', metadata(), {})
  monkeypatch.setitem(sys.modules, 'tokenizers', None)
  with pytest.raises(ModuleNotFoundError, match='pip install tokenizers'):
    load(tmp_path / 'a.gguf')


def test_the_end_of_a_line_may_be_another_token(folder):
  words = load(folder, end='\n')
  assert words.decode([*words.encode(['the'])[0], words.eos_id, 20]) == 'the'
  assert words.encode(['\n'])[0].tolist() == [words.eos_id]
  with pytest.raises(ValueError, match=r"tokenizer.json: 'in' has 2 tokens"):
    load(folder, end='in')


def metadata(**others):
  names = texts.vocabulary()
  kinds = np.array([3 if t in texts.SPECIALS else 1 for t in names], np.float32)
  found = {
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'gpt-2',
    'tokenizer.ggml.tokens': names,
    'tokenizer.ggml.token_type': kinds,
    'tokenizer.ggml.merges': [' '.join(pair) for pair in texts.MERGES],
    'tokenizer.ggml.eos_token_id': 0,
    'tokenizer.ggml.bos_token_id': 1,
  }
  return found | {f'tokenizer.ggml.{k}': v for k, v in others.items()}


def test_the_ids_of_a_gguf_file(tmp_path):
  path = tmp_path / 'a.gguf'
  test_gguf.write(path, metadata(), {})
  check_byte_level(load(path))
  test_gguf.write(path, metadata(pre='smollm'), {})
  # Each digit by itself, without the space before it.
  [ids] = load(path).encode(['the 12'])
  names = texts.vocabulary()
  assert ids.tolist() == [names.index(t) for t in ('the', 'Ġ', '1', '2')]


def test_tokens_that_users_have_added_are_found_as_a_whole(tmp_path):
  kinds = metadata()['tokenizer.ggml.token_type'].copy()
  kinds[0] = 4
  test_gguf.write(tmp_path / 'a.gguf', metadata(token_type=kinds), {})
  check_byte_level(load(tmp_path / 'a.gguf'))


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    (dict(model='llama'), r"a.gguf: tokenizer.ggml.model='llama' is not"),
    (dict(pre='qwen2'), r"a.gguf: tokenizer.ggml.pre='qwen2' is not"),
    (dict(merges=['a bc']), r'a.gguf holds no byte-level BPE .*bc'),
    (dict(tokens=['a', 'a']), r'a.gguf holds no byte-level BPE .*1 tokens'),
    (dict(token_type=3), r'a.gguf holds no byte-level BPE'),
    (dict(eos_token_id='a'), r'a.gguf holds no byte-level BPE'),
    (dict(eos_token_id=999), r'a.gguf: the special token 999 is not in the v'),
  ],
)
def test_other_gguf_files_are_refused(changed, message, tmp_path):
  test_gguf.write(tmp_path / 'a.gguf', metadata(**changed), {})
  with pytest.raises(ValueError, match=message):
    load(tmp_path / 'a.gguf')


def pieces(folder, name='spiece.model', **ids):
  """Writes a model of SentencePiece and returns its processor."""
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([*TEXTS[:5], 'the end'] * 4),
    model_writer=model,
    vocab_size=NUM,
    model_type='unigram',
    minloglevel=2,
    num_threads=1,
    **ids,
  )
  (folder / name).write_bytes(model.getvalue())
  found = sentencepiece.SentencePieceProcessor()
  found.load_from_serialized_proto(model.getvalue())
  return found


def test_the_ids_of_t5(tmp_path):
  theirs = pieces(tmp_path, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
  words = load(tmp_path)
  assert (words.pad_id, words.eos_id, words.unk_id, words.bos_id) == (
    *(0, 1, 2),
    None,
  )
  for text, ids in zip(TEXTS, words.encode(TEXTS), strict=True):
    assert ids.tolist() == theirs.encode(text)
    assert words.decode([*ids, 1, 5]) == theirs.decode(ids.tolist())


def test_the_ids_of_marian(tmp_path):
  """Pieces of two models have the ids of one table."""
  source = pieces(tmp_path, 'source.spm')
  target = pieces(tmp_path, 'target.spm')
  names = [source.id_to_piece(i) for i in range(3, NUM)]
  table = {name: i for i, name in enumerate(['</s>', '<unk>', *names[::-1]])}
  table['<pad>'] = len(table)
  (tmp_path / 'vocab.json').write_text(json.dumps(table))
  special = {'eos_token': '</s>', 'unk_token': '<unk>', 'pad_token': '<pad>'}
  (tmp_path / 'special_tokens_map.json').write_text(json.dumps(special))
  for words, theirs in (
    (load(tmp_path), source),
    (load(tmp_path, is_target=True), target),
  ):
    assert (words.eos_id, words.unk_id, words.pad_id) == (0, 1, NUM - 1)
    for text, ids in zip(TEXTS, words.encode(TEXTS), strict=True):
      expected = theirs.encode(text, out_type=str)
      assert ids.tolist() == [table.get(piece, 1) for piece in expected]
    [ids] = words.encode(['the other'])
    assert words.decode([*ids, NUM - 1, 0, 7]) == 'the other'


def test_bad_folders_are_refused(folder, tmp_path):
  path = folder / 'tokenizer.json'
  with pytest.raises(ValueError, match=r'tokenizer.json has 261 .* only 260'):
    load(folder, max_size=260)
  whole = path.read_text()
  path.write_text(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match='tokenizer.json'):
    load(folder)
  without = {k: v for k, v in json.loads(whole).items() if k != 'model'}
  path.write_text(json.dumps(without))
  with pytest.raises(
    ValueError, match=r'tokenizer.json is a tokenizer without'
  ):
    load(folder)
  path.write_text(json.dumps(json.loads(whole) | {'model': {'type': 'BPE'}}))
  with pytest.raises(ValueError, match=r'tokenizer.json: .*tokenizers refuses'):
    load(folder)
  path.write_text(whole)
  settings = folder / 'tokenizer_config.json'
  settings.write_text(json.dumps({'eos_token': '<|no|>'}))
  with pytest.raises(ValueError, match=r"special token '<\|no\|>' is not in"):
    load(folder)
  settings.write_text(json.dumps({'eos_token': {'id': 0}}))
  with pytest.raises(ValueError, match=r"has eos_token={'id': 0}, which is no"):
    load(folder)
  settings.unlink()
  path.unlink()
  with pytest.raises(
    ValueError, match='has no tokenizer: none of tokenizer.json'
  ):
    load(folder)
  (folder / 'spiece.model').write_bytes(b'\x0a\x0f\x0a')
  with pytest.raises(ValueError, match='spiece.model'):
    load(folder)
  with pytest.raises(ValueError, match='vocabulary_options.folder'):
    load('')


@pytest.mark.filterwarnings('ignore:Recommended. pip install sacremoses')
def test_the_ids_are_those_of_transformers(folder, tmp_path):
  for peer in ('torch', 'transformers'):
    pytest.importorskip(peer, reason=f'{peer} is of the extra peers')
  import transformers

  theirs = transformers.AutoTokenizer.from_pretrained(folder)
  words = load(folder)
  plain = dict(add_special_tokens=False, padding=False, truncation=False)
  for text, ids in zip(TEXTS, words.encode(TEXTS), strict=True):
    assert ids.tolist() == theirs(text, **plain)['input_ids']
  for name, ids in (
    ('T5Tokenizer', dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)),
    ('MarianTokenizer', {}),
  ):
    other = tmp_path / name
    other.mkdir()
    first = 'source.spm' if 'Marian' in name else 'spiece.model'
    processor = pieces(other, first, **ids)
    if 'Marian' in name:
      pieces(other, 'target.spm')
      table = {'</s>': 0, '<unk>': 1} | {
        processor.id_to_piece(i): i - 1 for i in range(3, NUM)
      }
      table['<pad>'] = len(table)
      (other / 'vocab.json').write_text(json.dumps(table))
      settings = {'source_lang': 'de', 'target_lang': 'en'}
      (other / 'tokenizer_config.json').write_text(json.dumps(settings))
    theirs = getattr(transformers, name).from_pretrained(other)
    words = load(other)
    for text, ids in zip(TEXTS[:5], words.encode(TEXTS[:5]), strict=True):
      assert ids.tolist() == theirs(text, **plain)['input_ids'], (name, text)
