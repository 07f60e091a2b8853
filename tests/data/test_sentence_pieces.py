import concurrent.futures
import logging
import os

import numpy as np
import pytest

from tt_compress.data import (
  embedded,
  piece_trainer,
  sentence_pieces,
  vocabularies,
)


@pytest.fixture(scope='module')
def lines():
  found = embedded.load('train', num_train=300)
  return found.source + found.target


def train(lines, cache_dir, vocab_size=400, **options):
  return vocabularies.train(
    'sentencepiece',
    lines,
    max_size=vocab_size,
    cache_dir=str(cache_dir),
    **options,
  )


def test_text_survives_encoding(lines, tmp_path):
  words = train(lines, tmp_path)
  assert len(words) == 400
  assert (words.pad_id, words.bos_id, words.eos_id, words.unk_id) == (
    0,
    1,
    2,
    3,
  )
  encoded = words.encode(lines)
  assert len(encoded) == len(lines)
  for line, ids in zip(lines, encoded, strict=True):
    assert ids.dtype == np.int32
    assert ids.min() > 3
    assert words.decode([1, *ids, 2, 17, 18, 0]) == line
    assert words.decode(np.array([*ids, 0, 0])) == line
  assert words.encode([]) == []
  assert words.encode(['☃'])[0][-1] == words.unk_id
  assert words.decode([]) == ''


def test_text_in_lower_case(lines, tmp_path):
  words = train(lines, tmp_path, normalization='nmt_nfkc_cf')
  for line, ids in zip(lines, words.encode(lines), strict=True):
    assert words.decode(ids) == line.lower()


def test_encoding_in_chunks_is_the_same(lines, tmp_path, monkeypatch):
  words = train(lines, tmp_path)
  whole = words.encode(lines[:50])
  monkeypatch.setattr(sentence_pieces, '_CHUNK', 7)
  for one, other in zip(whole, words.encode(lines[:50]), strict=True):
    np.testing.assert_array_equal(one, other)


def test_training_is_deterministic_and_cached(lines, tmp_path, monkeypatch):
  first = train(lines, tmp_path / 'a')
  assert train(lines, tmp_path / 'b').digest == first.digest
  (name,) = os.listdir(tmp_path / 'a')
  assert os.listdir(tmp_path / 'b') == [name]
  train(lines[:-1], tmp_path / 'a')
  train(lines, tmp_path / 'a', vocab_size=390)
  train(lines, tmp_path / 'a', character_coverage=0.999)
  assert len(os.listdir(tmp_path / 'a')) == 4
  monkeypatch.setattr(sentence_pieces, '_train', None)  # the cache must do
  assert train(lines, tmp_path / 'a').content == first.content


def test_a_damaged_cache_is_trained_again(lines, tmp_path, caplog):
  first = train(lines, tmp_path)
  (name,) = os.listdir(tmp_path)
  (tmp_path / name).write_bytes(b'half a mod')
  with caplog.at_level(logging.WARNING):
    assert train(lines, tmp_path).digest == first.digest
  assert 'training again' in caplog.text
  kept = (tmp_path / name).read_bytes()
  assert kept.endswith(first.content)
  # Another model with the same special ids.
  changed = first.content.replace(b'en', b'Qx', 1)
  assert sentence_pieces.SentencePieces(changed).digest != first.digest
  (tmp_path / name).write_bytes(kept.replace(first.content, changed))
  assert train(lines, tmp_path).digest == first.digest


def test_small_text_caps_the_vocabulary(lines, tmp_path, caplog):
  for _ in range(2):  # trained, then from the cache
    caplog.clear()
    with caplog.at_level(logging.WARNING):
      words = train(lines[:5], tmp_path, vocab_size=5000)
    assert len(words) < 500
    assert f'capped at {len(words)} of 5000' in caplog.text


def test_a_size_below_the_alphabet_is_refused(lines, tmp_path):
  with pytest.raises(ValueError, match='vocab_size=20 is below the number'):
    train(lines, tmp_path, vocab_size=20)
  with pytest.raises(ValueError, match='no text'):
    train(['', ' '], tmp_path)
  with pytest.raises(ValueError, match='SentencePiece refused.*wrong'):
    train(lines, tmp_path, model_type='wrong')
  assert not os.listdir(tmp_path)


def test_long_lines_take_part(tmp_path):
  line = ' '.join(['Donaudampfschiff'] * 1000)
  assert len(train([line], tmp_path, vocab_size=5000)) > 4


