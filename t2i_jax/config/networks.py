"""The networks. The defaults are the thesis' networks (docs/thesis.md)."""

from __future__ import annotations

import dataclasses
from typing import Literal

from t2i_jax.config.groups import Group, knob

_BUILDS = ("train", "bench", "params")
_DRAWS = ("train", "sample", "evaluate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Networks(Group, role="shape", modes=_BUILDS):
  """The generator, the GNN, which draws the last word's image, and the discriminator."""

  generator: Literal["dcgan", "modulated"] = knob(
    "dcgan",
    "network that turns words into images; modulated: text and noise scale and shift maps of every "
    "size",
  )
  discriminator: Literal["dcgan", "concatenated", "projected", "residual"] = knob(
    "dcgan",
    "network that tells real images from generated; concatenated: judges pairs of image and "
    "caption; residual: images, and such pairs; projected: the same, from features of a network "
    "trained on ImageNet",
  )
  excitation: bool = knob(True, "--generator=modulated: small maps gate the channels of large ones")
  start_size: int = knob(
    8,
    "height and width of the map that a word is projected to; --generator=modulated: always 4",
    low=2,
  )
  base_channels: int = knob(
    64,
    "channels of the largest maps; doubled whenever the size halves (--generator=modulated and "
    "--discriminator=residual: 1 to 12 times it; projected: not used)",
    low=1,
  )
  kernel_size: int = knob(
    5,
    "kernel size of strided and transposed convolutions; the generator modulated and the "
    "discriminators projected and residual have their own",
    low=2,
    high=9,
  )
  share_gnn: bool = knob(True, "the GNN uses the generator's parameters, not its own")
  mask_padding: bool = knob(
    True, "exclude padded words from batch norm, recurrence, discriminator and means"
  )
  dtype: Literal["float32", "bfloat16"] = knob(
    "float32", "type of the computation; parameters stay float32"
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recurrence(Group, role="shape", modes=_BUILDS):
  """The network that joins the images of a caption's words."""

  recurrence: Literal["none", "convlstm", "lstm"] = knob(
    "convlstm", "lstm: fully connected, for small maps only"
  )
  recurrence_position: Literal["start", "last", "last_plus_deconv", "penultimate"] = knob(
    "last_plus_deconv",
    "start: on the projected maps; last: on the images; last_plus_deconv: on the images, with two "
    "deconvolutions after it; penultimate: before the last deconvolution",
  )
  recurrence_kernel_size: int = knob(
    5, "kernel size of the ConvLSTM and of the two deconvolutions after it", low=1, high=9
  )
  peephole: Literal["full", "channel", "none"] = knob(
    "full",
    "--recurrence=convlstm: peephole weights: one per value of the map, one per channel, or none",
  )
  forget_bias: float = knob(0.0, "--recurrence=convlstm: initial bias of the forget gate")
  recurrence_unroll: int = knob(
    1,
    "words read per iteration of the recurrence's loop",
    low=1,
    role="use",
    modes=(*_DRAWS, "bench"),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normalisation(Group, role="shape", modes=("train", "bench")):
  """Batch norm: over which images its statistics are taken."""

  bn_layout: Literal["length_batch", "batch_length"] = knob(
    "length_batch", "order of the images in memory: word by word, or caption by caption"
  )
  bn_statistics: Literal["joint", "per_word"] = knob(
    "joint", "generator: over all words together, or for each word position by itself",
    modes=_BUILDS,
  )  # fmt: skip
  bn_devices: Literal["all", "each"] = knob(
    "all", "on several devices: over the whole batch, or over each device's part by itself"
  )
  sampling_statistics: Literal["running", "batch"] = knob(
    "running",
    "when images are generated: running statistics, or those of the batch",
    role="schedule",
    modes=_DRAWS,
  )
