"""Questions of SQuAD 1.1, a reader, and its embedding as word2ketXS.

Rows dissertation-T3 of "Improving Space Efficiency of Deep Neural Networks",
chapter 3: the document reader of DrQA, whose embedding of 118,655 words starts
at random and is trained.

    export TT_COMPRESS_DATA=...   # holds squad-v1.1-partial/*.jsonl.gz
    python -m tt_compress.main --config=configs/squad_word2ketxs.py
    python -m tt_compress.main --config=configs/squad_word2ketxs.py:dense
    python -m tt_compress.main \
      --config=configs/squad_word2ketxs.py:size=published --mode=plan
    echo '{"context": "The cup is red.", "question": "What is red?"}' | \
      python -m tt_compress.main --config=configs/squad_word2ketxs.py \
      --mode=predict
"""

from tt_compress import configuration

SIZES = {
  'small': dict(vocab_size=20_000, embed_dim=128, hidden_dim=64),
  'published': dict(vocab_size=118_655, embed_dim=300, hidden_dim=128),
}
METHODS = 'word2ketxs', 'dense'


def get_config(arguments=''):
  arguments = configuration.parse(
    arguments, size='small', method='word2ketxs', order=4, rank=1, seed=0
  )
  size = configuration.choose(arguments, 'size', SIZES)
  method = configuration.choose(arguments, 'method', METHODS)
  config = configuration.defaults(
    'squad_word2ketxs', arguments, model='reader', task='question_answering'
  )
  config.seed = arguments['seed']
  config.model.update(SIZES[size])
  config.data.options = dict(
    files=dict(
      train='$TT_COMPRESS_DATA/squad-v1.1-partial/train_subset.jsonl.gz',
      test='$TT_COMPRESS_DATA/squad-v1.1-partial/dev_partial.jsonl.gz',
    ),
    num_validation=1000,
  )
  config.num_steps = 2000
  if method != 'dense':
    config.compress = (
      (
        'embed',
        dict(
          name='word2ketxs', order=arguments['order'], rank=arguments['rank']
        ),
      ),
    )
  config.optimizer.update(
    name='adamax',
    learning_rate=2e-3,
    schedule='constant',
    warmup_steps=0,
    clip_norm=10.0,
  )
  config.evaluation.every = 140
  return configuration.finish(config, arguments)
