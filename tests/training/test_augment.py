"""Crops, mirror images, moved and cut images, noise in the text: what they may change, and that the
number of devices makes no difference."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from t2i_jax import config as config_lib
from t2i_jax.nets import words
from t2i_jax.training import augment, reading

CONFIG = config_lib.Config(mode="train", workdir="w", steps=1, image_size=16, start_size=4)
MODERN = dataclasses.replace(
  CONFIG, random_crops=True, mirror=True, augment="move_and_cut", text="reader", recurrence="none",
  prefixes="one", real_pairing="corresponding", text_noise=0.25,
)  # fmt: skip
KEY = jax.random.key(3)


@functools.partial(jax.jit, static_argnames="axes")
def _crop(images, axes=()):
  return augment.crop_and_mirror(MODERN, KEY, images, axes)


@functools.partial(jax.jit, static_argnames=("kind", "axes"))
def _shown(kind, images, axes=()):
  """What the discriminator is shown of images."""
  return augment.before_discriminator(MODERN, KEY, kind, images, axes)


def _numbered(count, side):
  """Each pixel of an image says where it stands, in (0, 1]."""
  y, x = np.mgrid[:side, :side]
  image = np.stack([y + 1, x + 1, np.full_like(x, side)], -1) / side
  return jnp.asarray(np.broadcast_to(image, (count, side, side, 3)), jnp.float32)


def test_whether_a_caption_is_read_whole_does_not_say_whether_its_image_is_mirrored():
  words_of = jnp.full(200, 9, jnp.int32)
  packed = reading.pack(MODERN, words_of, 9, KEY, 0)
  is_whole = np.asarray(packed.position) == 8
  config = dataclasses.replace(MODERN, random_crops=False)
  found = np.asarray(augment.crop_and_mirror(config, KEY, _numbered(200, 16), ()))
  is_mirrored = found[:, 0, 1, 1] < found[:, 0, 0, 1]
  for group in (is_whole, ~is_whole):
    assert 0.3 < is_mirrored[group].mean() < 0.7


def test_nothing_changes_where_nothing_is_asked_for():
  images = _numbered(4, 16)
  assert augment.crop_and_mirror(CONFIG, KEY, images, ()) is images
  assert augment.before_discriminator(CONFIG, KEY, augment.REAL, images, ()) is images
  assert augment.prepared_side(CONFIG) == 16 and augment.prepared_side(MODERN) == 20


def test_the_middle_of_an_image_by_hand():
  image = np.arange(25).reshape(1, 5, 5, 1)
  found = augment.centre(image, 3)[0, :, :, 0].tolist()
  assert found == [[6, 7, 8], [11, 12, 13], [16, 17, 18]]
  # An odd rest is left out below and on the right.
  assert augment.centre(image, 4)[0, :, 0, 0].tolist() == [0, 5, 10, 15]
  # Rows and columns each have their own middle.
  wide = np.arange(21).reshape(1, 3, 7, 1)
  assert augment.centre(wide, 3)[0, :, :, 0].tolist() == [[2, 3, 4], [9, 10, 11], [16, 17, 18]]


def test_crops_are_squares_of_the_image_anywhere_in_it_and_half_are_mirrored():
  found = np.asarray(_crop(_numbered(400, 20))) * 20
  assert found.shape == (400, 16, 16, 3)
  rises = found[:, 0, 1, 1] > found[:, 0, 0, 1]
  assert 0.4 < rises.mean() < 0.6
  upright = np.where(rises[:, None, None, None], found, found[:, :, ::-1])
  corners = upright[:, 0, 0, :2].round() - 1
  expected = corners[:, None, None] + np.stack(np.mgrid[:16, :16], -1) + 1
  np.testing.assert_allclose(upright[..., :2], expected, rtol=1e-5)
  for axis in (0, 1):
    assert set(corners[:, axis]) == {0, 1, 2, 3, 4}


def test_images_are_moved_by_an_eighth_at_most_and_a_fifth_is_cut_out():
  images = _numbered(400, 16)
  found = np.asarray(_shown(augment.FAKE, images))
  shown = found[..., 2] != 0
  by, hidden = set(), []
  for image, is_shown in zip(found, shown):
    y, x = np.nonzero(is_shown)
    dy, dx = y - (image[y, x, 0] * 16 - 1).round(), x - (image[y, x, 1] * 16 - 1).round()
    assert len(set(dy)) == len(set(dx)) == 1
    moved = int(dy[0]), int(dx[0])
    by |= {moved}
    # Where the moved image stands, all but the hole is seen.
    rows, columns = (slice(max(0, d), 16 + min(0, d)) for d in moved)
    hidden.append(np.argwhere(~is_shown[rows, columns]))
  assert by == {(a, b) for a in range(-2, 3) for b in range(-2, 3)}
  # Of a square of 3x3 around any of the 17 corners along an axis, what is inside the moved image.
  for hole in filter(len, hidden):
    height, width = np.ptp(hole, axis=0) + 1
    assert height <= 3 and width <= 3 and len(hole) == height * width
  along = np.mean([
    sum(max(0, d) <= y < 16 + min(0, d) for y in (middle - 1, middle, middle + 1))
    for d in range(-2, 3) for middle in range(17)
  ])  # fmt: skip
  assert 0.9 < np.mean([len(hole) for hole in hidden]) / along**2 < 1.1
  whole = np.array([hole[0] for hole in hidden if len(hole) == 9])
  assert set(whole[:, 0]) == set(whole[:, 1]) == set(range(14))
  other = _shown(augment.REAL, images)
  assert np.abs(np.asarray(other) - found).max() > 0


def test_noise_in_the_text_keeps_its_length_and_is_a_caption_s_own():
  rng = np.random.default_rng(0)
  vectors = words.normalize(jnp.asarray(rng.normal(size=(5, 400)), jnp.float32))
  vectors = vectors.at[3].set(vectors[0])
  caption = jnp.array([0, 1, 2, 0, 1])
  given = words.Words(vectors, jnp.zeros((5, 0)), caption, jnp.zeros(5, int), None)
  found = jax.jit(lambda x: augment.noisy_text(MODERN, KEY, x, 3, ()).vectors)(given)
  np.testing.assert_allclose((found**2).mean(-1), 1.0, rtol=1e-4)
  np.testing.assert_allclose(found[0], found[3])
  # Orthogonal parts of 0.75 and 0.25.
  cosine = (found * vectors).mean(-1)
  np.testing.assert_allclose(cosine, 0.75 / np.hypot(0.75, 0.25), atol=0.05)
  assert augment.noisy_text(CONFIG, KEY, given, 3, ()) is given


def test_devices_share_what_one_device_draws():
  images = _numbered(8, 20)

  def change(images, axes=()):
    return _shown(augment.REAL, _crop(images, axes), axes)

  split = images.reshape(4, 2, *images.shape[1:])
  on_four = jax.vmap(lambda x: change(x, ("d",)), axis_name="d")(split)
  np.testing.assert_array_equal(on_four.reshape(8, 16, 16, 3), change(images))


def test_states_between_two_captions_are_half_of_each():
  vectors = jnp.asarray([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0], [1.0, -1.0]])
  noise = jnp.arange(4.0)[:, None]
  given = words.Words(vectors, noise, jnp.arange(4), jnp.array([3, 1, 4, 1]), jnp.ones(4))
  found = augment.between(given)
  # (1, 1), and (1, 0) scaled to a root mean square of 1.
  np.testing.assert_allclose(found.vectors, [[1, 1], [2**0.5, 0]], rtol=1e-6)
  np.testing.assert_array_equal(found.noise, [[0], [2]])
  np.testing.assert_array_equal(found.caption, [0, 2])


def test_colours_change_by_hand():
  shares = jnp.array([[0.75, 0.25, 1.0], [0.5, 0.5, 0.5]])
  pixels = jnp.array([[[0.2, 0.4, 0.6]], [[0.0, 0.0, 0.3]]])  # 2 x 1 pixels
  found = augment._recolour(jnp.stack([pixels, pixels]), shares)
  # Brighter by 1/4; half as far from grey, 0.65 and 0.35; one and a half times as far from 0.5.
  halved = np.array([[[0.55, 0.65, 0.75]], [[0.3, 0.3, 0.45]]])
  np.testing.assert_allclose(found[0], 0.5 + (halved - 0.5) * 1.5, rtol=1e-5)
  np.testing.assert_allclose(found[1], pixels, atol=1e-6)


def test_colours_are_left_alone_unless_asked_for():
  images = jnp.full((8, 16, 16, 3), jnp.array([0.2, 0.4, 0.6]))

  def seen(value):
    config = dataclasses.replace(MODERN, augment=value)
    return np.asarray(augment.before_discriminator(config, KEY, augment.REAL, images, ()))

  colours = np.unique(seen("move_and_cut").reshape(-1, 3), axis=0)
  np.testing.assert_allclose(colours, [[0, 0, 0], [0.2, 0.4, 0.6]], rtol=1e-6)
  brightest = np.abs(seen("move_cut_and_colour")).max((1, 2)).round(3)
  assert len(np.unique(brightest, axis=0)) == 8  # each image in its own way
