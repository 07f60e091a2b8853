import pytest

from tt_compress.data import sources


def test_sources_have_one_interface(tmp_path):
  path = tmp_path / 'a.tsv'
  path.write_text('ja\tyes\n')
  assert set(sources.SOURCES) == {'embedded', 'text', 'tfds'}
  found = sources.load('text', 'test', files={'test': str(path)})
  assert (found.source, found.target) == (('ja',), ('yes',))
  assert len(sources.load('embedded', 'validation', num_validation=3)) == 3


@pytest.mark.parametrize(
  'source, split, options, message',
  [
    ('wmt', 'train', {}, r"unknown source 'wmt'; .*\['embedded', 'text', 'tf"),
    ('text', 'dev', {}, r"unknown split 'dev'; .*'train', 'validation', 'te"),
    ('embedded', 'train', {'size': 3}, r"unknown option 'size' .*'num_train'"),
    ('text', 'train', {'files_': 3}, r"unknown option 'files_' .*'files'"),
    ('text', 'train', {}, r"source 'text' needs the option 'files'"),
    ('tfds', 'train', {'name': 'a'}, r"needs the option 'source_language'"),
  ],
)
def test_unknown_names_are_listed(source, split, options, message):
  with pytest.raises(ValueError, match=message):
    sources.load(source, split, **options)
