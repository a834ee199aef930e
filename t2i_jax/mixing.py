"""What lies between two captions, or between two noises of one: what is read of them is mixed, and
drawn by a trained run."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from t2i_jax import sampling
from t2i_jax.nets import words as words_lib
from t2i_jax.sampling import Read


def mix(a: Read, b: Read, share: float) -> Read:
  """A caption that is `share` of the way from a to b; 0 and 1 give a and b.

  It has as many words as that share of the difference in length gives. Each caption is stretched to
  them, first word on first and last on last, linearly between the vectors of two of its words; then
  the two are mixed linearly (Reed et al. 2016, section 4.3, https://arxiv.org/abs/1605.05396).
  Noise turns along a great circle (White 2016, https://arxiv.org/abs/1609.04468), which is for
  vectors of one length: those of noises are nearly equal, those of words differ a hundredfold.
  """
  count = round((1 - share) * len(a.vectors) + share * len(b.vectors))
  vectors = (1 - share) * _stretch(a.vectors, count) + share * _stretch(b.vectors, count)
  return Read(vectors.astype(np.float32), _turn(a.noise, b.noise, share).astype(np.float32))


def _turn(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
  """`share` of the angle from a to b; straight where they are parallel, as single numbers are.

  Halfway on the straight line two independent noises give one that is only 0.7 times as long, which
  training never draws; and a generator that scales noise to one length would get uneven steps.
  """
  cosine = a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)
  if abs(cosine) > 1 - 1e-6:
    return (1 - share) * a + share * b
  angle = np.arccos(cosine)
  return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)


def _stretch(vectors: np.ndarray, count: int) -> np.ndarray:
  at = np.linspace(0, 1, count) * (len(vectors) - 1) if count > 1 else np.array([len(vectors) - 1])
  before = np.floor(at).astype(int)
  after = np.minimum(before + 1, len(vectors) - 1)
  part = (at - before)[:, None]
  return (1 - part) * vectors[before] + part * vectors[after]


def vary(run: sampling.TrainedRun, read: Sequence[Read], count: int) -> list[list[Read]]:
  """Each of the run's captions under its `count` noises."""
  noises = run.noises(len(read), count)
  return [[Read(one.vectors, noise) for noise in own] for one, own in zip(read, noises)]


def interpolate(
  run: sampling.TrainedRun, pairs: Sequence[tuple[Read, Read]], count: int = 8
) -> UInt8[np.ndarray, "p k h w 3"]:
  """From the first to the second of each pair, the last words' images of `count` mixtures; at the
  ends are the two captions' own images."""
  mixed = [mix(a, b, share) for a, b in pairs for share in np.linspace(0, 1, count)]
  if run.draws_words_alone:
    mixed = [Read(one.vectors[-1:], one.noise) for one in mixed]
  length = np.array([len(one.vectors) for one in mixed], np.int32)
  slots = np.arange(1 if run.draws_words_alone else run.config.max_words)
  # After a row of zeros for empty slots. Its size is that of a program, whatever the captions.
  table = np.zeros((1 + len(mixed) * len(slots), mixed[0].vectors.shape[1]), np.float32)
  table[1 : 1 + length.sum()] = np.concatenate([one.vectors for one in mixed])
  starts = np.cumsum(length) - length + 1
  ids = np.where(slots < length[:, None], starts[:, None] + slots, 0).astype(np.int32)
  if run.config.text == "reader" or run.config.normalize_text:  # What is read has one length.
    table = np.asarray(words_lib.normalize(jnp.asarray(table)))
  noise = np.stack([one.noise for one in mixed])
  images = run.draw(ids, length, table, noise=noise, is_read=True)
  return sampling.last(images, length).reshape(-1, count, *images.shape[2:])
