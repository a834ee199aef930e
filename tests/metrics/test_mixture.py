"""Mixtures find clusters whose place is known, and agreement is as computed by hand."""

import math

import numpy as np
import pytest
import sklearn.metrics

from t2i_jax import errors
from t2i_jax.metrics import mixture

FIT = {"components": 3, "covariance": "full", "pca": 2, "restarts": 2, "seed": 0}


def _blobs(scale=1.0):
  """Three clusters of 40 in 12 dimensions, long and thin: only their covariance tells them apart
  from one another where they cross."""
  rng = np.random.default_rng(0)
  true = np.repeat(np.arange(3), 40)
  centre = np.array([[0, 0], [6, 0], [0, 6]])[true]
  plane = np.linalg.qr(rng.normal(size=(12, 2)))[0].T
  points = (centre + rng.normal(size=(120, 2)) * [1.0, 0.3]) @ plane
  return ((points + rng.normal(0, 0.05, (120, 12)) + 5) * scale).astype(np.float32), true


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_clusters_are_found_whatever_the_features_unit(covariance):
  for scale in (1.0, 1e-4):
    features, true = _blobs(scale)
    found = mixture.fit(features, **{**FIT, "covariance": covariance})
    assert sklearn.metrics.adjusted_rand_score(true, found.classes) == 1.0
    assert found.converged and found.dimensions == 2 and 0.98 < found.explained < 1.0


def test_the_seed_decides_and_the_form_of_covariance_is_used():
  features, _ = _blobs()
  a, b = mixture.fit(features, **FIT), mixture.fit(features, **FIT)
  np.testing.assert_array_equal(a.classes, b.classes)
  assert a.log_likelihood == b.log_likelihood
  round_ones = mixture.fit(features, **{**FIT, "covariance": "spherical"})
  assert round_ones.log_likelihood < a.log_likelihood - 0.3


def test_restarts_keep_the_likeliest():
  features = np.random.default_rng(0).normal(size=(60, 4))
  values = [
    mixture.fit(features, **{**FIT, "components": 6, "pca": 0, "restarts": n}).log_likelihood
    for n in (1, 8)
  ]
  assert values[1] > values[0] + 1e-3


def test_few_or_equal_images():
  features, _ = _blobs()
  assert mixture.fit(features[:4], **{**FIT, "pca": 50, "components": 2}).dimensions == 3
  assert mixture.fit(features, **{**FIT, "pca": 0}).dimensions == 12
  with pytest.raises(errors.InputError, match="`components=5`: there are only 4 images"):
    mixture.fit(features[:4], **{**FIT, "components": 5})
  alike = mixture.fit(np.ones((20, 8), np.float32), **FIT)
  assert len(alike.classes) == 20 and alike.explained == 0.0


def test_purity_and_information_by_hand():
  # Class 0 holds a a a b, class 1 holds b b.
  classes, true = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 1])
  assert mixture.purity(classes, true) == pytest.approx(5 / 6)
  assert mixture.purity(true, true) == 1.0
  joint = {(0, 0): 3 / 6, (0, 1): 1 / 6, (1, 1): 2 / 6}
  own, others = (4 / 6, 2 / 6), (1 / 2, 1 / 2)
  shared = sum(p * math.log(p / (own[c] * others[t])) for (c, t), p in joint.items())
  entropy = [-sum(p * math.log(p) for p in ps) for ps in (own, others)]
  known = np.concatenate([true, [-1, -1]])
  found = mixture.agreement(np.concatenate([classes, [0, 1]]), known, seed=0)
  assert (found["images"], found["true_classes"], found["purity_at_best"]) == (6, 2, 1.0)
  assert found["purity"] == pytest.approx(5 / 6)
  assert found["nmi"] == pytest.approx(2 * shared / sum(entropy))
  with pytest.raises(ValueError, match="known"):
    mixture.agreement(classes, np.full(6, -1), seed=0)


def test_chance_is_what_classes_without_meaning_have():
  rng = np.random.default_rng(0)
  true = rng.integers(0, 8, 4000)
  classes = rng.choice(4, 4000, p=[0.7, 0.1, 0.1, 0.1])
  found = mixture.agreement(classes, true, seed=1)
  assert found["purity"] == pytest.approx(found["purity_by_chance"], abs=0.01)
  assert found["nmi"] == pytest.approx(found["nmi_by_chance"], abs=0.003)
  # Four of eight classes of an eighth each.
  assert found["purity_at_best"] == pytest.approx(0.5, abs=0.03)
  better = mixture.agreement(true // 2, true, seed=1)
  assert better["purity"] == pytest.approx(better["purity_at_best"], abs=0.02)
  assert better["purity_by_chance"] < 0.2 < better["nmi"] and better["nmi_by_chance"] < 0.02
