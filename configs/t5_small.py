"""T5-small, compressed, and a T5 sized for a CPU.

Rows dissertation-T4, -T5a and -T8 of "Improving Space Efficiency of Deep Neural
Networks", chapter 4: all matrices of encoder and decoder and the embedding,
which also makes the logits, as sums of Kronecker products (Shapeshifter) or in
low rank, or the matrices of the layers as PHM.

    python -m tt_compress.main \
      --config=configs/t5_small.py:size=published,data=wmt16 --mode=plan
    export TT_COMPRESS_DATA=...   # holds multi30k/{train,val,...}.{de,en}.gz
    python -m tt_compress.main --config=configs/t5_small.py
    python -m tt_compress.main --config=configs/t5_small.py:dense

The small ones take a minute for 100 steps of one CPU core, so half an hour with
compilation and validation.

Arguments:

- `size=small`: 3 + 3 layers of 192 features, 6,000 pieces, the recipe `ours`;
  `published`: T5-small, 32,128 pieces, the recipe `published`;
- `method=shapeshifter`, `low_rank`, `phm` (its embedding is dense), `dense`;
- `rank`, `embedding_rank`: of the layers (`n` of PHM) and of the embedding;
- `initialization`: of the factors; empty is 'spectral' for the recipe `ours`,
  whose rates assume it, and the default of the factors for `published`;
- `data=multi30k`, `tatoeba`, `iwslt14` (German to English), `tatoeba_ro`,
  `wmt16` (English to Romanian, from TFDS);
- `recipe=published`: LAMB, whose rate falls with the inverse root of the step
  after 15,000 steps (400 if small), and all of the start of T5; `ours`: Adam
  with rates by the structure of the factors, whose rate falls as a cosine. It
  scales embeddings and the scores of attention, because Adam's steps do not
  grow with the numbers that they change;
- `seed=0`, `dense`, `tiny`.

Parameters at published size, tested: 60,506,624 dense; 4,167,936 and 5,183,616
as Shapeshifter with rank 16 and 24; 10,535,424 in low rank 16; 19,612,160 as
PHM-16. Batches have 192 pairs of up to 128 pieces (128 for iwslt14), longer
pairs are left out; lengths of training, clipping and the search are not
published. English-Romanian is called
WMT'18, which had no Romanian; the text is that of WMT'16. `iwslt14/de-en` holds
5 % of the training pairs.
"""

from tt_compress import configuration

PAIRS = {
  'multi30k': ('multi30k/de-en', 'de', 'en'),
  'tatoeba': ('tatoeba/de-en', 'de', 'en'),
  'tatoeba_ro': ('tatoeba/en-ro', 'en', 'ro'),
  'iwslt14': ('iwslt14/de-en', 'de', 'en'),
  'wmt16': ('wmt16_translate/ro-en', 'en', 'ro'),
}
LENGTHS = {
  'multi30k': (12, 15, 18, 21, 25, 32, 48),
  'tatoeba': (8, 10, 12, 14, 18, 24, 48),
  'tatoeba_ro': (8, 10, 12, 14, 18, 24, 48),
  'iwslt14': (12, 18, 25, 32, 48, 64, 128),
  'wmt16': (16, 24, 32, 48, 64, 96, 128),
}
SIZES = {
  'small': dict(
    vocab_size=6000,
    model_dim=192,
    ffn_dim=768,
    num_heads=4,
    num_encoder_layers=3,
    num_decoder_layers=3,
  ),
  'published': dict(
    vocab_size=32_128,
    model_dim=512,
    ffn_dim=2048,
    num_heads=8,
    num_encoder_layers=6,
    num_decoder_layers=6,
  ),
}
# Of the layers and of the embedding.
RANKS = {'small': (7, 64), 'published': (16, 256)}
METHODS = ('shapeshifter', 'low_rank', 'phm', 'dense')
RECIPES = ('ours', 'published')


