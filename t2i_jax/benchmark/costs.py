"""What a training step costs, counted from the networks' shapes: operations, and bytes that must
move.

Operations: convolutions and matrix products only, each multiply-add as two; a transposed
convolution as the products it needs, k^2 for each input value. Bytes: each layer's input read and
its output written, and nothing else, as if all between two layers were fused into them: a floor.
"""

from __future__ import annotations

import dataclasses

from t2i_jax import config as config_lib
from t2i_jax.nets import model as networks_lib
from t2i_jax.training import batches, steps
from t2i_jax.training import state as state_lib


@dataclasses.dataclass(frozen=True)
class Cost:
  """Operations, and bytes to and from memory."""

  flops: float | int = 0
  bytes: float | int = 0

  def __add__(self, other: Cost) -> Cost:
    return Cost(self.flops + other.flops, self.bytes + other.bytes)

  def __mul__(self, times: float | int) -> Cost:
    return Cost(self.flops * times, self.bytes * times)


def of_pass(config: config_lib.Config) -> dict[str, Cost]:
  """Of one pass of each part over one word, or image: a value, or one of its two gradients, which
  cost as much."""
  k, start, size = config.kernel_size, config.start_size, config.image_size
  width = {"float32": 4, "bfloat16": 2}[config.dtype]

  def layer(products: int, values_in: int, values_out: int) -> Cost:
    return Cost(2 * products, width * (values_in + values_out))

  count = (size // start).bit_length() - 1
  channels = [*(config.base_channels * 2**i for i in reversed(range(count))), 3]
  area = [(start * 2**i) ** 2 for i in range(count + 1)]
  values = [a * c for a, c in zip(area, channels)]
  inputs = networks_lib.input_width(config)
  generator = layer(inputs * values[0], inputs, values[0])
  for i in range(count):
    generator += layer(values[i] * k**2 * channels[i + 1], values[i], values[i + 1])
  stage = {"start": 0, "penultimate": count - 1}.get(config.recurrence_position, count)
  c, v, taps = channels[stage], values[stage], config.recurrence_kernel_size**2
  # The four gates: from the input for all words, then from h in the loop.
  products = {"convlstm": v * taps * 4 * c, "lstm": 4 * v * v, "none": 0}[config.recurrence]
  recurrence = layer(products, v, 4 * v) + layer(products, v + 4 * v, v)
  head = layer(v * taps * c, v, v) * 2
  discriminator, c, f = Cost(), 3, config.base_channels
  while size > 4:
    size //= 2
    discriminator += layer(size**2 * k**2 * c * f, 4 * size**2 * c, size**2 * f)
    c, f = f, 2 * f
  discriminator += layer(size**2 * c, size**2 * c, 1)
  has_recurrence = config.recurrence != "none"
  has_head = has_recurrence and config.recurrence_position == "last_plus_deconv"
  return {
    "generator": generator,
    "recurrence": recurrence if has_recurrence else Cost(),
    "head": head if has_head else Cost(),
    "discriminator": discriminator if config.adversarial != "none" else Cost(),
  }


def of_caption(config: config_lib.Config, words: float | int) -> Cost:
  """Of one caption of `words` words (--text: of one vector) in one training step, the
  optimizers apart.

  The generator's side runs once forward and back, and forward for each further minibatch; D, k
  times forward and back on real and on fake images, then forward and back to the images (one of
  each layer's two gradients) for the generator. A GNN of its own draws the last word in the
  generator's stead.
  """
  parts, k = of_pass(config), config.discriminator_steps
  drawing = (parts["generator"] + parts["recurrence"] + parts["head"]) * words
  fakes = words if batches.judges_last(config) else words - 1
  real_images = 1 if config.real_pairing == "corresponding" else fakes
  blurred = min(real_images, fakes * config.blurry_fakes / (1 - config.blurry_fakes))
  judging = parts["discriminator"] * (3 * k * (real_images + fakes + blurred) + 2 * fakes)
  return drawing * (3 + steps.minibatch_count(config) - 1) + judging


def of_optimizers(config: config_lib.Config) -> Cost:
  """Bytes of Adam's update: parameters, gradients and two moments read, all but the gradients
  written."""
  return Cost(bytes=7 * 4 * state_lib.count_parameters(config)["total"])
