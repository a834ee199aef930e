"""Training: losses, updates, for how long, and what is logged."""

from __future__ import annotations

import dataclasses
from typing import Literal

from t2i_jax import errors
from t2i_jax.config.groups import Group, knob


@dataclasses.dataclass(frozen=True, kw_only=True)
class Losses(Group, role="shape", modes=("train", "bench")):
  """The losses, and the discriminator's real and fake images."""

  adversarial: Literal["non_saturating", "saturating", "hinge", "none"] = knob(
    "non_saturating",
    "the generator maximises log D(G) or minimises log(1 - D(G)); hinge: D's logits on either side "
    "of a margin of 1; none: no discriminator, the GNN alone",
    modes=("train", "bench", "params"),
  )
  euclid_target: Literal["last", "mean_image", "mean_distance", "none"] = knob(
    "last",
    "what is compared with the real image: the last word's image, the mean of all words' images, "
    "every word's image with the distances averaged, or nothing: no GNN, and the discriminator "
    "also sees the last word's image",
  )
  euclid_reduction: Literal["pixel_mean", "norm", "sum"] = knob(
    "pixel_mean", "mean of the squared differences, square root of their sum, or their sum"
  )
  euclid_weight: float = knob(
    1.0, "factor of the Euclidean term; above 1: the thesis' penalty method", low=0.0
  )
  each_word_weight: float = knob(
    0.0,
    "factor of the distances of all words' images to the real one, averaged, as a term beside the "
    "Euclidean one",
    low=0.0,
  )
  contrast_weight: float = knob(
    0.0,
    "--text=reader: factor of the term that draws a generated image to its caption, away from the "
    "batch's others, in the reader's space",
    low=0.0,
    modes=("train",),
  )
  mismatched: Literal["none", "one", "all"] = knob(
    "all",
    "--text=reader: captions of other images that the discriminator sees with a real image as fake "
    "pairs: none, one, or all in the batch",
    modes=("train",),
  )
  interpolation_weight: float = knob(
    0.0,
    "--text=reader: factor of the generator's loss on images of states halfway between two "
    "captions (GAN-INT: 0.5)",
    low=0.0,
    modes=("train",),
  )
  r1_weight: float = knob(
    0.0,
    "factor of half the squared norm of the discriminator's gradient at real images, an eighth of "
    "them in each step",
    low=0.0,
  )
  judged_on: Literal["prefix", "caption"] = knob(
    "prefix",
    "what the discriminator reads with an image: the words that it was made of, or the whole "
    "caption",
    modes=("train",),
  )
  real_pairing: Literal["random", "corresponding"] = knob(
    "random", "real images: random ones, or each caption's own, once per word"
  )
  blurry_fakes: float = knob(
    0.0, "share of the fake images that are blurred real images", low=0.0, high=0.9
  )
  blur_sigma: float = knob(2.0, "standard deviation of that blur, in pixels", low=0.1)

  def check(self) -> None:
    if self.adversarial == "none" and self.euclid_target == "none":
      raise errors.InputError(
        "--adversarial=none --euclid_target=none: one of the two is needed; give the other one a "
        "value, such as --euclid_target=last"
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Updates(Group, role="shape", modes=("train", "bench")):
  """The order of updates, and the optimizer (Adam)."""

  batch_size: int = knob(32, "captions per minibatch", low=1)
  discriminator_steps: int = knob(1, "k: discriminator updates per generator update", low=1)
  updates: Literal["d_then_g", "alternating"] = knob(
    "d_then_g",
    "discriminator, then generator on the discriminator's last minibatch; or generator, then "
    "discriminator, each on a minibatch of its own",
  )
  generator_learning_rate: float = knob(
    2e-4, "learning rate of generator, GNN and recurrence", low=0.0, role="schedule"
  )
  discriminator_learning_rate: float = knob(
    2e-4, "learning rate of the discriminator", low=0.0, role="schedule"
  )
  learning_rate_half_life: int = knob(
    0,
    "captions, of the generator's updates, after which both learning rates are halved, again and "
    "again; 0: they stay constant",
    low=0,
    role="schedule",
  )
  adam_b1: float = knob(0.5, "decay rate of Adam's first moment", low=0.0, high=0.9999)
  adam_b2: float = knob(0.999, "decay rate of Adam's second moment", low=0.0, high=0.99999)
  average_images: int = knob(
    0,
    "draw with an exponential moving average of the generator's parameters: its half-life in "
    "captions, at most 5 % of those seen; 0: with the parameters themselves",
    low=0,
  )
  l2: float = knob(1e-5, "weight decay: factor of the parameters added to their gradients", low=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule(Group, role="schedule", modes=("train",)):
  """How long to train."""

  steps: int = knob(
    0, "step at which training ends; bench: steps to time, 0: 5", low=0, modes=("train", "bench")
  )
  epochs: int = knob(
    0,
    "passes over the captions, if --steps is not given; word2vec: over the corpus, 0: 5",
    low=0,
    modes=("train", "word2vec"),
  )
  stop_at_collapse: bool = knob(
    False,
    "end the run when all captions have nearly the same image, or a network's gradients are 0, at "
    "two looks in a row",
  )

  def check(self) -> None:
    if self.mode == "train" and not (self.steps or self.epochs):
      raise errors.InputError(
        "--steps: how long to train is not given; try --steps=400 or --epochs=5"
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logs(Group, role="use", modes=("train",), anywhere=True):
  """What training writes, and how often."""

  log_every: int = knob(10, "steps between lines of metrics.jsonl", low=1)
  sample_every: int = knob(100, "steps between strip pictures in samples/", low=1)
  sample_captions: int = knob(8, "captions in a strip picture", low=1)
  checkpoint_every: int = knob(200, "steps between checkpoints", low=1)
  keep_checkpoints: int = knob(3, "number of checkpoints to keep, the newest", low=1)
