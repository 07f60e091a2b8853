"""Words of contexts and questions, and their places, by plain Python."""

import pytest

from tt_compress.data import frequent_words, questions, reading

CONTEXT = 'The Dog saw 24\u201310 dogs, the dog of \U0001f600 Zoë.'
WORDS = ['The', 'Dog', 'saw', '24', '\u2013', '10', 'dogs', ',', 'the', 'dog']
WORDS += ['of', '\U0001f600', 'Zoë', '.']


def make(tmp_path, **options):
  return frequent_words.FrequentWords.train(
    [CONTEXT, 'Who saw the dog?'],
    max_size=12,
    cache_dir=str(tmp_path),
    specials=('<pad>', '<unk>'),
    **dict(pattern=r'\w+|[^\w\s]') | options,
  )


def read(words, contexts=(CONTEXT,), asked=('Who saw the dog?',), max_asked=9):
  places = [f'line {i}' for i in range(len(asked))]
  return reading.read(
    words, contexts, asked, max_asked=max_asked, places=places
  )


@pytest.mark.parametrize('lower_case', [False, True])
def test_words_have_their_place_and_features(tmp_path, lower_case):
  words = make(tmp_path, lower_case=lower_case)
  asked = ('Who saw the dog?', 'the DOG')
  found = read(words, (CONTEXT, CONTEXT), asked)
  lower = [word.lower() for word in WORDS]
  known = list(words.words)
  for i, question in enumerate(
    (['Who', 'saw', 'the', 'dog', '?'], ['the', 'DOG'])
  ):
    assert [CONTEXT[a:b] for a, b in found.spans[i]] == WORDS
    spelled = lower if lower_case else WORDS
    assert found.ids[i].tolist() == [
      known.index(word) if word in known else 1 for word in spelled
    ]
    lower_question = [word.lower() for word in question]
    assert found.matches[i].tolist() == [
      (word in question) + 2 * (word.lower() in lower_question)
      for word in WORDS
    ]
    assert found.counts[i].tolist() == [lower.count(word) for word in lower]
    ids = words.encode([asked[i]])[0].tolist()
    assert found.asked[i].tolist() == ids + (9 - len(ids)) * [0]
  assert found.lengths.tolist() == [len(WORDS)] * 2 and found.num_cut == 0
  assert 1 in found.ids[0]  # Twelve ids are too few for all words.


def test_long_questions_are_cut_and_counted(tmp_path):
  words = make(tmp_path)
  found = read(words, (CONTEXT, CONTEXT), ('Who saw the dog?', 'Who?'), 3)
  whole = words.encode(['Who saw the dog?'])[0]
  assert found.asked[0].tolist() == whole[:3].tolist() and found.num_cut == 1
  # The words that are cut still match.
  assert found.matches[0][WORDS.index('dog')] == 3


def test_answers_are_words_or_in_words(tmp_path):
  found = read(make(tmp_path))
  spans = found.spans[0]
  for first in range(len(WORDS)):
    for last in range(first, len(WORDS)):
      begin, end = spans[first, 0], spans[last, 1]
      answer = questions.Answer(CONTEXT[begin:end], int(begin))
      assert reading.find(spans, answer) == (first, last, True)
  at = lambda text: questions.Answer(text, CONTEXT.index(text))
  assert reading.find(spans, at('aw')) == (2, 2, False)
  assert reading.find(spans, at('4\u20131')) == (3, 5, False)
  assert reading.find(spans, at(' dogs, t')) == (6, 8, False)
  labels = reading.label(
    read(make(tmp_path), 2 * (CONTEXT,), 2 * ('a',)), [at('aw'), at('saw 24')]
  )
  assert labels.first.tolist() == [2, 2] and labels.last.tolist() == [2, 3]
  assert labels.num_unaligned == 1


def test_texts_without_words_are_named(tmp_path):
  words = make(tmp_path, pattern=r'\w+')
  with pytest.raises(ValueError, match='line 1: the question has no words'):
    read(words, ('a b', 'c'), ('Who?', '?!'))
  with pytest.raises(ValueError, match='line 0: the context has no words'):
    read(words, ('...',), ('Who?',))


def test_tokenizers_that_change_the_text_are_refused(tmp_path):
  with pytest.raises(ValueError, match="markup='<br>' and tokenizer='' change"):
    read(make(tmp_path, markup='<br>'))
