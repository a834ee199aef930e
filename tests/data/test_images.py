"""Any image file becomes a square of RGB, or says why not."""

import errno
import io
import os

import numpy as np
import PIL.Image
import pytest

from t2i_jax.data import images


def save(image, file_format="PNG", **options):
  buffer = io.BytesIO()
  image.save(buffer, file_format, **options)
  buffer.seek(0)
  return buffer


def test_crop_takes_the_centre_of_the_longer_side():
  # Column x has red value 10 x: of 13 columns and 8 rows, columns 2 to 9 stay.
  pixels = np.zeros((8, 13, 3), np.uint8)
  pixels[..., 0] = 10 * np.arange(13)
  fitted = images.fit(save(PIL.Image.fromarray(pixels)), 8)
  np.testing.assert_array_equal(fitted, pixels[:, 2:10])
  upright = np.swapaxes(pixels, 0, 1)
  np.testing.assert_array_equal(images.fit(save(PIL.Image.fromarray(upright)), 8), upright[2:10])


def test_nothing_outside_the_crop_bleeds_into_it():
  pixels = np.full((16, 48, 3), 255, np.uint8)
  pixels[:, 16:32] = 40
  np.testing.assert_array_equal(images.fit(save(PIL.Image.fromarray(pixels)), 8), 40)


def test_the_square_is_the_centre_of_what_crop_takes():
  pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
  asked = []

  def crop(*size):
    asked.append(size)
    return 20, 5, 50, 13  # 30 x 8: of it, columns 31 to 38.

  fitted = images.fit(save(PIL.Image.fromarray(pixels)), 8, crop)
  np.testing.assert_array_equal(fitted, pixels[5:13, 31:39])
  assert asked == [(60, 40)]


def test_a_large_jpeg_is_cropped_at_its_own_size():
  pixels = np.zeros((600, 600, 3), np.uint8)
  pixels[300:, 300:] = 255
  jpeg = save(PIL.Image.fromarray(pixels), "JPEG")
  np.testing.assert_array_equal(images.fit(jpeg, 8, lambda w, h: (w - 200, h - 200, w, h)), 255)


def test_pixels_in_memory_are_fitted_as_their_file_is():
  pixels = np.random.default_rng(0).integers(0, 256, (11, 14, 3), dtype=np.uint8)
  expected = images.fit(save(PIL.Image.fromarray(pixels)), 8)
  np.testing.assert_array_equal(images.fit_pixels(pixels, 8), expected)


def test_exif_orientation_is_applied():
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
  exif = PIL.Image.Exif()
  exif[0x0112] = 6  # The camera was turned: show it a quarter turn clockwise.
  fitted = images.fit(save(PIL.Image.fromarray(pixels), exif=exif), 9)
  np.testing.assert_array_equal(fitted, np.rot90(pixels, -1))


def flat(mode, colour):
  return PIL.Image.new(mode, (10, 10), colour)


