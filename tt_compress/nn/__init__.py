"""Flax NNX modules whose matrices are held by a parameterization.

`Linear` and `Embed` are the layers. The functions `compress` and `expand` are
names of `tt_compress`; here, `compress` is the module that defines them.
"""

from tt_compress.nn.embed import Embed
from tt_compress.nn.linear import Linear

__all__ = ['Embed', 'Linear']