def rules(arguments, size):
  """The compression of the layers and of the embedding."""
  method = configuration.choose(arguments, 'method', METHODS)
  rank, embedding_rank = RANKS[size]
  if method == 'phm':
    rank, embedding_rank = 16, 0
  rank = arguments['rank'] or rank
  embedding_rank = arguments['embedding_rank'] or embedding_rank
  if method == 'phm' and embedding_rank:
    raise ValueError(
      f'method=phm keeps the embedding dense; leave out embedding_rank='
      f'{embedding_rank}'
    )
  layers = '(en|de)coder/.*'
  if method == 'dense':
    for name in ('rank', 'embedding_rank', 'initialization'):
      if arguments[name]:
        raise ValueError(
          f'{name}={arguments[name]} with method=dense: nothing is compressed; '
          f'leave out {name}'
        )
    return ()
  start = arguments['initialization']
  if not start and arguments['recipe'] == 'ours':
    start = 'spectral'
  choice = dict(initialization=start) if start else {}
  if method == 'phm':
    return ((layers, dict(choice, name='phm', n=rank)),)
  choice['name'] = 'low_rank'
  if method == 'shapeshifter':
    # At published size, the padded squares of the published counts.
    split = 'ceil_sqrt' if size == 'published' else 'best'
    choice.update(name='kronecker', split=split)
  return (
    (layers, dict(choice, rank=rank)),
    ('embed', dict(choice, rank=embedding_rank)),
  )


def set_data(config, arguments, size):
  data = configuration.choose(arguments, 'data', PAIRS)
  name, source, target = PAIRS[data]
  config.data.source = 'tfds' if data == 'wmt16' else 'parallel_text'
  config.data.options = dict(
    name=name, source_language=source, target_language=target
  )
  if size == 'small':
    config.data.update(bucket_lengths=LENGTHS[data], batch_tokens=1536)
  else:
    # One length, so that all batches have as many pairs.
    num_pairs = 128 if data == 'iwslt14' else 192
    config.data.update(bucket_lengths=(128,), batch_tokens=128 * num_pairs)
  # This text is lower-cased and has spaces around punctuation.
  config.evaluation.detokenize = data == 'iwslt14'


def set_recipe(config, arguments, size):
  if configuration.choose(arguments, 'recipe', RECIPES) == 'ours':
    config.model.update(dropout=0.15)
    config.optimizer.update(
      learning_rate=2e-3,
      structure_aware=True,
      schedule='cosine',
      warmup_steps=400 if size == 'small' else 4000,
      final_scale=0.02,
      b2=0.98,
      eps=1e-9,
      clip_norm=1.0,
    )
    return
  config.model.update(
    scale_attention=False,
    scale_embeddings=False,
    dropout=0.1,
    attention_dropout=0.1,
    output_dropout=0.1,
  )
  config.optimizer.update(
    name='lamb',
    learning_rate=2e-3 if arguments['data'] == 'iwslt14' else 3e-3,
    schedule='inverse_sqrt',
    warmup_steps=400 if size == 'small' else 15_000,
  )


def get_config(arguments=''):
  arguments = configuration.parse(
    arguments,
    size='small',
    method='shapeshifter',
    rank=0,
    embedding_rank=0,
    initialization='',
    data='multi30k',
    recipe='',
    seed=0,
  )
  size = configuration.choose(arguments, 'size', SIZES)
  if not arguments['recipe']:
    arguments['recipe'] = 'ours' if size == 'small' else 'published'
  config = configuration.defaults('t5_small', arguments)
  config.seed = arguments['seed']
  config.num_steps = 2400 if size == 'small' else 100_000
  config.model.update(
    SIZES[size],
    norm='pre',
    norm_kind='rms',
    use_bias=False,
    positions='relative',
    ffn_initialization='fan_in',
  )
  set_data(config, arguments, size)
  set_recipe(config, arguments, size)
  config.compress = rules(arguments, size)
  config.evaluation.update(
    every=400 if size == 'small' else 5000, max_sentences=1014
  )
  return configuration.finish(config, arguments)