@pytest.mark.parametrize(
  "image, file_format, expected",
  [
    (flat("L", 77), "PNG", (77, 77, 77)),
    (flat("1", 1), "PNG", (255, 255, 255)),
    (PIL.Image.fromarray(np.full((10, 10), 200 * 257, np.uint16)), "PNG", (200, 200, 200)),
    (PIL.Image.fromarray(np.full((10, 10), 4000, np.uint16)), "TIFF", (249, 249, 249)),  # 12 bits
    (PIL.Image.fromarray(np.full((10, 10), 100, np.int32)), "TIFF", (100, 100, 100)),
    (PIL.Image.fromarray(np.full((10, 10), 0.4, np.float32)), "TIFF", (102, 102, 102)),
    (PIL.Image.fromarray(np.full((10, 10), 40, np.float32)), "TIFF", (40, 40, 40)),
    (flat("CMYK", (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
    (flat("RGBA", (200, 0, 0, 0)), "PNG", (255, 255, 255)),
    (flat("RGBA", (255, 0, 0, 51)), "PNG", (255, 204, 204)),
    (flat("LA", (0, 0)), "PNG", (255, 255, 255)),
    (flat("RGB", (1, 2, 3)).quantize(4), "GIF", (1, 2, 3)),
  ],
)
def test_every_mode_becomes_rgb(image, file_format, expected):
  fitted = images.fit(save(image, file_format), 8)
  assert fitted.shape == (8, 8, 3) and fitted.dtype == np.uint8
  np.testing.assert_allclose(fitted.reshape(-1, 3), np.tile(expected, (64, 1)), atol=1)


@pytest.mark.parametrize(
  ("value", "reason"),
  [(np.nan, "not finite"), (-3.0, "from -3 to 1; expected"), (4000.0, r"from 1 to 4000; expected")],
)
def test_measurements_that_are_no_brightness_are_refused(value, reason):
  pixels = np.ones((10, 10), np.float32)
  pixels[3, 3] = value
  with pytest.raises(images.UnusableImage, match=reason):
    images.fit(save(PIL.Image.fromarray(pixels), "TIFF"), 8)


def test_a_cmyk_jpeg_becomes_rgb():
  fitted = images.fit(save(flat("CMYK", (0, 255, 255, 0)), "JPEG", quality=95), 8)
  np.testing.assert_allclose(fitted.reshape(-1, 3), np.tile((255, 0, 0), (64, 1)), atol=6)


def test_a_transparent_palette_colour_is_white():
  image = PIL.Image.new("P", (10, 10), 0)
  image.putpalette([255, 0, 0] * 256)
  fitted = images.fit(save(image, "GIF", transparency=0), 8)
  np.testing.assert_array_equal(fitted, 255)


def test_reduced_decoding_of_a_large_jpeg_hardly_changes_it():
  colours = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
  image = PIL.Image.fromarray(colours).resize((420, 280), PIL.Image.Resampling.BICUBIC)
  reduced = images.fit(save(image, "JPEG", quality=97, subsampling=0), 16)  # 280 > 16 * 16
  np.testing.assert_allclose(reduced, images.fit(save(image), 16).astype(int), atol=2)


def reason(source):
  with pytest.raises(images.UnusableImage) as raised:
    images.fit(source, 8)
  return raised.value.reason


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "WEBP"])
def test_truncated_is_unusable(file_format, tmp_path):
  rng = np.random.default_rng(0)
  noise = PIL.Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
  data = save(noise, file_format).getvalue()
  (tmp_path / "a").write_bytes(data[: len(data) // 2])
  assert reason(tmp_path / "a")
  assert reason(io.BytesIO(data[: len(data) // 2]))


def test_the_reason_says_what_is_wrong(tmp_path):
  (tmp_path / "empty.png").write_bytes(b"")
  (tmp_path / "text.png").write_text("no image at all")
  assert reason(tmp_path / "empty.png") == "empty file"
  assert reason(io.BytesIO(b"")) == "empty file"
  assert reason(tmp_path / "text.png") == "not an image"
  assert reason(tmp_path / "absent.png") == "missing file"
  assert "1x1 pixels" in reason(save(PIL.Image.new("RGB", (1, 1))))
  assert "7x90 pixels" in reason(save(PIL.Image.new("RGB", (7, 90))))
  assert images.fit(save(PIL.Image.new("RGB", (8, 90))), 8).shape == (8, 8, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pillows_limit_on_pixels_holds(monkeypatch):
  monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 300)
  assert images.fit(save(PIL.Image.new("RGB", (15, 20))), 8).shape == (8, 8, 3)
  assert "limit" in reason(save(PIL.Image.new("RGB", (15, 21))))  # Pillow only warns here.
  assert "bomb" in reason(save(PIL.Image.new("RGB", (40, 40))))  # Here it raises.


def test_png_keeps_every_pixel():
  pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
  np.testing.assert_array_equal(images.decode(images.encode_png(pixels)), pixels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_very_large_image_is_reduced_first_and_looks_the_same(
  tmp_path, monkeypatch, mode, orientation
):
  """Waves of 40 pixels and more, wider than high, so that neither filter has much to take away."""
  y, x = np.mgrid[:160, :300]
  waves = [np.sin(x / 40 + k) * np.cos(y / 50 - k) * 127 + 128 for k in range(4)]
  if mode in ("I;16", "F"):
    values = waves[0] * 256 if mode == "I;16" else waves[0] / 255
    image = PIL.Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.float32))
  else:
    rgba = PIL.Image.fromarray(np.stack(waves, -1).astype(np.uint8))
    image = rgba.convert("RGB").convert(mode) if mode in ("P", "CMYK") else rgba.convert(mode)
  exif = PIL.Image.Exif()
  exif[0x0112] = orientation
  path = tmp_path / ("a.tif" if mode in ("F", "CMYK") else "a.png")
  image.save(path, exif=exif)
  whole = images.fit(path, 4).astype(int)
  monkeypatch.setattr(images, "_LARGE_PIXELS", 1000)
  reduced, seen = images._reduced, []
  monkeypatch.setattr(images, "_reduced", lambda i, by: seen.append(by) or reduced(i, by))
  small = images.fit(path, 4).astype(int)
  assert seen == [5] and np.abs(small - whole).max() <= 3 < np.ptp(whole)


@pytest.mark.parametrize("error", [RuntimeError("no item"), KeyError("x"), TypeError("t")])
def test_whatever_a_plugin_of_pillow_raises_the_image_is_broken(monkeypatch, error):
  def fail(source):
    raise error

  monkeypatch.setattr(images.PIL.Image, "open", fail)
  with pytest.raises(images.UnusableImage, match="broken image"):
    images.fit("a.avif", 16)


@pytest.mark.parametrize(("values", "mode"), [(np.float32(1e-3), "F"), (np.uint16(3), "I;16")])
def test_measurements_that_would_be_black_are_refused(tmp_path, values, mode):
  PIL.Image.fromarray(np.full((16, 16), values)).save(tmp_path / "a.tif")
  assert PIL.Image.open(tmp_path / "a.tif").mode == mode
  with pytest.raises(images.UnusableImage, match="black where"):
    images.fit(tmp_path / "a.tif", 8)
  PIL.Image.fromarray(np.zeros((16, 16), values.dtype)).save(tmp_path / "b.tif")
  assert images.fit(tmp_path / "b.tif", 8).max() == 0  # It is black.


class _Failing(io.BytesIO):
  """A file that the system stops reading after some bytes, as it does when a disk fails."""

  def __init__(self, data, number, after):
    super().__init__(data)
    self._number, self._after = number, after

  def read(self, *args):
    if self.tell() >= self._after:
      raise OSError(self._number, os.strerror(self._number))
    return super().read(*args)


_REFUSALS = ("EMFILE", "ENFILE", "ENOMEM", "EIO", "ESTALE", "ETIMEDOUT", "EACCES", "EPERM")


@pytest.mark.parametrize("name", _REFUSALS)
@pytest.mark.parametrize("after", [0, 60])
def test_what_the_system_refuses_to_read_is_no_broken_image(name, after):
  pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
  data = save(PIL.Image.fromarray(pixels)).getvalue()
  number = getattr(errno, name)
  with pytest.raises(OSError) as raised:
    images.fit(_Failing(data, number, after), 8)
  assert raised.value.errno == number


def test_a_refusal_names_the_file(tmp_path, monkeypatch):
  path = tmp_path / "a.png"
  PIL.Image.new("RGB", (8, 8)).save(path)
  failing = _Failing(path.read_bytes(), errno.EIO, 0)
  open_image = PIL.Image.open
  monkeypatch.setattr(images.PIL.Image, "open", lambda source: open_image(failing))
  with pytest.raises(OSError, match=r"a\.png"):
    images.fit(path, 8)
