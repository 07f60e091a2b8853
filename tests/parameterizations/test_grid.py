"""Products of every combination of options, where the contract takes a sample.

A file of its own, so that the other worker can take it.
"""

import pytest

from tests.parameterizations import contract, test_contract


def everything(name):
  return list(dict.fromkeys(spec for _, spec in test_contract.grid(name)))


@pytest.mark.full
@pytest.mark.parametrize('spec', test_contract.parameters(everything))
def test_math(spec):
  contract.check_math(spec)
