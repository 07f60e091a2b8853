import pytest

from tt_compress.tasks import losses


@pytest.mark.parametrize('smoothing', [-0.1, 1.0, float('nan')])
def test_smoothing_out_of_range(smoothing):
  with pytest.raises(ValueError, match=r'label_smoothing=.* in \[0, 1\)'):
    losses.check_smoothing(smoothing)
