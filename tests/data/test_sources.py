import typing

import pytest

from tt_compress.data import sources


def test_sources_have_one_interface(tmp_path):
  path = tmp_path / 'a.tsv'
  path.write_text('ja\tyes\n')
  assert set(sources.SOURCES) == set(typing.get_args(sources.Kind))
  assert set(sources.SOURCES['pairs']) == {
    'embedded',
    'embedded_headlines',
    'parallel_text',
    'text',
    'tfds',
  }
  found = sources.load('pairs', 'text', 'test', files={'test': str(path)})
  assert (found.source, found.target) == (('ja',), ('yes',))
  found = sources.load('pairs', 'embedded', 'validation', num_validation=3)
  assert len(found) == 3
  found = sources.load('labeled images', 'generated', 'test', num_test=11)
  assert len(found) == len(found.labels) == 11


@pytest.mark.parametrize(
  'kind, source, message',
  [
    ('pairs', 'mnist', "'mnist' holds labeled images; sources of pairs are"),
    ('labeled text', 'mnist', "'mnist' holds labeled images; .*'labeled_text"),
    ('table rows', 'criteo', "'criteo' is unknown; .*table rows.*'table_fi"),
  ],
)
def test_a_source_of_another_kind(kind, source, message):
  with pytest.raises(ValueError, match=message):
    sources.load(kind, source, 'train')


@pytest.mark.parametrize(
  'source, split, options, message',
  [
    ('embedded', 'dev', {}, r"unknown split 'dev'; .*'train', 'validation', "),
    ('embedded', 'train', {'size': 3}, r"unknown option 'size' .*'num_train'"),
    ('text', 'train', {'files_': 3}, r"unknown option 'files_' .*'files'"),
    ('text', 'train', {}, r"source 'text' needs the option 'files'"),
    ('tfds', 'train', {'name': 'a'}, r"needs the option 'source_language'"),
  ],
)
def test_unknown_names_are_listed(source, split, options, message):
  with pytest.raises(ValueError, match=message):
    sources.load('pairs', source, split, **options)
