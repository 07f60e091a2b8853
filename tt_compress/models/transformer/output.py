"""The output layer of Transformers: logits of tokens, and their loss."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from tt_compress.nn import cross_entropy, embed
from tt_compress.nn.dropout import Noise


class TokenModel(nnx.Module):
  """A model whose features predict tokens; a subclass defines `_output`."""

  def _output(self) -> tuple[embed.Embed, Float[Array, ' vocab'] | None]:
    """The matrix whose transpose maps features to logits, and their bias."""
    raise NotImplementedError(f'{type(self).__name__} has no _output')

  def project(
    self, x: Float[Array, '*batch dim'], noise: Noise | None = None
  ) -> Float[Array, '*batch vocab']:
    """Logits, float32, of what `features` returns."""
    table, bias = self._output()
    logits = table.attend(x, noise).astype(jnp.float32)
    return logits if bias is None else logits + bias

  def cross_entropy(
    self,
    x: Float[Array, '*batch dim'],
    targets: Int[ArrayLike, '*batch'],
    weights: Float[ArrayLike, '*batch'],
    **options,
  ) -> Float[Array, '']:
    """The weighted sum of the losses of `project(x)`, in less memory.

    Args:
      x: what `features` returns.
      targets: target tokens.
      weights: weights of the losses.
      **options: `noise`, `smoothing` and `blocks` of `cross_entropy.summed`.
    """
    table, bias = self._output()
    return cross_entropy.summed(
      table, x, targets, weights, bias=bias, **options
    )
