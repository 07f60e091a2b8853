"""The suite that compares translations with those of other engines."""

import json
import os
import stat
import sys

import pytest

from benchmarks import decode_peers, peer_cases
from tt_compress import timing

FAKE = """#!{python}
import json, sys
if '-c' not in sys.argv:
  print('1.2.3', flush=True)
  for line in sys.stdin:
    print(json.dumps([[5] * 6 for source in json.loads(line)]), flush=True)
"""


@pytest.fixture
def made_up_times(monkeypatch):
  def interleaved(functions, **options):
    for function in functions.values():
      assert [len(ids) for ids in function()] == [6, 6]
    return {name: [0.5 if name == 'ours' else 2.0] for name in functions}

  monkeypatch.setattr(timing, 'interleaved', interleaved)


def test_a_record_for_each_engine(tmp_path, monkeypatch, made_up_times):
  path = tmp_path / 'bin' / 'python'
  path.parent.mkdir()
  path.write_text(FAKE.format(python=sys.executable))
  path.chmod(path.stat().st_mode | stat.S_IXUSR)
  monkeypatch.setenv('TT_COMPRESS_PEERS', str(tmp_path))
  [case] = decode_peers.TINY
  monkeypatch.setattr(
    decode_peers, 'translator', lambda *_: lambda _: [[5] * 6, [6] * 6]
  )
  found = decode_peers.measure([case], rounds=1)
  assert [record['kind'] for record in found] == list(case.goals)
  for record in found:
    assert (record['ratio'], record['same']) == (0.25, 0.5)
    assert record['version'] == '1.2.3'
  assert len(decode_peers.table(found).splitlines()) == 2 + len(case.goals)
  json.dumps(found)


def test_missing_engines_say_how_to_install_them(monkeypatch):
  monkeypatch.setenv('TT_COMPRESS_PEERS', 'no-such-folder')
  with pytest.raises(
    ModuleNotFoundError, match="'torch' in no-such-f"
  ) as found:
    decode_peers.measure(decode_peers.TINY, rounds=1)
  assert all(line in str(found.value) for line in peer_cases.INSTALL)


@pytest.mark.skipif(
  not os.environ.get('TT_COMPRESS_PEERS'),
  reason='TT_COMPRESS_PEERS names no environment with other packages',
)
def test_the_engines_translate_alike():
  found = decode_peers.measure(decode_peers.TINY, rounds=1)
  for record in found:
    assert record['same'] == 1 or 'int8' in record['kind']
