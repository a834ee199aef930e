"""Image similarity against definitions written out window by window, and by hand."""

import numpy as np
import PIL.Image
import pytest

from t2i_jax.metrics import metric as metric_lib
from t2i_jax.metrics import similarity

METRICS = [similarity.mse, similarity.correlation, similarity.ssim, similarity.ms_ssim]


def noise(n, h, w, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (n, h, w, 3), np.uint8)


def smooth(n, h, w, seed=0):
  small = noise(n, 5, 5, seed)
  large = [PIL.Image.fromarray(image).resize((w, h), PIL.Image.BICUBIC) for image in small]
  return np.stack([np.asarray(image) for image in large])


def disturbed(images, amount, seed=1):
  added = np.random.default_rng(seed).normal(0, amount, images.shape)
  return np.clip(np.round(images + added), 0, 255).astype(np.uint8)


def plain(value, n=1, size=16):
  return np.full((n, size, size, 3), value, np.uint8)


def written_out(a, b):
  """Wang et al. 2004, eq. 13-16, for one channel: (means of) l * cs and cs, window by window."""
  offset = np.arange(11) - 5
  weight = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))
  weight /= weight.sum()
  c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
  full, contrast = [], []
  for y in range(a.shape[0] - 10):
    for x in range(a.shape[1] - 10):
      p, q = (image[y : y + 11, x : x + 11].astype(float) for image in (a, b))
      mean_p, mean_q = (weight * p).sum(), (weight * q).sum()
      var_p, var_q = (weight * (p - mean_p) ** 2).sum(), (weight * (q - mean_q) ** 2).sum()
      shared = (weight * (p - mean_p) * (q - mean_q)).sum()
      contrast.append((2 * shared + c2) / (var_p + var_q + c2))
      light = (2 * mean_p * mean_q + c1) / (mean_p**2 + mean_q**2 + c1)
      full.append(light * contrast[-1])
  return np.mean(full), np.mean(contrast)


@pytest.mark.parametrize("size", [(11, 11), (16, 23)])
def test_ssim_is_its_definition(size):
  a = smooth(2, *size)
  b = disturbed(a, 25)
  expected = [
    np.mean([written_out(p[..., c], q[..., c])[0] for c in range(3)]) for p, q in zip(a, b)
  ]
  np.testing.assert_allclose(similarity.ssim(a, b), expected, rtol=1e-9)


@pytest.mark.parametrize("size, scales", [((21, 40), 1), ((23, 27), 2), ((44, 46), 3)])
def test_ms_ssim_is_its_definition(size, scales):
  a = smooth(1, *size)
  b = disturbed(a, 25)
  weights = np.array([0.0448, 0.2856, 0.3001])[:scales]
  weights /= weights.sum()
  found = []
  for channel in range(3):
    p, q = a[0, ..., channel].astype(float), b[0, ..., channel].astype(float)
    product = 1.0
    for scale in range(scales):
      full, contrast = written_out(p, q)
      product *= (full if scale == scales - 1 else contrast) ** weights[scale]
      h, w = p.shape[0] // 2 * 2, p.shape[1] // 2 * 2
      p, q = (
        (x[:h:2, :w:2] + x[1:h:2, :w:2] + x[:h:2, 1:w:2] + x[1:h:2, 1:w:2]) / 4 for x in (p, q)
      )
    found.append(product)
  np.testing.assert_allclose(similarity.ms_ssim(a, b), np.mean(found), rtol=1e-9)


def test_plain_images_by_hand():
  a, b = plain(50), plain(200)
  c1 = 6.5025
  expected = (2 * 50 * 200 + c1) / (50**2 + 200**2 + c1)
  assert similarity.ssim(a, b)[0] == pytest.approx(expected)
  assert similarity.mse(a, b)[0] == pytest.approx((150 / 127.5) ** 2)
  assert similarity.mse(plain(0), plain(255))[0] == pytest.approx(4)
  assert similarity.correlation(a, b)[0] == 0
  assert similarity.correlation(a, noise(1, 16, 16))[0] == 0


def test_correlation_is_numpys():
  a, b = noise(3, 16, 20), smooth(3, 16, 20)
  expected = [np.corrcoef(p.ravel(), q.ravel())[0, 1] for p, q in zip(a, b)]
  np.testing.assert_allclose(similarity.correlation(a, b), expected)
  np.testing.assert_allclose(similarity.correlation(a, 255 - a), -1)
  one_pixel = plain(7)
  one_pixel[0, 3, 3, 1] = 8
  np.testing.assert_allclose(similarity.correlation(one_pixel, one_pixel), 1)


def test_equal_images():
  a = noise(3, 32, 32)
  for metric in METRICS:
    np.testing.assert_allclose(metric(a, a), 0 if metric is similarity.mse else 1, atol=1e-12)


def test_opposite_images_have_no_complex_or_undefined_ms_ssim():
  a = noise(2, 48, 48)
  found = similarity.ms_ssim(a, 255 - a)
  np.testing.assert_array_equal(found, 0)


