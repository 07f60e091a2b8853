import numpy as np
import pytest

from tt_compress.tasks import losses


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_smoothed_cross_entropy_is_its_definition(smoothing):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 3, 5)).astype(np.float32)
  targets = rng.integers(0, 5, (2, 3))
  found = losses.smoothed_cross_entropy(logits, targets, smoothing)
  for b in range(2):
    for t in range(3):
      expected = np.full(5, smoothing / 5)
      expected[targets[b, t]] += 1 - smoothing
      log_p = logits[b, t] - np.log(np.exp(logits[b, t]).sum())
      np.testing.assert_allclose(found[b, t], -expected @ log_p, rtol=1e-5)


@pytest.mark.parametrize('smoothing', [-0.1, 1.0, float('nan')])
def test_smoothing_out_of_range(smoothing):
  with pytest.raises(ValueError, match=r'label_smoothing=.* in \[0, 1\)'):
    losses.check_smoothing(smoothing)
