"""What the networks owe one another, checked on shapes alone, before a run loads anything."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from t2i_jax import errors
from t2i_jax.nets import model, packing
from t2i_jax.nets.discriminators import logits as logits_lib

_CAPTIONS, _WORDS = 8, 3  # in all no size of an image, so that exchanged axes are seen
_KEPT = {"params", "batch_stats"}  # collections of variables that training keeps


def check(config: Any) -> None:
  """Calls each network of this Config with what the others give it; computes nothing.

  Raises InputError for a network whose results the others cannot take, with what is wanted."""
  networks = model.build(config)
  words = model.example_words(config, _CAPTIONS * _WORDS)
  n, side = len(words.position), config.image_size
  maps = _call(config, "generator", networks.generator, words, fixed=(True,), method="lower")
  _expect(config, "generator", "maps of lower", maps, (n, "h", "w", "c"))
  if networks.recurrence is not None:
    packed = packing.pack(jnp.full(_CAPTIONS, _WORDS), _WORDS, True)
    after = _call(config, "recurrence", networks.recurrence, maps, packed)
    _expect(config, "recurrence", "maps", after, maps.shape)
  images = _call(config, "generator", networks.generator, words, fixed=(True,))
  _expect(config, "generator", "images of upper", images, (n, side, side, 3))
  if networks.discriminator is not None:
    _check_discriminator(config, networks.discriminator, images, words)


def _check_discriminator(config, discriminator, images, words):
  """With these images, or with the example that the discriminator gives."""
  n = len(words.position)
  if hasattr(discriminator, "example"):
    images, n = discriminator.example(config.image_size)
    words = jax.tree.map(lambda x: jnp.resize(x, (n, *x.shape[1:])), words)
  found = _call(config, "discriminator", discriminator, images, words, None)
  if isinstance(found, tuple):
    if config.prefixes != "one" or config.real_pairing != "corresponding":
      raise errors.InputError(
        f"{_named(config, 'discriminator')}: gives Logits, which need `prefixes=one` and "
        "`real_pairing=corresponding`"
      )
    for what, each, wanted in zip(("alone", "pairs"), found, (("a", n), ("k", n, n))):
      _expect(config, "discriminator", f"logits, {what}", each, wanted)
  else:
    _expect(config, "discriminator", "logits", found, (n,))


def _call(
  config: Any, flag: str, network: nn.Module, *inputs: Any, fixed: tuple = (), **named: Any
) -> Any:
  """The shapes of what a fresh network gives, of `Logits` those of its parts as a tuple; `fixed`:
  last inputs, which are no arrays."""

  def run(key, *inputs):
    found, variables = network.init_with_output(key, *inputs, *fixed, **named)
    is_pairs = isinstance(found, logits_lib.Logits)
    return (found.alone, found.pairs) if is_pairs else found, variables

  found, variables = jax.eval_shape(run, jax.random.key(0), *inputs)
  kept = {"params"} if flag == "recurrence" else _KEPT
  if other := sorted(variables.keys() - kept):
    raise errors.InputError(
      f"{_named(config, flag)}: keeps variables in {', '.join(other)}; training keeps those of "
      f"its {' and '.join(sorted(kept))} alone"
    )
  return found


def _expect(config, flag, what, found, wanted):
  """Raises InputError unless it is of floating point and of this shape, of which axes that have a
  letter may have any size."""
  fits = len(found.shape) == len(wanted) and all(
    isinstance(size, str) or size == given for size, given in zip(wanted, found.shape)
  )
  if not (fits and jnp.issubdtype(found.dtype, jnp.floating)):
    given, asked = (" ".join(map(str, shape)) for shape in (found.shape, wanted))
    raise errors.InputError(
      f"{_named(config, flag)}: {what}: {found.dtype}[{given}]; must be floats of shape [{asked}]"
    )


def _named(config: Any, flag: str) -> str:
  return f"`{flag}={getattr(config, flag)}`"