def test_selection_is_even_and_in_the_name(lines, tmp_path):
  assert list(sentence_pieces.Sample('abcdefg', 3)) == ['a', 'd', 'g']
  assert train(lines, tmp_path, max_lines=100).digest == (
    train(list(sentence_pieces.Sample(lines, 100)), tmp_path).digest
  )
  assert len(os.listdir(tmp_path)) == 1


def test_racing_trainers_leave_one_whole_model(lines, tmp_path):
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    jobs = [pool.submit(train, lines, tmp_path) for _ in range(4)]
    digests = {job.result().digest for job in jobs}
  assert len(digests) == 1
  (name,) = os.listdir(tmp_path)
  content = (tmp_path / name).read_bytes()[32:]
  assert sentence_pieces.SentencePieces(content).digest in digests


def test_save_load_and_bytes(lines, tmp_path):
  words = train(lines, tmp_path)
  words.save(tmp_path / 'run' / 'vocabulary.model')
  for again in (
    vocabularies.load(tmp_path / 'run' / 'vocabulary.model'),
    sentence_pieces.SentencePieces(words.content),
  ):
    assert again.digest == words.digest
  assert os.listdir(tmp_path / 'run') == ['vocabulary.model']


def test_a_failed_save_leaves_the_old_file(lines, tmp_path, monkeypatch):
  words = train(lines, tmp_path / 'cache')
  path = tmp_path / 'run' / 'vocabulary.model'
  words.save(path)

  def fail(*_):
    raise OSError('disk full')

  monkeypatch.setattr(os, 'replace', fail)
  with pytest.raises(OSError, match='disk full'):
    words.save(path)
  assert os.listdir(tmp_path / 'run') == ['vocabulary.model']
  assert path.read_bytes() == words.content


def test_bad_models_and_arguments_are_refused(lines, tmp_path, monkeypatch):
  with pytest.raises(ValueError, match='not a SentencePiece model'):
    sentence_pieces.SentencePieces(b'nonsense')
  words = train(lines, tmp_path)
  with pytest.raises(ValueError, match='not one string'):
    words.encode('Hallo')
  with pytest.raises(ValueError, match='id 400 is outside of 0..399'):
    words.decode([400])
  assert words.decode([2, 400]) == ''
  monkeypatch.setitem(sentence_pieces._SPECIAL_IDS, 'pad_id', -1)
  other = train(lines, tmp_path / 'other')
  monkeypatch.undo()
  with pytest.raises(ValueError, match='has pad_id -1, not 0'):
    sentence_pieces.SentencePieces(other.content)


def test_byte_fallback_spells_the_unknown(lines, tmp_path):
  words = train(lines, tmp_path, vocab_size=700, byte_fallback=True)
  (ids,) = words.encode(['☃'])
  assert words.unk_id not in ids
  assert words.decode(ids) == '☃'


def test_a_process_trains_the_same_model(lines, tmp_path, monkeypatch, caplog):
  expected = train(lines, tmp_path / 'here')
  monkeypatch.setattr(sentence_pieces, '_MIN_BYTES', 0)
  monkeypatch.setattr(piece_trainer, '_LINES', 7)
  monkeypatch.setattr(piece_trainer, '_SECONDS', 0)
  with caplog.at_level(logging.INFO):
    found = train(lines, tmp_path / 'there')
  assert found.content == expected.content
  assert ' pieces, ' in caplog.text and ' minutes left' in caplog.text
  with pytest.raises(ValueError, match='SentencePiece refused.*wrong'):
    train(lines, tmp_path, model_type='wrong')
  assert len(train(lines[:5], tmp_path, vocab_size=5000)) < 500
  monkeypatch.setattr(piece_trainer.child_processes, 'receive', fail)
  with pytest.raises(ValueError, match='has ended with -?[0-9]+: '):
    train(lines, tmp_path, vocab_size=390)


def fail(*_):
  raise EOFError


def test_a_sample_has_a_bounded_size(monkeypatch):
  monkeypatch.setattr(sentence_pieces, '_MAX_BYTES', 40)
  lines = ['', *(f'{i:010}' for i in range(9))]
  found = sentence_pieces.Sample(lines, 100)
  assert list(found) == [f'{i:010}' for i in (0, 2, 5, 8)] and len(found) == 4
  assert found.longest == 10
  assert len(sentence_pieces.Sample(lines, None)) == 9
