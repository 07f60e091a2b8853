"""Words of WikiText-2, a small Transformer-XL, embedding and softmax in trains.

The model of rows embeddings-T3 of "Tensorized Embedding Layers for Efficient
Model Compression", sized for a CPU: 4 layers of 256 features, segments and
memories of 64 words, an adaptive softmax with cutoffs at 2,000 and 10,000 of
33,278 words, the end of a line among them. As published, two tensor trains of
three cores and of one shape take the place of the matrix that makes embeddings
and logits.

    export TT_COMPRESS_DATA=...   # holds wikitext-2/wiki.*.tokens.xz
    python -m tt_compress.main --config=configs/wikitext2_tt.py:ratio=9
    python -m tt_compress.main --config=configs/wikitext2_tt.py:dense

About 40 minutes each on one CPU core.

Arguments:

- `ratio=4`: numbers of that matrix relative to those of all trains;
- `tied`: embeddings and logits share one train;
- `clusters`: each cluster of words has a train of two cores instead, and
  frequent words have more numbers; implies `tied`;
- `method=tensor_train`, or another parameterization that has a rank, such as
  `low_rank`, `kronecker`, `word2ketxs`;
- `dense`, `tiny`.
"""

from tt_compress import configuration

DATA = '$TT_COMPRESS_DATA/wikitext-2/'
WORDS, CUTOFFS = 33_278, (2000, 10_000)
# Of the ratios of clusters to that of the whole matrix, which they make up.
SHARES = (1 / 4, 3 / 4, 1.6)


def rules(method, ratio, is_tied, has_clusters):
  """The compression of the matrices of words."""
  factors = dict(
    tensor_train=dict(num_modes=2 if has_clusters else 3),
    word2ketxs=dict(order=2),
  )
  choice = dict(name=method, **factors.get(method, {}))
  logits = dict(choice)
  if method == 'tensor_train':
    # Trains that make logits start as those of products do.
    logits['initialization'] = 'spectral'
  if has_clusters:
    return tuple(
      (f'embed/clusters/{k}', dict(logits, compression_ratio=ratio * share))
      for k, share in enumerate(SHARES)
      if ratio * share > 1
    )
  if is_tied:
    return (('embed', dict(logits, compression_ratio=ratio)),)
  return (
    ('embed', dict(choice, compression_ratio=2 * ratio)),
    ('logits', dict(logits, compression_ratio=2 * ratio)),
  )


def get_config(arguments=''):
  arguments = configuration.parse(
    arguments,
    ratio=4.0,
    tied=False,
    clusters=False,
    method='tensor_train',
    seed=0,
  )
  config = configuration.defaults(
    'wikitext2_tt', arguments, model='transformer_xl', task='language_modeling'
  )
  config.seed = arguments['seed']
  config.num_steps = 1700
  files = {'train': 'train', 'validation': 'valid', 'test': 'test'}
  config.data.update(source='text_stream', window=64, batch_size=32)
  config.data.options = dict(
    files={
      split: f'{DATA}wiki.{name}.tokens.xz' for split, name in files.items()
    }
  )
  config.data.vocabulary = 'words'
  config.data.vocabulary_options = dict(specials=('<eos>', '<unk>'))
  has_clusters = arguments['clusters']
  is_tied = arguments['tied'] or has_clusters
  config.model.update(
    vocab_size=WORDS,
    model_dim=256,
    ffn_dim=1024,
    num_heads=4,
    num_layers=4,
    memory_length=64,
    dropout=0.1,
    cutoffs=CUTOFFS,
    tie_logits=is_tied,
    cluster_tables=has_clusters,
  )
  config.dense = dict(tie_logits=True, cluster_tables=False)
  config.compress = rules(
    arguments['method'], arguments['ratio'], is_tied, has_clusters
  )
  config.optimizer.update(
    learning_rate=2e-3,
    schedule='cosine',
    warmup_steps=150,
    final_scale=0.02,
    clip_norm=0.25,
    structure_aware=True,
  )
  config.evaluation.update(
    every=425,
    batch_size=16,
    memory_length=256,
    clamp_length=127,  # the greatest distance in training
    max_tokens=2**16,
  )
  return configuration.finish(config, arguments)
