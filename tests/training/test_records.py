"""Files of JSON: every flipped bit is noticed, and the error names the file."""

import json

import pytest

from tt_compress.training import records

RECORD = {'loss': 0.1 + 0.2, 'name': 'ü', 'steps': [1, 2], 'best': {'step': 30}}


def read(path):
  return records.read(str(path), 'remove it')


def test_what_is_written_is_read(tmp_path):
  path = tmp_path / 'file.json'
  assert read(path) is None
  records.write(str(path), RECORD)
  assert read(path) == RECORD
  assert [p.name for p in tmp_path.iterdir()] == ['file.json']
  # The order of names is no content; an older version wrote no digest.
  content = json.loads(path.read_text())
  path.write_text(json.dumps(dict(reversed(content.items()))))
  assert read(path) == RECORD
  path.write_text(json.dumps(RECORD))
  assert read(path) == RECORD


def test_every_flipped_bit_is_noticed_or_changes_nothing(tmp_path):
  path = tmp_path / 'file.json'
  records.write(str(path), RECORD)
  data = path.read_bytes()
  unnoticed = []
  for place in range(8 * len(data)):
    flipped = bytearray(data)
    flipped[place // 8] ^= 1 << place % 8
    path.write_bytes(flipped)
    try:
      found = read(path)
    except ValueError as error:
      assert 'file.json is damaged' in str(error)
      assert 'remove it' in str(error)
    else:
      unnoticed.append(found)
  # Between spaces and tabs; or the name of the digest, which then is a record.
  assert all(found.items() >= RECORD.items() for found in unnoticed)
  assert len(unnoticed) < 0.1 * 8 * len(data)


@pytest.mark.parametrize(
  'data, told',
  [
    (b'', 'is not JSON'),
    (b'{"a": 1', 'is not JSON'),
    (b'\0' * 20, 'is not JSON'),
    (b'{"a": "\xff"}', 'is not JSON in UTF-8'),
    (b'{"a": ' + b'9' * 10_000 + b'}', 'is not JSON'),
    (b'[' * 100_000, 'is not JSON'),
    (b'5', 'holds a int instead of an object'),
    (b'null', 'holds a NoneType'),
    (b'[1]', 'holds a list'),
  ],
)
def test_damage_names_the_file_and_the_way_out(tmp_path, data, told):
  path = tmp_path / 'file.json'
  path.write_bytes(data)
  with pytest.raises(
    ValueError, match=f'file.json is damaged: .*{told}.*remove'
  ):
    read(path)
