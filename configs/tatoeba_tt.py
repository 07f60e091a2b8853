"""German to English sentences (Tatoeba) with a quarter of the parameters.

A Transformer sized for one CPU core. By default the matrices of its layers have
two TT cores, and the embedding, which also makes the logits, has three.

    export TT_COMPRESS_DATA=...   # holds tatoeba-deu-eng/deu.txt.xz
    python -m tt_compress.main --config=configs/tatoeba_tt.py
    python -m tt_compress.main --config=configs/tatoeba_tt.py:dense
    python -m tt_compress.main --config=configs/tatoeba_tt.py:tiny

On one CPU core, 100 steps take 0.95 minutes dense and 0.9 compressed, as
measured over 40 steps; so a run takes about 25 minutes with compilation and
evaluation. It reads the training text 2.1 times.

After training, the same command evaluates on a test set of WMT, with

    --config.data.options.test=newstest2014/en-de

Arguments:

- `layers=4.3`: compression ratio of the matrices of the layers; 1 leaves them
  dense;
- `embedding=4.0`: numbers of one matrix relative to those of all that make
  embeddings and logits; 1 leaves it dense;
- `untied`: embeddings and logits have a compressed matrix each, as in
  "Tensorized Embedding Layers for Efficient Model Compression";
- `method=tensor_train`: of embeddings and logits, or another parameterization
  that has a rank, such as `tensor_ring`, `low_rank`, `kronecker`;
- `rank=0`: of trains or rings with the modes (16, 16, 32) x (4, 8, 4), or
  (8, 8, 8) if `base`, in place of `embedding`;
- `size=small`: `base` is the Transformer of 512 features and 6 + 6 layers, for
  a GPU;
- `seed=0`, `dense`, `tiny`.

The text has 169,813 pairs, of which 2,000 are held out for validation and 2,000
for the test. No sentence of either language is in two splits, but for case and
punctuation. In training, a German sentence has 6.5 words and 9.1 pieces on
average, an English one 6.5 and 8.9, and one in a hundred more than 22 pieces;
54,570 and 29,252 different words are written between spaces.
"""

from tt_compress import configuration

SIZES = {
  'small': dict(
    model_dim=128,
    ffn_dim=512,
    num_heads=4,
    num_encoder_layers=3,
    num_decoder_layers=3,
    dropout=0.1,
  ),
  'base': dict(
    model_dim=512,
    ffn_dim=2048,
    num_heads=8,
    num_encoder_layers=6,
    num_decoder_layers=6,
    dropout=0.3,
  ),
}
ROW_MODES = (16, 16, 32)
COL_MODES = {'small': (4, 8, 4), 'base': (8, 8, 8)}
RANKS = dict(tensor_train='tt_rank', tensor_ring='tr_rank')
# Of `embedding`, where it is not the default of a method.
FACTORS = dict(
  tensor_train=dict(num_modes=3),
  tensor_ring=dict(num_modes=3),
  word2ketxs=dict(order=2),
)


def get_config(arguments=''):
  arguments = configuration.parse(
    arguments,
    layers=4.3,
    embedding=4.0,
    untied=False,
    method='tensor_train',
    rank=0,
    size='small',
    seed=0,
  )
  _check(arguments)
  config = configuration.defaults('tatoeba_tt', arguments)
  config.seed = arguments['seed']
  config.num_steps = 2000
  config.data.update(
    source='parallel_text',
    bucket_lengths=(8, 10, 12, 14, 17, 22, 32, 64),
    batch_tokens=2048,
    max_length=31,  # Longer pairs, few, are in evaluations alone.
  )
  config.data.options = dict(
    name='tatoeba/de-en',
    source_language='de',
    target_language='en',
    test='tatoeba/de-en',
  )
  config.model.update(
    vocab_size=8192,
    norm='pre',
    tie_logits=not arguments['untied'],
    **SIZES[arguments['size']],
  )
  config.dense = dict(tie_logits=True)
  config.compress = (*_layers(arguments), *_embeddings(arguments))
  config.optimizer.update(
    learning_rate=2e-3,
    structure_aware=True,
    schedule='cosine',
    warmup_steps=200,
    final_scale=0.02,
    b2=0.98,
    eps=1e-9,
    clip_norm=1.0,
  )
  config.evaluation.update(every=400, max_sentences=500)
  return configuration.finish(config, arguments)


def _check(arguments):
  configuration.choose(arguments, 'size', SIZES)
  method, rank = arguments['method'], arguments['rank']
  if rank and method not in RANKS:
    raise ValueError(
      f'rank={rank} with method={method!r}: give embedding=, the compression '
      f'ratio, or take one of {", ".join(RANKS)}'
    )


def _layers(arguments):
  if arguments['layers'] == 1:
    return ()
  choice = dict(
    name='tensor_train', num_modes=2, compression_ratio=arguments['layers']
  )
  return (('.*(attention|ffn)/.*', choice),)


def _embeddings(arguments):
  method, rank = arguments['method'], arguments['rank']
  if rank:
    choice = {
      'name': method,
      RANKS[method]: rank,
      'row_modes': ROW_MODES,
      'col_modes': COL_MODES[arguments['size']],
    }
  elif arguments['embedding'] == 1:
    return ()
  else:
    ratio = arguments['embedding'] * (2 if arguments['untied'] else 1)
    choice = dict(FACTORS.get(method, {}), name=method, compression_ratio=ratio)
  logits = dict(choice)
  if method == 'tensor_train':
    # Trains that make logits start as those of products do.
    logits['initialization'] = 'spectral'
  if not arguments['untied']:
    return (('embed', logits),)
  return (('embed', choice), ('logits', logits))
