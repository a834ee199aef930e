"""Every choice of a run, declared once: the flags, their help and checks, the README table and the
checkpoint's record all come from this dataclass. No absl here; flags.py makes the flags."""

from __future__ import annotations

import dataclasses
import functools
import typing
from typing import Any, Literal

from t2i_jax import errors
from t2i_jax.config import checks as config_checks


def knob(
  default: Any,
  help: str,
  *,
  low: int | float | None = None,
  high: int | float | None = None,
  free: bool = False,
) -> Any:
  """A field that is a flag. `low` and `high` bound a number; `free`: may change when a run
  continues or is used."""
  metadata = {"help": help, "low": low, "high": high, "free": free}
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The defaults are the report's network with its ancestor's initialisation and Adam
  (BUILD_NOTES.md)."""

  # What is done, with which data, and where it goes.
  mode: Literal[
    "prepare", "train", "sample", "evaluate", "report", "bench", "params", "cluster", "word2vec"
  ] = knob("train", "what to do", free=True)
  dataset: Literal["synthetic", "flowers", "birds", "flickr30k", "cifar10", "folder"] = knob(
    "synthetic",
    "synthetic: drawn flowers; flowers: Oxford-102; birds: CUB-200-2011; folder: your own images",
  )
  raw_dir: str = knob(
    "",
    "the dataset in its publisher's own layout; images of flowers and birds, and cifar10, are "
    "fetched where they are missing",
    free=True,
  )
  data_dir: str = knob("data", "prepared data; made when absent", free=True)
  workdir: str = knob(
    "", "the run: checkpoints, metrics.jsonl, samples/, run.flags; or gs://BUCKET/RUN", free=True
  )
  seed: int = knob(0, "fixes weights, order of examples, noise and random reals", low=0)
  train_split: str = knob(
    "train", "the split to train on; flowers and birds also have class_train, and all have all"
  )
  split: str = knob("test", "the split to evaluate; report: whose captions are drawn", free=True)
  image_size: int = knob(64, "height and width of the images", low=16, high=128)
  synthetic_images: int = knob(4000, "how many flowers the synthetic dataset draws", low=10)
  allow_missing: bool = knob(
    False, "go on without images that the lists of birds or flickr30k name and that are missing"
  )
  crop: bool = knob(False, "birds: cut to the bounding box with a margin, as StackGAN does")
  captions_per_image: int = knob(
    0, "train on the first so many captions of each image; 0: all", low=0
  )
  fraction: float = knob(
    1.0, "train on this share of the captions, drawn by --seed", low=1e-4, high=1.0
  )

  # Clusters and subsets.
  features: Literal["auto", "vgg16", "classifier", "random"] = knob(
    "auto",
    "cluster: whose; auto: VGG16's where --vgg16_weights are given, else those of a classifier "
    "that is trained on the images",
    free=True,
  )
  vgg16_weights: str = knob(
    "",
    "cluster: VGG16's weights, .safetensors, .npz or Keras's .h5, with either's names",
    free=True,
  )
  vgg16_layer: Literal["fc6", "fc7", "fc8"] = knob(
    "fc7", "cluster: the fully connected layer whose output is clustered", free=True
  )
  pca: int = knob(50, "cluster: principal components that are clustered; 0: all", low=0, free=True)
  components: int = knob(10, "cluster: Gaussians of the mixture, a class each", low=1, free=True)
  covariance: Literal["full", "tied", "diag", "spherical"] = knob(
    "full", "cluster: form of the Gaussians' covariances", free=True
  )
  restarts: int = knob(
    3, "cluster: how often the mixture is fitted anew; the likeliest counts", low=1, free=True
  )
  subset: str = knob(
    "", "train on the images of a class, LABELS_FILE:CLASS, or on those that a text file names"
  )
  subset_words: str = knob(
    "", "train on images one of whose captions has one of these words: person,dog"
  )

  # Words.
  text: Literal["sequence", "word", "sum", "mean", "noise"] = knob(
    "sequence",
    "what the networks read: all words one after the other, or one vector a caption: a word of it, "
    "the sum of its words, the mean of such sums over its image's captions, or noise alone",
  )
  normalize_text: bool = knob(
    False, "text sum and mean: scale the vector to a root mean square of 1"
  )
  max_words: int = knob(25, "words a caption can have; shorter ones are padded", low=2)
  long_captions: Literal["sibling", "truncate", "drop"] = knob(
    "sibling", "a longer caption is replaced by another of its image, cut off, or left out"
  )
  oov: Literal["drop", "zero", "mean"] = knob(
    "drop", "a word without a vector is left out, is a zero vector, or the mean of all vectors"
  )
  word_vectors: str = knob(
    "",
    "a word2vec text or binary file, or --mode=word2vec's .safetensors; empty: train on the "
    "captions",
  )
  word2vec: Literal["cbow", "skip_gram"] = knob(
    "cbow", "how vectors are trained, on the captions or in --mode=word2vec"
  )
  embedding_dim: int = knob(400, "values in a word vector", low=1)
  corpus: str = knob(
    "",
    "word2vec: a Wikipedia dump (.xml.bz2), a text file (plain, .xz, .bz2, .gz) or a folder",
    free=True,
  )
  window: int = knob(5, "word2vec: words on each side that are looked at", low=1, free=True)
  min_count: int = knob(
    5, "word2vec: how often a word must occur to have a vector", low=1, free=True
  )
  workers: int = knob(
    0, "word2vec: threads, and processes that read a dump; 0: one a core", low=0, free=True
  )
  a_is_one: bool = knob(
    False, 'word2vec: "a", which a dump gives no vector, has that of "one"', free=True
  )
  noise_dim: int = knob(
    0, "values of noise from U[-1, 1] joined to each of a caption's vectors; 0: none", low=0
  )

  # Networks.
  start_size: int = knob(8, "height and width of the map that a word is projected to", low=2)
  base_channels: int = knob(
    64, "channels of the widest maps; doubled with every halving of size", low=1
  )
  kernel_size: int = knob(5, "of the strided and fractionally strided convolutions", low=2, high=9)
  generator: Literal["dcgan"] = knob("dcgan", "network that turns words into images")
  discriminator: Literal["dcgan"] = knob("dcgan", "network that scores images")
  recurrence: Literal["none", "convlstm", "lstm"] = knob(
    "convlstm", "what joins the words' images; lstm: fully connected, of small maps only"
  )
  recurrence_position: Literal["start", "last", "last_plus_deconv", "penultimate"] = knob(
    "last_plus_deconv",
    "on the projected maps, on the images, on the images with two deconvolutions after it, "
    "or before the last deconvolution",
  )
  recurrence_kernel_size: int = knob(
    5, "of the ConvLSTM's and the head's convolutions", low=1, high=9
  )
  peephole: Literal["full", "channel", "none"] = knob(
    "full", "peephole weights: one a value of the map, one a channel, or none"
  )
  forget_bias: float = knob(0.0, "initial bias of the ConvLSTM's forget gate")
  recurrence_unroll: int = knob(
    1, "words that one turn of the ConvLSTM's loop reads", low=1, free=True
  )
  share_gnn: bool = knob(True, "the GNN draws the last word with the generator's own parameters")
  bn_layout: Literal["length_batch", "batch_length"] = knob(
    "length_batch", "how images stand in memory: word by word, or caption by caption"
  )
  bn_statistics: Literal["joint", "per_word"] = knob(
    "joint", "the generator's batch norm: over all words together, or each word's place by itself"
  )
  bn_devices: Literal["all", "each"] = knob(
    "all", "batch norm with several devices: over the whole batch, or each device's part by itself"
  )
  sampling_statistics: Literal["running", "batch"] = knob(
    "running", "batch norm when drawing: running statistics, or those of the batch", free=True
  )
  mask_padding: bool = knob(True, "keep padded words out of batch norm, ConvLSTM, D and means")
  dtype: Literal["float32", "bfloat16"] = knob(
    "float32", "of the computation; parameters stay float32"
  )

  # Losses and steps.
  adversarial: Literal["non_saturating", "saturating", "none"] = knob(
    "non_saturating", "G maximises log D(G), or minimises log(1 - D(G)); none: the GNN without a D"
  )
  euclid_target: Literal["last", "mean_image", "mean_distance", "none"] = knob(
    "last",
    "what is compared with the real image: the last word's image, the words' mean image, "
    "each word's image with the distances averaged, or nothing: no GNN, D sees the last word too",
  )
  euclid_reduction: Literal["pixel_mean", "norm", "sum"] = knob(
    "pixel_mean", "mean of the squared differences, square root of their sum, or their sum"
  )
  euclid_weight: float = knob(
    1.0, "factor on the Euclidean term; above 1: the penalty method", low=0.0
  )
  real_pairing: Literal["random", "corresponding"] = knob(
    "random", "real images for D: random ones, or the caption's own for each of its words"
  )
  blurry_fakes: float = knob(
    0.0, "share of D's fakes that are real images made blurry", low=0.0, high=0.9
  )
  blur_sigma: float = knob(2.0, "pixels; of the Gaussian that makes them blurry", low=0.1)
  discriminator_steps: int = knob(1, "k: updates of D for each update of G", low=1)
  updates: Literal["d_then_g", "alternating"] = knob(
    "d_then_g", "D, then G on D's last minibatch; or G, then D, each minibatch for one of them"
  )
  generator_learning_rate: float = knob(2e-4, "Adam, for generator, GNN and recurrence", low=0.0)
  discriminator_learning_rate: float = knob(2e-4, "Adam, for the discriminator", low=0.0)
  adam_b1: float = knob(0.5, "Adam's first decay", low=0.0, high=0.9999)
  l2: float = knob(1e-5, "factor of the parameters that is added to their gradients", low=0.0)
  batch_size: int = knob(32, "captions a step", low=1)
  steps: int = knob(0, "train until so many steps are done; bench: steps to time", low=0, free=True)
  epochs: int = knob(
    0,
    "passes over the captions, where --steps is not given; word2vec: over the corpus, 0: 5",
    low=0,
    free=True,
  )

  # What a run leaves behind.
  log_every: int = knob(10, "steps between two lines of metrics.jsonl", low=1, free=True)
  sample_every: int = knob(100, "steps between two strip pictures", low=1, free=True)
  sample_captions: int = knob(8, "captions in a strip picture", low=1, free=True)
  checkpoint_every: int = knob(200, "steps between two checkpoints", low=1, free=True)
  keep_checkpoints: int = knob(3, "how many checkpoints are kept", low=1, free=True)
  stop_at_collapse: bool = knob(
    False, "end the run when all captions have nearly the same image", free=True
  )
  profile: str = knob("", "bench: a folder for a trace of the timed steps, for XProf", free=True)
  by_part: bool = knob(
    False, "bench: also time each network, the optimizer and drawing by themselves", free=True
  )
  sweep: str = knob("", "bench: also with other values of a flag: batch_size=2,4,8", free=True)
  reference: str = knob(
    "",
    "bench: a file of shares of the machine's limits to hold against; made when absent",
    free=True,
  )

  # Where it is computed.
  devices: int = knob(0, "how many devices take part; 0: all that JAX sees", low=0, free=True)
  parameter_shards: int = knob(
    1, "so many devices share one copy of parameters and optimizer states", low=1, free=True
  )
  placement: Literal["auto", "whole", "cut", "streamed"] = knob(
    "auto",
    "the images: all on each device, dealt among the devices, or read from disk as they are "
    "needed; auto: the first that fits",
    free=True,
  )
  resident_limit_mb: int = knob(
    0,
    "megabytes of images that a device, and a host, may hold; 0: a quarter of its memory",
    low=0,
    free=True,
  )
  multihost: bool = knob(
    False, "one of several processes, each started with the same flags", free=True
  )
  coordinator_address: str = knob(
    "", "multihost: process 0's HOST:PORT, where neither a TPU pod nor Slurm tells", free=True
  )
  process_count: int = knob(0, "multihost: how many processes, beside it", low=0, free=True)
  process_index: int = knob(0, "multihost: which this one is, from 0, beside it", low=0, free=True)

  # Its use.
  checkpoint: int = knob(
    0, "sample, evaluate: the step whose checkpoint to use; 0: the newest", low=0, free=True
  )
  metrics: Literal["all", "attributes"] = knob(
    "all", "evaluate: all scores, or only the colours of drawn flowers", free=True
  )
  follow: bool = knob(
    False, "evaluate: score each checkpoint, also of a run at work, until its last step", free=True
  )
  ladder: bool = knob(
    False, "evaluate: score real images made worse step by step instead of drawn ones", free=True
  )
  inception_weights: str = knob(
    "", "evaluate: Inception v3 weights, .safetensors or .npz, for frechet_inception", free=True
  )
  compare: tuple[str, ...] = knob(
    (), "report: another run's workdir beside --workdir; may be repeated", free=True
  )
  captions: tuple[str, ...] = knob((), "sample: a caption; may be repeated", free=True)
  captions_file: str = knob("", "sample: a text file, a caption a line", free=True)
  interpolate: bool = knob(
    False, "sample: also images between each caption and the next", free=True
  )
  output: str = knob(
    "",
    "sample: the strip picture, .png; report: the page, .html; the rest is put beside it; cluster: "
    "a folder; word2vec: the vectors, .bin",
    free=True,
  )

  def __post_init__(self):
    for field, kind in fields():
      config_checks.check_value(field, kind, getattr(self, field.name))
    config_checks.check_together(self)


@functools.cache
def fields() -> list[tuple[dataclasses.Field, Any]]:
  """Each field of Config with its type."""
  kinds = typing.get_type_hints(Config)
  return [(field, kinds[field.name]) for field in dataclasses.fields(Config)]


# Where a run is computed, which is no part of what it is.
_WHERE = (
  "devices",
  "parameter_shards",
  "placement",
  "resident_limit_mb",
  "multihost",
  "coordinator_address",
  "process_count",
  "process_index",
)


def to_record(config: Config) -> dict[str, Any]:
  """What a checkpoint keeps: all but where the run was computed."""
  return {name: v for name, v in dataclasses.asdict(config).items() if name not in _WHERE}


def from_record(record: dict[str, Any]) -> Config:
  """The Config that was written as `to_record` into a checkpoint.

  Raises InputError for fields that this version does not know."""
  known = {field.name for field, _ in fields()}
  unknown = sorted(set(record) - known)
  if unknown:
    raise errors.InputError(
      f"the record holds options this version does not have: {', '.join(unknown)}"
    )
  return Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in record.items()})


def differences(a: Config, b: Config) -> list[str]:
  """The fields that shape a run and differ, as 'name: of a, of b'."""
  return [
    f"--{f.name}: {getattr(a, f.name)} there, {getattr(b, f.name)} here"
    for f, _ in fields()
    if not f.metadata["free"] and getattr(a, f.name) != getattr(b, f.name)
  ]
