"""Quantities that several tables compare."""

from tt_compress.studies import rows

ACCURACY = rows.Metric(name='accuracy', source='test/accuracy', better='higher')
VALIDATION_ACCURACY = rows.Metric(
  name='validation accuracy', source='validation/accuracy', better='higher'
)
BLEU = rows.Metric(
  name='BLEU', source='test/bleu', better='higher', format='.2f'
)
TOKEN_BLEU = rows.Metric(
  name='BLEU of tokens', source='test/token_bleu', better='higher', format='.2f'
)
VALIDATION_BLEU = rows.Metric(
  name='validation BLEU',
  source='validation/bleu',
  better='higher',
  format='.2f',
)
PERPLEXITY = rows.Metric(
  name='perplexity', source='test/perplexity', better='lower', format='.2f'
)
VALIDATION_PERPLEXITY = rows.Metric(
  name='validation perplexity',
  source='validation/perplexity',
  better='lower',
  format='.2f',
)
VALIDATION_LOSS = rows.Metric(
  name='validation loss', source='validation/loss', better='lower'
)
RATIO = rows.Metric(
  name='ratio', source='ratio', better='higher', format=',.2f'
)
PARAMETERS = rows.Metric(
  name='parameters',
  source='num_params',
  better='lower',
  format=',.2f',
  unit='M',
  scale=1e-6,
)
