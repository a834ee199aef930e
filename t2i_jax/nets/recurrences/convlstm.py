"""The peephole convolutional LSTM over the words. Section 5 (6) of the thesis (S6).

Shi et al. 2015, eq. 3, https://arxiv.org/abs/1506.04214 (* convolves, o multiplies value by value):

  i_t = sigmoid(W_xi * x_t + W_hi * h_{t-1} + W_ci o c_{t-1} + b_i)
  f_t = sigmoid(W_xf * x_t + W_hf * h_{t-1} + W_cf o c_{t-1} + b_f)
  c_t = f_t o c_{t-1} + i_t o tanh(W_xc * x_t + W_hc * h_{t-1} + b_c)
  o_t = sigmoid(W_xo * x_t + W_ho * h_{t-1} + W_co o c_t + b_o)
  h_t = o_t o tanh(c_t)

The four gates' convolutions of h are one. Two things are done for speed: the backward pass keeps
each word's gates and memory and recomputes the rest, and the gradient of W_h, a sum over words, is
computed once from all words' h and gates instead of at every word.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import ad_checkpoint
from jaxtyping import Array, Float, Int

from t2i_jax.nets import layers, packing
from t2i_jax.nets.convolutions import passes


class Cell(nn.Module):
  """One word: (memory, the input's share of the gates f32[b h w 4c]) -> (memory, h), where the
  memory is (c, h), each f32[b h w c]. All but the convolution is float32 whatever the dtype; a loop
  that keeps bfloat16 values is slow on a CPU, too.

  No gradient reaches the kernel from here: `_scan_words` takes it for all words at once."""

  channels: int
  kernel_size: int
  peephole: Literal["full", "channel", "none"]
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, memory, x_gates):
    c, h = memory
    k, channels = self.kernel_size, self.channels
    kernel = self.param("kernel", layers.KEEPING_INIT, (k, k, channels, 4 * channels))
    own = passes.same_without_kernel_gradient(
      h.astype(self.dtype), kernel.astype(self.dtype), layers.uses_matrix_products(self.dtype)
    )
    gates = ad_checkpoint.checkpoint_name(x_gates + own.astype(jnp.float32), "gates")
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    new_c = nn.sigmoid(f + self._peep("forget", c)) * c
    new_c += nn.sigmoid(i + self._peep("input", c)) * jnp.tanh(g)
    new_h = nn.sigmoid(o + self._peep("output", new_c)) * jnp.tanh(new_c)
    return (new_c, new_h), new_h

  def _peep(self, gate: str, c: Float[Array, "b h w f"]) -> Float[Array, "b h w f"] | float:
    """The memory's own say in a gate; one weight a value of the map, or one a channel."""
    if self.peephole == "none":
      return 0.0
    shape = c.shape[1:] if self.peephole == "full" else c.shape[-1:]
    return self.param(f"peephole_{gate}", nn.initializers.zeros, shape) * c


def _run(cells: nn.Module, x_gates: Float[Array, "t b h w g"]) -> Float[Array, "t b h w f"]:
  empty = jnp.zeros((*x_gates.shape[1:-1], x_gates.shape[-1] // 4), jnp.float32)
  return cells((empty, empty), x_gates)[1]


def _run_forward(cells: nn.Module, x_gates):
  hidden, back = nn.vjp(_run, cells, x_gates)
  return hidden, (back, hidden.astype(cells.dtype))


def _run_backward(saved, dy):
  back, hidden = saved
  gradients, d_gates = back(dy)
  before = jnp.concatenate([jnp.zeros_like(hidden[:1]), hidden[:-1]])
  kernel = gradients["params"]["kernel"]
  flat = [a.reshape(-1, *a.shape[2:]) for a in (before, d_gates.astype(hidden.dtype))]
  products = layers.uses_matrix_products(hidden.dtype)
  new = passes.kernel_gradient(*flat, k=kernel.shape[0], bfloat16_products=products)
  new = new.astype(kernel.dtype)
  return {"params": {**gradients["params"], "kernel": new}}, d_gates


_scan_words = nn.custom_vjp(_run, forward_fn=_run_forward, backward_fn=_run_backward)


class Recurrence(nn.Module):
  """The ConvLSTM over the words.

  The input's convolution needs no memory and is computed for all words at once. `unroll`: number of
  words that one iteration of the loop reads.
  """

  kernel_size: int
  peephole: Literal["full", "channel", "none"]
  forget_bias: float
  dtype: Any = jnp.float32
  unroll: int = 1

  @nn.compact
  def __call__(
    self,
    maps: Float[Array, "*n h w c"],
    packed: packing.Packing | None,
    places: Int[Array, "t b"] | None = None,
  ) -> Float[Array, "*m h w c"]:
    """Reads each caption's words left to right: packed words [n h w c], or, where `packed` is None,
    words in their slots [t b h w c], or different words [u h w c] of which `places` says where each
    slot's stands. Empty slots come last, so the memory after them reaches no image."""
    channels = maps.shape[-1]
    x_gates = layers.Convolution(
      "same", 4 * channels, self.kernel_size, False, layers.KEEPING_INIT, self.dtype,
      name="from_input",
    )(maps)  # fmt: skip
    bias = self.param("bias", _gate_bias(self.forget_bias), (4 * channels,))
    x_gates = x_gates.astype(jnp.float32) + bias
    if packed is not None:
      x_gates = packing.spread(packed, x_gates)
    elif places is not None:
      x_gates = x_gates[places]
    keep_gates = jax.checkpoint_policies.save_only_these_names("gates")
    scan = nn.scan(
      nn.remat(Cell, policy=keep_gates, prevent_cse=False),
      variable_broadcast="params",
      split_rngs={"params": False},
      unroll=self.unroll,
    )
    cells = scan(channels, self.kernel_size, self.peephole, self.dtype, name="cell")
    hidden = _scan_words(cells, x_gates).astype(self.dtype)
    return hidden if packed is None else packing.collect(packed, hidden)


def _gate_bias(forget: float):
  """Zero but for the forget gate, the second of the four."""
  return lambda key, shape: jnp.zeros(shape).at[shape[0] // 4 : shape[0] // 2].set(forget)
