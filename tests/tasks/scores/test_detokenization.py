import os

import pytest

from tt_compress.data import text_files
from tt_compress.tasks.scores import bleu, detokenization

# As the tokenizer of Moses writes them, and as they were.
LINES = {
  'we &apos;re all born . our children , too .': (
    "we're all born. our children, too."
  ),
  'it &apos;s $ 5 or 10 % ( really ) !': "it's $5 or 10% (really)!",
  'he said , &quot; don &apos;t go ! &quot; and left .': (
    'he said, "don\'t go!" and left.'
  ),
  '&quot; ja , &quot; sagte er : „ nein “ .': '"ja," sagte er: „nein“.',
  'a &amp; b &lt; c &#91; 1 &#93;': 'a & b < c [1]',
  'the end of a speech . &quot;': 'the end of a speech."',
  'and so on ...': 'and so on ...',
  '': '',
}


def test_tokens_become_text():
  assert detokenization.detokenize(list(LINES)) == list(LINES.values())


@pytest.mark.full
@pytest.mark.parametrize('language', ['de', 'en'])
def test_real_tokens_become_the_text_that_they_were(language):
  folder = os.path.join(os.environ.get('TT_COMPRESS_DATA', ''), 'iwslt14-de-en')
  if not os.path.isdir(folder):
    pytest.skip('TT_COMPRESS_DATA names no folder with iwslt14-de-en')
  read = lambda name: text_files.read_lines(f'{folder}/{name}.{language}.gz')
  talks = ('TED.dev2010', 'TEDX.dev2012', 'TED.tst2010', 'TED.tst2011')
  raw = sum((read(f'raw.{name}.de-en') for name in (*talks, 'TED.tst2012')), [])
  found = detokenization.detokenize(read('test.tok.lc'))
  assert bleu.corpus_bleu(found, raw, lowercase=True).score > 99.4
