"""Packing: every word once, the last words last; spread and collect undo each other."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.nets import packing

LENGTH = jnp.array([3, 1, 4])
# Slots [t b] are numbered 3 t + b. Before the last words: 0, 2 | 3, 5 | 8; last: 6, 1, 11.


@pytest.mark.parametrize("bucket", [5, 7])
def test_words_stand_in_time_order_and_the_last_ones_at_the_end(bucket):
  packed = packing.pack(LENGTH, 4, True, bucket)
  rest = bucket - 5
  np.testing.assert_array_equal(packed.slot, [0, 2, 3, 5, 8] + [12] * rest + [6, 1, 11])
  np.testing.assert_array_equal(packed.weight, [1] * 5 + [0] * rest + [1] * 3)
  np.testing.assert_array_equal(packed.caption[:5], [0, 2, 0, 2, 2])
  np.testing.assert_array_equal(packed.caption[-3:], [0, 1, 2])


@pytest.mark.parametrize("bucket", [5, 7])
def test_words_stand_caption_by_caption_in_the_other_layout(bucket):
  packed = packing.pack(LENGTH, 4, True, bucket, "batch_length")
  rest = bucket - 5
  np.testing.assert_array_equal(packed.slot, [0, 3, 2, 5, 8] + [12] * rest + [6, 1, 11])
  np.testing.assert_array_equal(packed.position, [0, 1, 0, 1, 2] + [4] * rest + [2, 0, 3])
  x = jnp.arange(1.0, 13.0).reshape(4, 3)
  np.testing.assert_array_equal(packing.collect(packed, x)[:5], [1, 4, 3, 6, 9])
  there_and_back = packing.spread(packed, packing.collect(packed, x))
  np.testing.assert_array_equal(there_and_back, x * (np.arange(4)[:, None] < LENGTH))


def test_empty_slots_are_words_where_padding_is_not_masked():
  packed = packing.pack(LENGTH, 4, False)
  assert packed.bucket == 9
  np.testing.assert_array_equal(np.sort(packed.slot), np.arange(12))
  np.testing.assert_array_equal(packed.slot[-3:], [6, 1, 11])
  np.testing.assert_array_equal(packed.weight, np.ones(12))


def test_spread_and_collect_move_values_and_their_gradients():
  packed = packing.pack(LENGTH, 4, True, 7)
  x = jnp.arange(1.0, 13.0).reshape(4, 3)
  np.testing.assert_array_equal(packing.collect(packed, x), [1, 3, 4, 6, 9, 0, 0, 7, 2, 12])
  there_and_back = packing.spread(packed, packing.collect(packed, x))
  np.testing.assert_array_equal(there_and_back, x * (np.arange(4)[:, None] < LENGTH))
  weights = jnp.arange(10.0)
  gradient = jax.grad(lambda x: (packing.collect(packed, x) * weights).sum())(x)
  np.testing.assert_array_equal(gradient, packing.spread(packed, weights))
  gradient = jax.grad(lambda y: (packing.spread(packed, y) * x).sum())(weights)
  np.testing.assert_array_equal(gradient, packing.collect(packed, x))


def test_a_bucket_holds_the_words_and_has_few_sizes(monkeypatch):
  monkeypatch.setattr(packing, "_BUCKETS", 16)
  monkeypatch.setattr(packing, "_BUCKETS_ALONE", 4)
  sizes = set()
  for words in range(8, 8 * 25 + 1):
    m = packing.bucket_of(words, 8, 25)
    assert words - 8 <= m <= 192 and m - (words - 8) <= 12
    sizes.add(m)
  assert len(sizes) == 16 and packing.bucket_of(200, 8, 25) == 192
  assert packing.bucket_of(1, 1, 2) == 1
  # A single caption of 1 to 25 words.
  alone = [packing.bucket_of(words, 1, 25) for words in range(1, 26)]
  assert alone == 7 * [6] + 6 * [12] + 6 * [18] + 6 * [24]


def test_values_whose_axes_are_exchanged_are_refused():
  packed = packing.pack(LENGTH, 4, True)
  unchecked = inspect.unwrap(packing.collect)  # as outside the tests
  with pytest.raises(ValueError, match="slots of values"):
    unchecked(packed, jnp.zeros((3, 4, 2)))
