"""A seed from 0 to 2**64 - 1 for each library that draws at random. NumPy takes any; up to
2**31 - 1 all get the seed itself."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import numpy as np

_NARROW = 2**31 - 1
_IMPL = "threefry2x32"  # whatever `jax_default_prng_impl` is in the program that draws


def key(seed: int) -> jax.Array:
  """JAX's key of the seed, of which all 64 bits count: `jax.random.key` drops the upper 32 without
  a word unless x64 is on, so that 0 and 2**32 would be one seed."""
  if seed <= _NARROW:
    return jax.random.key(seed, impl=_IMPL)
  return wrap(np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32))


def wrap(key_data: Any) -> jax.Array:
  """The key of u32[2], as `jax.random.key_data` gives them of one of `key`."""
  return jax.random.wrap_key_data(key_data, impl=_IMPL)


def narrow(seed: int) -> int:
  """A seed up to 2**31 - 1 for libraries that take 32 bits (gensim, Grain, scikit-learn): a larger
  one gives 31 bits of its SHA-256."""
  if seed <= _NARROW:
    return seed
  digest = hashlib.sha256(seed.to_bytes(8, "little")).digest()
  return int.from_bytes(digest[:4], "little") & _NARROW
