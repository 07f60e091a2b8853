"""Words of WikiText-103, Transformer-XL, embedding and softmax in trains.

Rows embeddings-T3 of "Tensorized Embedding Layers for Efficient Model
Compression", Table 3: 16 layers of 512 features, 8 heads, segments and memories
of 128 words, an adaptive softmax over 267,735 words. Two tensor trains of one
shape take the place of the matrix that makes embeddings and logits.

    export TT_COMPRESS_DATA=...   # holds wikitext-103/wiki.*.tokens
    python -m tt_compress.main --config=configs/wikitext103_tt.py:rank=192
    python -m tt_compress.main --config=configs/wikitext103_tt.py:dense

Arguments:

- `rank=192`, of the trains; 128 and 96 were published, too;
- `ratio=0`: in place of the rank, numbers of the matrix relative to those of
  all trains;
- `clusters`: each cluster of words has a train of two cores instead, which
  makes embeddings and logits; frequent words have more numbers, and the ratio
  is at least that of rank 192 unless it is given;
- `parquet`: files of the hub, wikitext-103/*.parquet, in place of text;
- `dense`, `tiny`.

Published, validation and test perplexity: 22.55 and 24.37 dense with 191.95M
parameters; 24.38 and 25.67 at rank 192, 3.8 times fewer numbers in the matrix;
25.53 and 26.73 at rank 128, 8.6 times; 26.73 and 28.04 at rank 96, 15.1 times.
The published totals of 94M, 73M and 65M do not follow from these shapes, which
have 90.67M, 70.88M and 63.92M. Evaluations remember 640 words, clamp distances
at 400 and attend to as many words from everywhere, as the released script does.

Where the paper is silent: gradients are clipped at a norm of 0.25, a core is a
layer of NovoGrad, and the 1,024 sequences of a step are one batch; set
`accumulation` where they do not fit.
"""

from tt_compress import configuration

WORDS, CUTOFFS = 267_735, (20_000, 40_000, 200_000)
# Of the ratios of clusters to that of the whole matrix, which they make up.
SHARES = (1 / 4, 3 / 4, 4 / 3, 1.7)


def rules(rank, ratio, has_clusters):
  """The compression of the matrices of words."""
  if not has_clusters:
    size = {'compression_ratio': 2 * ratio} if ratio else {'tt_rank': rank}
    modes = dict(row_modes=(60, 60, 75), col_modes=(8, 8, 8))
    return (('embed|logits', dict(name='tensor_train', **modes, **size)),)
  ratios = enumerate((ratio or 3.83) * share for share in SHARES)
  choice = dict(name='tensor_train', num_modes=2)
  return tuple(
    (f'embed/clusters/{k}', dict(choice, compression_ratio=own))
    for k, own in ratios
    if own > 1
  )


def paths(is_parquet):
  """Files by split."""
  names = {'train': 'train', 'validation': 'valid', 'test': 'test'}
  folder = '$TT_COMPRESS_DATA/wikitext-103'
  if not is_parquet:
    return {k: f'{folder}/wiki.{name}.tokens' for k, name in names.items()}
  parts = {'train': 2, 'validation': 1, 'test': 1}
  return {
    k: tuple(
      f'{folder}/{k}-{i:05}-of-{number:05}.parquet' for i in range(number)
    )
    for k, number in parts.items()
  }


def get_config(arguments=''):
  arguments = configuration.parse(
    arguments, rank=192, ratio=0.0, clusters=False, parquet=False, seed=0
  )
  has_clusters = arguments['clusters']
  config = configuration.defaults(
    'wikitext103_tt',
    arguments,
    model='transformer_xl',
    task='language_modeling',
  )
  config.seed = arguments['seed']
  config.num_steps = 150_000
  config.data.update(source='text_stream', window=128, batch_size=1024)
  config.data.options = dict(files=paths(arguments['parquet']))
  config.data.vocabulary = 'words'
  config.data.vocabulary_options = dict(specials=('<eos>', '<unk>'))
  config.model.update(
    vocab_size=WORDS,
    model_dim=512,
    ffn_dim=2048,
    num_heads=8,
    num_layers=16,
    memory_length=128,
    dropout=0.15,
    cutoffs=CUTOFFS,
    tie_logits=has_clusters,
    cluster_tables=has_clusters,
  )
  config.dense = dict(tie_logits=True, cluster_tables=False)
  config.compress = rules(arguments['rank'], arguments['ratio'], has_clusters)
  config.optimizer.update(
    name='novograd',
    learning_rate=0.025,
    b1=0.95,
    b2=0.25,
    weight_decay=1e-4,
    schedule='cosine',
    warmup_steps=1500,
    clip_norm=0.25,
  )
  config.evaluation.update(
    every=4000,
    batch_size=4,
    window=128,
    memory_length=640,
    clamp_length=400,
    same_length=True,
  )
  return configuration.finish(config, arguments)
