"""Words of a text, by hand."""

import pytest

from tt_compress.data import word_splitting


@pytest.mark.parametrize(
  'options, text, words',
  [
    (dict(), 'Not bad, 3.5!', 'Not|bad,|3.5!'),
    (dict(lower_case=True), 'Not BAD', 'not|bad'),
    (dict(tokenizer='13a'), "It's bad, 3.5 of 10!", "It's|bad|,|3.5|of|10|!"),
    (dict(markup=r'<br\s*/?>'), 'one<br />two<br>3 < 4', 'one|two|3|<|4'),
    (dict(pattern=r'\w+'), 'a-b, c', 'a|b|c'),
  ],
)
def test_words(options, text, words):
  splitting = word_splitting.WordSplitting(**options)
  assert list(splitting.words(text)) == words.split('|')


def test_the_version_of_a_tokenizer_is_recorded():
  assert word_splitting.WordSplitting().version == ''
  version = word_splitting.WordSplitting(tokenizer='13a').version
  assert version.startswith('sacrebleu ')


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(pattern='('), r"pattern='\(' is no regular expression"),
    (dict(markup='['), r"markup='\[' is no regular expression"),
    (dict(tokenizer='x'), r"tokenizer='x' must be one of \['13a'\]"),
  ],
)
def test_bad_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    word_splitting.WordSplitting(**options)
