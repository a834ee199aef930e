"""The data: images and captions, which of them are trained on, and what of a caption is read."""

from __future__ import annotations

import dataclasses
from typing import Literal

from t2i_jax import errors
from t2i_jax.config.groups import Group, knob

_PREPARES = ("prepare", "train", "bench", "cluster", "word2vec")
_READS = ("prepare", "train", "evaluate", "report", "bench", "cluster", "word2vec")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(Group, role="shape", modes=_PREPARES):
  """The dataset and how its images are prepared."""

  dataset: Literal[
    "synthetic",
    "flowers",
    "birds",
    "flickr30k",
    "cifar10",
    "folder",
  ] = knob(
    "synthetic",
    "synthetic: flowers drawn by rules; flowers: Oxford-102; birds: CUB-200-2011; folder: your own "
    "images",
  )
  raw_dir: str = knob(
    "",
    "the dataset in its publisher's layout; images of flowers and birds, and cifar10, are "
    "downloaded if missing",
    role="use",
    modes=_READS,
  )
  data_dir: str = knob("data", "folder of prepared data; made if absent", role="use", modes=_READS)
  train_split: str = knob(
    "train",
    "split to train on; every dataset also has all, flowers and birds also class_train",
    modes=("train", "bench", "cluster"),
  )
  split: str = knob(
    "test",
    "split to evaluate; report: split whose captions are drawn",
    role="use",
    modes=("evaluate", "report"),
  )
  image_size: int = knob(
    64, "image height and width in pixels", low=16, high=128, modes=(*_PREPARES, "params")
  )
  synthetic_images: int = knob(4000, "--dataset=synthetic: number of images", low=10)
  allow_missing: bool = knob(
    False, "leave out images that the lists of birds or flickr30k name but that are missing"
  )
  verify: bool = knob(
    False,
    "compare the prepared copy with the raw files, image by image and caption by caption",
    role="use",
    modes=("prepare",),
  )
  crop: bool = knob(False, "birds: crop to the bounding box with a margin, as StackGAN does")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subset(Group, role="shape", modes=("train", "bench")):
  """Which images and captions of the split are trained on."""

  captions_per_image: int = knob(0, "use only the first N captions of each image; 0: all", low=0)
  fraction: float = knob(
    1.0, "share of the captions to use, chosen at random by --seed", low=1e-4, high=1.0
  )
  hold_out: float = knob(
    0.0,
    "share of the images that training does not see; the checkpoint whose images are nearest to "
    "them (Frechet distance, untrained networks' features) is kept besides the newest",
    low=0.0,
    high=0.5,
    modes=("train",),
  )
  subset: str = knob(
    "",
    "use the images of one class, LABELS_FILE:CLASS, or those listed in a text file",
    modes=("train", "bench", "cluster"),
  )
  subset_words: str = knob(
    "",
    "use images with a caption that has one of these words, such as person,dog",
    modes=("train", "bench", "cluster"),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation(Group, role="shape", modes=("train", "bench")):
  """Random changes of what training sees."""

  random_crops: bool = knob(
    False, "real images are random crops of images prepared at 5/4 of --image_size"
  )
  mirror: bool = knob(False, "half of the real images are mirrored")
  augment: Literal["none", "move_and_cut", "move_cut_and_colour"] = knob(
    "none",
    "before the discriminator: move each image by up to 1/8 of its side and cut a square of 1/5 "
    "out of it; and change its brightness, saturation and contrast",
    modes=("train",),
  )
  text_noise: float = knob(
    0.0,
    "share of noise in what the generator reads of a caption",
    low=0.0,
    high=0.9,
    modes=("train",),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading(Group, role="shape", modes=("train", "bench")):
  """The reader of --text=reader, and how far captions are read in training."""

  reader: Literal["convlstm", "gru"] = knob(
    "convlstm", "recurrence of the reader", modes=("train",)
  )
  reader_eyes: Literal["efficientnet", "own"] = knob(
    "efficientnet",
    "what the reader is fitted to see of images: features of a network trained on ImageNet, or "
    "those of a small network that is trained with it",
    modes=("train",),
  )
  reader_dim: int = knob(256, "length of the reader's state", low=1, modes=("train", "params"))
  reader_steps: int = knob(
    1200, "steps of the reader's own training, before the other networks'", low=1, modes=("train",)
  )
  prefixes: Literal["all", "one"] = knob(
    "all",
    "images of a caption in a training step: all, for each word read so far; one: of the whole "
    "caption half the time, else of its beginning up to a random word",
    modes=("train",),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text(Group, role="shape", modes=("train", "bench")):
  """What the networks read of a caption, and the vectors of its words."""

  text: Literal["sequence", "reader", "word", "sum", "mean", "noise"] = knob(
    "sequence",
    "all words, one after another; reader: for each word the state of a network that has read up "
    "to it; or one vector per caption: a word of it, the sum of its words, the mean of such sums "
    "over its image's captions, or noise alone",
    modes=("train", "bench", "params"),
  )
  normalize_text: bool = knob(
    False, "--text=sum and mean: scale the vector to a root mean square of 1"
  )
  max_words: int = knob(
    25,
    "maximum words per caption; shorter captions are padded",
    low=2,
    modes=("train", "bench", "params"),
  )
  long_captions: Literal["sibling", "truncate", "drop"] = knob(
    "sibling", "replace a longer caption by another of its image, truncate it, or drop it"
  )
  oov: Literal["drop", "zero", "mean"] = knob(
    "drop", "drop a word without a vector, give it a zero vector, or the mean of all vectors"
  )
  word_vectors: str = knob(
    "",
    "word2vec file (text or binary), or the .safetensors of --mode=word2vec; empty: train vectors "
    "on the captions",
    modes=("train",),
  )
  word2vec: Literal["cbow", "skip_gram"] = knob(
    "cbow",
    "how word vectors are trained, on the captions or by --mode=word2vec",
    modes=("train", "word2vec"),
  )
  whiten: bool = knob(
    False,
    "word vectors: centred and decorrelated, so that words of the same contexts, such as colours, "
    "are as far apart as others",
    modes=("train",),
  )
  embedding_dim: int = knob(
    400, "length of a word vector", low=1, modes=("train", "bench", "params", "word2vec")
  )
  noise_dim: int = knob(
    0,
    "length of the noise, from U[-1, 1], appended to each of a caption's vectors; 0: none",
    low=0,
    modes=("train", "bench", "params"),
  )

  @property
  def is_one_vector(self) -> bool:
    """Whether a caption is one vector, and so has one image."""
    return self.text not in ("sequence", "reader")

  def check(self) -> None:
    if self.text == "noise" and not self.noise_dim:
      raise errors.InputError("--noise_dim=0: --text=noise needs some; try --noise_dim=400")
    if self.normalize_text and self.text not in ("sum", "mean"):
      raise errors.InputError(
        f"--normalize_text: for --text=sum and mean, not {self.text}; leave it out"
      )