def test_more_noise_is_less_alike():
  a = smooth(4, 48, 48)
  for metric in METRICS:
    steps = np.stack([metric(a, disturbed(a, amount)) for amount in (4, 16, 48, 90)])
    sign = 1 if metric is similarity.mse else -1
    assert (sign * np.diff(steps, axis=0) > 0).all(), metric


def test_pairs_do_not_touch_each_other_in_blocks_of_any_size(monkeypatch):
  a, b = noise(7, 24, 24), smooth(7, 24, 24)
  whole = [metric(a, b) for metric in METRICS]
  monkeypatch.setattr(similarity, "_BLOCK", 3)
  for metric, expected in zip(METRICS, whole):
    np.testing.assert_allclose(metric(a, b), expected, rtol=1e-12)
    np.testing.assert_allclose(metric(a[4:5], b[4:5]), expected[4:5], rtol=1e-12)
    np.testing.assert_allclose(metric(b, a), expected, rtol=1e-9)


def test_diversity_of_a_collapsed_a_partly_collapsed_and_a_diverse_set():
  images = smooth(40, 24, 24)
  np.testing.assert_allclose(similarity.diversity(np.repeat(images[:1], 9, 0)), 0, atol=1e-12)
  diverse = similarity.diversity(images)
  half = similarity.diversity(np.concatenate([images[:20], np.repeat(images[:1], 20, 0)]))
  assert 0.3 < half.mean() < diverse.mean() - 0.1
  assert ((diverse > 0) & (diverse <= 1)).all()


def test_diversity_has_no_image_in_two_pairs():
  # Image i is plain of value 2 i: a pair's value tells which two it was.
  images = np.concatenate([plain(2 * i + 20) for i in range(30)])
  pairs = {}
  for i in range(30):
    for j in range(i):
      value = 1 - similarity.ms_ssim(images[i : i + 1], images[j : j + 1])[0]
      pairs[round(value, 12)] = (i, j)
  found = similarity.diversity(images, pairs=1000)
  used = [i for value in found for i in pairs[round(value, 12)]]
  assert sorted(used) == list(range(30))
  assert len(similarity.diversity(images, pairs=4)) == 4
  np.testing.assert_array_equal(found, similarity.diversity(images, pairs=1000))
  assert (found != similarity.diversity(images, pairs=1000, seed=1)).any()


def test_images_below_the_window_and_single_ones_are_errors():
  for metric in (similarity.ssim, similarity.ms_ssim):
    with pytest.raises(ValueError, match="10 pixels: SSIM's window needs at least 11"):
      metric(noise(1, 12, 10), noise(1, 12, 10))
  with pytest.raises(ValueError, match="1 images"):
    similarity.diversity(noise(1, 16, 16))


def _score(name, **inputs):
  (record,) = [found for found in similarity.METRICS if found.name == name]
  assert set(record.needs) == set(inputs)
  return record.compute(metric_lib.Inputs(**inputs))[name]


def test_what_is_beside_a_score_is_of_images_of_other_captions():
  order = metric_lib.shuffled(4)
  assert sorted(order) == [0, 1, 2, 3] and (order != np.arange(4)).any()
  levels, own = np.array([10, 60, 130, 250]), np.array([20, 40, 160, 240])
  images_u8, own_u8 = (np.concatenate([plain(x) for x in both]) for both in (levels, own))
  found = _score("mse", images_u8=images_u8, own_u8=own_u8)
  assert found["value"] == pytest.approx((10**2 + 20**2 + 30**2 + 10**2) / 4 / 127.5**2, rel=1e-5)
  expected = np.mean((levels[order] - own) ** 2) / 127.5**2
  assert found["shuffled"] == pytest.approx(expected, rel=1e-5)
  found = _score("ssim", images_u8=images_u8, own_u8=own_u8)
  c1 = 6.5025
  light = lambda a, b: np.mean((2 * a * b + c1) / (a * a + b * b + c1))  # noqa: E731
  assert found["value"] == pytest.approx(light(levels, own), rel=1e-5)
  assert found["shuffled"] == pytest.approx(light(levels[order], own), rel=1e-5)
  features = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0], [0.0, 10.0]])
  own_features = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])  # 5, 5, 10, 10 away
  found = _score("feature_distance", image=np.arange(4), features=features,
                 own_features=own_features)  # fmt: skip
  assert found["value"] == 30 / 4
  expected = np.mean([np.hypot(*(features[j] - x)) for j, x in zip(order, own_features)])
  assert expected != found["value"]
  assert found["shuffled"] == pytest.approx(expected, rel=1e-5)


def test_what_is_beside_diversity_is_that_of_the_real_images():
  # However these are paired, one pair is of 50 and 200, and the other's images are equal.
  real = np.concatenate([plain(50), plain(200), plain(200), plain(200)])
  found = _score("diversity", images_u8=plain(90, 4), own_u8=real)
  light = (2 * 50 * 200 + 6.5025) / (50**2 + 200**2 + 6.5025)
  assert found["value"] == pytest.approx(0, abs=1e-9)
  assert found["real"] == pytest.approx((1 - light) / 2, rel=1e-5)
