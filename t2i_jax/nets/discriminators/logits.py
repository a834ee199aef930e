"""What a discriminator says of images that it judges by themselves and with captions."""

from __future__ import annotations

import flax.struct
from jaxtyping import Array, Float


@flax.struct.dataclass
class Logits:
  """Of k heads. alone: of each image by itself, by none or all of the heads. pairs: of image i with
  caption j; on several devices the images are this device's, the captions all devices'."""

  alone: Float[Array, "a n"]
  pairs: Float[Array, "k n m"]
