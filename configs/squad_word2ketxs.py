"""Questions of SQuAD 1.1, a reader, and its embedding as word2ketXS.

Rows dissertation-T3 of "Improving Space Efficiency of Deep Neural Networks",
chapter 3: the document reader of DrQA, whose embedding of 118,655 words starts
at random and is trained.

    export TT_COMPRESS_DATA=...   # holds squad-v1.1-partial/*.jsonl.gz
    python -m tt_compress.main --config=configs/squad_word2ketxs.py
    python -m tt_compress.main \
      --config=configs/squad_word2ketxs.py:order=2,rank=2
    python -m tt_compress.main --config=configs/squad_word2ketxs.py:dense
    echo '{"context": "The cup is red.", "question": "What is red?"}' | \
      python -m tt_compress.main --config=configs/squad_word2ketxs.py \
      --mode=predict

The small ones take 0.9 minutes for 100 steps of one CPU core, so 15 minutes for
12 epochs, and a few more for compilation and scores; those of published size
2.3 minutes for 100 steps of the same questions.

Arguments:

- `size=small`: an embedding of 20,000 words in lower case x 128, LSTMs of 64,
  12 epochs; `published`: 118,655 words x 300, LSTMs of 128, 40 epochs;
- `data=partial`: 4,330 training questions, 1,002 of SQuAD's development
  questions for validation and 8,378 others as test; `squad`: 87,599 and 10,570
  from TFDS, the same for validation and test, as published;
- `method=word2ketxs`, `order=4`, `rank=1`; `method=dense`;
- `seed=0`, `dense`, `tiny`.

Published: F1 70.65 with an embedding of 380 parameters, four 19 x 5 matrices,
tested; 24,840 in order 2 and rank 2, tested. The command is

    python -m tt_compress.main \
      --config=configs/squad_word2ketxs.py:size=published,data=squad

Of the features of DrQA, part of speech and named entities are left out, and the
lemma of a word is the word in lower case. Training reads no padding, where the
released code does.
"""

from tt_compress import configuration

# Model, and epochs.
SIZES = {
  'small': (dict(vocab_size=20_000, embed_dim=128, hidden_dim=64), 12),
  'published': (dict(vocab_size=118_655, embed_dim=300, hidden_dim=128), 40),
}
# Steps of 32 questions per epoch, and the source.
DATA = {
  'partial': (
    137,
    'question_files',
    dict(
      files=dict(
        train='$TT_COMPRESS_DATA/squad-v1.1-partial/train_subset.jsonl.gz',
        test='$TT_COMPRESS_DATA/squad-v1.1-partial/dev_partial.jsonl.gz',
      ),
      num_validation=1000,
    ),
  ),
  'squad': (
    2738,
    'tfds',
    dict(name='squad', splits=dict(test='validation')),
  ),
}
METHODS = 'word2ketxs', 'dense'


def get_config(arguments=''):
  arguments = configuration.parse(
    arguments,
    size='small',
    data='partial',
    method='word2ketxs',
    order=4,
    rank=1,
    seed=0,
  )
  size = configuration.choose(arguments, 'size', SIZES)
  sizes, num_epochs = SIZES[size]
  steps, source, options = DATA[configuration.choose(arguments, 'data', DATA)]
  config = configuration.defaults(
    'squad_word2ketxs', arguments, model='reader', task='question_answering'
  )
  config.seed = arguments['seed']
  config.num_steps = num_epochs * steps
  config.model.update(sizes)
  config.data.source = source
  config.data.options = options
  # Contexts of 4,330 questions have too few words in each spelling.
  config.data.vocabulary_options.lower_case = size == 'small'
  if configuration.choose(arguments, 'method', METHODS) != 'dense':
    choice = dict(
      name='word2ketxs', order=arguments['order'], rank=arguments['rank']
    )
    config.compress = (('embed', choice),)
  config.optimizer.update(
    name='adamax',
    learning_rate=2e-3,
    schedule='constant',
    warmup_steps=0,
    clip_norm=10.0,
  )
  config.evaluation.every = steps
  return configuration.finish(config, arguments)
