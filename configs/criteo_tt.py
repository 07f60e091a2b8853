"""Clicks on advertisements; the large embeddings have tensor trains.

Rows embeddings-T4 of "Tensorized Embedding Layers for Efficient Model
Compression": an embedding per feature, concatenated, four layers of 1,024
features with ReLU, log loss, Adam at 5e-4. Features of more than 2,000 values
have trains of 3 or 4 cores.

    export TT_COMPRESS_DATA=...   # holds criteo-kaggle-sample/*.tsv.gz
    python -m tt_compress.main --config=configs/criteo_tt.py
    python -m tt_compress.main --config=configs/criteo_tt.py:dense

trains on 7,200 rows of the Kaggle challenge in under a minute. Arguments:

- `data=kaggle` for train.txt of the challenge in $TT_COMPRESS_DATA/criteo, of
  which a tenth is held out for validation and a tenth for the test;
  `data=deeplight` or `data=avazu` for other samples; `data=generated` for
  random examples with the numbers of values of the challenge, no files needed;
- `factors=3` or 4, factors of a matrix; `dim=16`, of an embedding;
- `rank=16`, or `ratio=60` for the rank at which a matrix has at most a 60th of
  its numbers, which is the default for samples;
- `hash=100000` for ids modulo this number with `kaggle` and `generated`;
- `large=2000`: features of more values have trains; samples take 500;
- `method=tensor_train`, or another parameterization that has a rank, such as
  `tensor_ring`, `low_rank`, `kronecker`, `word2ketxs`;
- `dense`, `tiny`.

Integers x are categories, x up to 2 and 2 + floor(ln(x)^2) above; missing and
negative values are categories of their own. The size of an embedding, batches,
splits and the shapes of the trains were not published, and no size of an
embedding gives the published totals.

Published, with ids modulo 100,000: log loss 0.4440 in 41.2M parameters, dense,
and 0.4433 in 4.7M for trains of 3 cores and rank 16.
"""

from tt_compress import configuration

# Values of C1 to C26 in the challenge, and a bound of the buckets of integers.
CATEGORIES = (
  *(1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683),
  *(8351593, 3194, 27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15),
  *(286181, 105, 142572),
)
BUCKETS = 400

SAMPLES = {
  'kaggle-sample': dict(
    folder='criteo-kaggle-sample',
    train='train.tsv.gz',
    validation='dev.tsv.gz',
    test='test.tsv.gz',
    format='criteo',
    cardinalities=(
      *(25, 73, 50, 25, 176, 70, 45, 23, 68, 6, 20, 16, 33, 78, 280, 511, 663),
      *(35, 9, 1195, 46, 4, 822, 1008, 530, 907, 23, 864, 596, 10, 592, 197),
      *(5, 553, 8, 13, 583, 35, 433),
    ),
  ),
  # Some test rows are training rows, too.
  'deeplight': dict(
    folder='criteo-deeplight-10k',
    train='tiny_train_input.csv.gz',
    test='tiny_test_input.csv.gz',
    format='indexed',
    drop_repeats=True,
    cardinalities=(
      *(27, 74, 44, 22, 189, 72, 45, 20, 67, 6, 24, 16, 25, 88, 305, 614, 783),
      *(35, 8, 1401, 53, 3, 1061, 1206, 626, 1083, 25, 1037, 689, 10, 679),
      *(242, 5, 665, 8, 14, 727, 35, 511),
    ),
  ),
  'avazu': dict(
    folder='avazu-sample',
    train='train.csv.gz',
    validation='dev.csv.gz',
    test='test.csv.gz',
    format='avazu',
    cardinalities=(
      *(2, 7, 4, 189, 169, 12, 150, 23, 12, 86, 841, 586, 5, 5, 173, 5, 6, 95),
      *(5, 32, 81, 27),
    ),
  ),
}

# The option that is the number of factors, and the rank if it is not 'rank'.
FACTORS = dict(
  tensor_train='num_modes', tensor_ring='num_modes', word2ketxs='order'
)
RANKS = dict(tensor_train='tt_rank', tensor_ring='tr_rank')


def sample(config, folder, format, cardinalities, drop_repeats=False, **files):
  """A small data set, trained for four epochs; the best step counts."""
  config.model.cardinalities = cardinalities
  config.data.options = dict(
    files={
      split: f'$TT_COMPRESS_DATA/{folder}/{file}'
      for split, file in files.items()
    },
    format=format,
    min_count=2,
    drop_repeats=drop_repeats,
  )
  config.data.batch_size = 256
  config.num_steps = 112
  config.evaluation.every = 14
  config.logging.every = 28


def challenge(config, source, modulus):
  """All rows of the challenge, once; or as many values drawn at random."""
  # One more for rare values.
  sizes = (BUCKETS,) * 13 + tuple(number + 1 for number in CATEGORIES)
  if modulus:
    sizes = tuple(min(number, modulus) for number in sizes)
  config.model.cardinalities = sizes
  if source == 'generated':
    config.data.source = 'generated'
    config.data.options = dict(cardinalities=sizes)
  else:
    config.data.options = dict(
      files={'train': '$TT_COMPRESS_DATA/criteo/train.txt'},
      min_count=1,
      modulus=modulus or None,
    )
  config.num_steps = 17_900


def parameterization(arguments, is_sample):
  """The method of large embeddings and its options."""
  method, rank, ratio = (arguments[k] for k in ('method', 'rank', 'ratio'))
  if rank and ratio:
    raise ValueError(f'rank={rank} and ratio={ratio:g}: give one of them')
  choice = dict(name=method)
  if method in FACTORS:
    choice[FACTORS[method]] = arguments['factors']
  if ratio or (is_sample and not rank):
    choice['compression_ratio'] = ratio or 60.0
  else:
    choice[RANKS.get(method, 'rank')] = rank or 16
  return choice


def get_config(arguments=''):
  arguments = configuration.parse(
    arguments,
    data='kaggle-sample',
    factors=3,
    rank=0,
    dim=16,
    hash=0,
    large=0,
    method='tensor_train',
    ratio=0.0,
    seed=0,
  )
  config = configuration.defaults(
    'criteo_tt', arguments, model='click', task='click_through'
  )
  config.seed = arguments['seed']
  data, is_sample = arguments['data'], arguments['data'] in SAMPLES
  if is_sample and arguments['hash']:
    raise ValueError(
      f'hash={arguments["hash"]} is for data=kaggle and data=generated; '
      f'data={data!r} has fewer values'
    )
  if is_sample:
    sample(config, **SAMPLES[data])
  elif data in ('kaggle', 'generated'):
    challenge(config, data, arguments['hash'])
  else:
    raise ValueError(
      f'data={data!r} must be one of {[*SAMPLES, "kaggle", "generated"]}'
    )
  config.model.dim = arguments['dim']
  config.model.large = arguments['large'] or (500 if is_sample else 2000)
  config.dense = dict(large=None)
  config.compress = (('tables/.*', parameterization(arguments, is_sample)),)
  config.optimizer.update(
    learning_rate=5e-4, schedule='constant', warmup_steps=0
  )
  return configuration.finish(config, arguments)
