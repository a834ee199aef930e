"""Images on disk are indexed as an array of them is, and only those asked for are read."""

import numpy as np
import pytest

from t2i_jax.data import images, stored

RNG = np.random.default_rng(0)
ARRAY = RNG.integers(0, 256, (7, 8, 8, 3)).astype(np.uint8)
# Image i is record ROW[i] of part PART[i]: neither in order nor all of the records.
PART, ROW = np.array([1, 0, 0, 1, 1, 0, 1]), np.array([3, 0, 2, 0, 1, 1, 4])


class Source:
  """Records in memory as a part of a prepared dataset gives them; `read` are those asked for."""

  def __init__(self, part):
    blank = images.encode_png(np.zeros((8, 8, 3), np.uint8))
    self.records = [{"image": blank, "label": 0} for _ in range(6)]
    for image in np.flatnonzero(part == PART):
      self.records[ROW[image]] = {"image": images.encode_png(ARRAY[image]), "label": 1}
    self.read = []

  def __getitems__(self, rows):
    assert all(type(row) is int for row in rows)  # as an ArrayRecord file wants them
    self.read += rows
    return [self.records[row] for row in rows]


@pytest.fixture
def sources():
  return [Source(0), Source(1)]


@pytest.fixture
def found(sources):
  return stored.StoredImages(sources, PART, ROW, 8)


def test_it_says_of_itself_what_an_array_says(found, sources):
  assert len(found) == len(ARRAY)
  assert found.shape == ARRAY.shape and found.dtype == ARRAY.dtype
  assert sources[0].read == sources[1].read == []


@pytest.mark.parametrize(
  "chosen",
  [
    0,
    -1,
    np.int32(3),
    slice(None),
    slice(1, 6, 2),
    slice(None, None, -1),
    slice(3, 3),
    [4],
    np.array([6, 0, 0, 3, 6]),
    np.array([[1, 2, 0], [0, 5, 1]]),
    np.array([], np.int32),
    ARRAY[:, 0, 0, 0] > 100,
    np.zeros(7, bool),
  ],
  ids=repr,
)
def test_what_is_chosen_is_what_an_array_gives(found, chosen):
  got = found[chosen]
  assert got.dtype == np.uint8
  np.testing.assert_array_equal(got, ARRAY[chosen])


def test_only_what_is_asked_for_is_read(found, sources):
  found[np.array([2, 3, 2])]
  assert (sources[0].read, sources[1].read) == ([2, 2], [0])


def test_compress_leaves_an_array_s_rows_and_reads_nothing(found, sources):
  keep = np.array([True, False, True, True, False, False, True])
  fewer = found.compress(keep)
  assert sources[0].read == sources[1].read == []
  assert fewer.shape == (4, 8, 8, 3)
  np.testing.assert_array_equal(fewer[:], ARRAY.compress(keep, axis=0))
  np.testing.assert_array_equal(fewer.compress(np.array([0, 1, 1, 0], bool))[1], ARRAY[3])


def test_a_row_that_is_not_there_is_an_error_as_of_an_array(found):
  for chosen in (7, -8, np.array([0, 7])):
    with pytest.raises(IndexError):
      found[chosen]
