"""Times of common convolution layers, by `nets.convolutions` and by `jax.lax`: forward, and with
both gradients, by themselves and in a `lax.scan`. Prints a Markdown table.

  python -m t2i_jax.benchmark.layers
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence

import jax
from jax import lax

from t2i_jax.benchmark import timing
from t2i_jax.nets import convolutions

_TURNS = 4  # of the scan
_SECONDS = 0.5  # for which a program is repeated, at least


@dataclasses.dataclass(frozen=True)
class Layer:
  """A convolution of `images` maps of size x size, from c to f channels."""

  kind: str  # "conv", "conv_transpose" or "depthwise"
  size: int
  c: int
  f: int
  k: int
  stride: int
  images: int = 16

  def name(self) -> str:
    what = {"conv_transpose": "transposed ", "depthwise": "depthwise "}.get(self.kind, "")
    channels = f"{self.c}" if self.kind == "depthwise" else f"{self.c} -> {self.f}"
    stride = f", stride {self.stride}" if self.stride > 1 else ""
    return f"{what}{self.k}x{self.k}, {channels} at {self.size}x{self.size}{stride}"

  def arguments(self, key: jax.Array, turns: int) -> tuple[jax.Array, jax.Array]:
    """Maps [turns n h w c] and a kernel."""
    of_maps, of_kernel = jax.random.split(key)
    c = 1 if self.kind == "depthwise" else self.c
    kernel = jax.random.normal(of_kernel, (self.k, self.k, c, self.f))
    maps = jax.random.normal(of_maps, (turns, self.images, self.size, self.size, self.c))
    return maps, kernel / (self.k**2 * c) ** 0.5


LAYERS = (
  Layer("conv", 32, 64, 64, 3, 1),
  Layer("conv", 8, 256, 256, 3, 1),
  Layer("conv", 32, 64, 128, 3, 2),
  Layer("conv", 32, 256, 64, 1, 1),
  Layer("conv", 128, 3, 64, 7, 2),
  Layer("conv", 32, 64, 128, 5, 2),
  Layer("conv_transpose", 8, 256, 128, 4, 2),
  Layer("conv_transpose", 32, 64, 3, 5, 2),
  Layer("depthwise", 32, 144, 144, 3, 1),
  Layer("depthwise", 16, 240, 240, 5, 1),
)


def of_library(layer: Layer) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """The layer by `jax.lax`."""
  strides = (layer.stride, layer.stride)
  if layer.kind == "conv_transpose":
    return lambda x, kernel: lax.conv_transpose(x, kernel, strides, "SAME")
  return lambda x, kernel: lax.conv_general_dilated(
    x,
    kernel,
    strides,
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=layer.c if layer.kind == "depthwise" else 1,
  )


def of_ours(layer: Layer) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """The layer by `nets.convolutions`."""
  convolve = getattr(convolutions, layer.kind)
  return lambda x, kernel: convolve(x, kernel, (layer.stride, layer.stride), "SAME")


def programs(convolve: Callable[[jax.Array, jax.Array], jax.Array]) -> dict[str, Callable]:
  """Functions of maps [turns n h w c] and a kernel. The first two read one turn's maps only."""

  def value(x, kernel):
    y = convolve(x, kernel)
    return (y * y).sum()

  def of_each_turn(xs, kernel):
    total = lambda so_far, x: (so_far + value(x, kernel), None)  # noqa: E731
    return lax.scan(total, 0.0, xs)[0]

  return {
    "forward": lambda xs, kernel: convolve(xs[0], kernel),
    "with gradients": lambda xs, kernel: jax.value_and_grad(value, (0, 1))(xs[0], kernel),
    "forward in a scan": lambda xs, kernel: lax.map(lambda x: convolve(x, kernel), xs),
    "with gradients in a scan": jax.value_and_grad(of_each_turn, (0, 1)),
  }


def milliseconds(run: Callable, *arguments) -> float:
  """The median of repeated runs of the compiled function."""
  return 1000 * statistics.median(timing.repeated(run, *arguments, least=_SECONDS))


def table(layers: Sequence[Layer] = LAYERS) -> str:
  """Milliseconds of one turn: `jax.lax`'s, and those of `nets.convolutions`."""
  columns = [*programs(lambda x, kernel: x)]
  lines = [f"| {' | '.join(['layer', *columns])} |", "|---" * (len(columns) + 1) + "|"]
  for layer in layers:
    cells = [layer.name()]
    both = (programs(of_library(layer)), programs(of_ours(layer)))
    for name in columns:
      turns = _TURNS if "scan" in name else 1
      arguments = layer.arguments(jax.random.key(0), turns)
      theirs, ours = (milliseconds(found[name], *arguments) / turns for found in both)
      cells.append(f"{theirs:.3g}, {ours:.3g}")
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


if __name__ == "__main__":
  print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; ms: jax.lax, these")
  print(table())
