"""Every network, loss, term, order of updates and reading can be part of a step: traced, not
computed."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.judges import efficientnet
from t2i_jax.nets import model
from t2i_jax.nets import words as words_lib
from t2i_jax.training import batches, feed, losses, reading, steps
from t2i_jax.training import state as state_lib
from t2i_jax.training.losses import adversarial
from t2i_jax.training.orders import ORDERS
from tests.fixtures import corpora

CORPUS = corpora.one_caption_each(np.random.default_rng(0), 16, 4)
THESIS = config_lib.Config(
  mode="bench", image_size=16, start_size=4, base_channels=4, embedding_dim=6, max_words=4,
  batch_size=8, noise_dim=2,
)  # fmt: skip
READING = {"recurrence": "none", "euclid_target": "none", "real_pairing": "corresponding"}
MODERN = dataclasses.replace(
  THESIS, mode="train", workdir="runs/a", steps=1, text="reader", reader_dim=8, prefixes="one",
  generator="modulated", discriminator="residual", **READING,
)  # fmt: skip
BASES = (
  THESIS,
  MODERN,
  dataclasses.replace(MODERN, discriminator="projected"),
  dataclasses.replace(THESIS, **READING | {"recurrence": "none"}),
)


def _with(**flags):
  """The first of the configurations that these flags can be combined with."""
  for base in BASES:
    try:
      return dataclasses.replace(base, **flags)
    except errors.InputError:
      pass
  raise AssertionError(f"{flags} fit none of the configurations")


@functools.cache
def _eyes():
  """Shapes of the pretrained network's weights."""
  return jax.eval_shape(lambda: jax.tree.map(jnp.asarray, efficientnet.load().weights))


def _frozen(config):
  eyes = _eyes() if model.eyes(config) else None
  if config.text != "reader":
    return batches.Frozen(None, eyes)
  seen = jnp.zeros((1, 472))  # as many features as a reader is fitted to
  module, vectors = reading.make_reader(config), jnp.zeros((1, 1, 6))
  return batches.Frozen(
    jax.eval_shape(
      lambda: module.init(jax.random.key(0), vectors, seen, train=False, method="both")
    ),
    eyes,
  )


@functools.cache
def _traced(config):
  """The state before a step, that after it, and the metrics, as shapes."""
  networks, optimizers = model.build(config), state_lib.make_optimizers(config)
  state = jax.eval_shape(lambda: state_lib.init_state(config, networks, optimizers))
  resident = batches.make_resident(config, CORPUS).replace(frozen=_frozen(config))
  chosen, bucket = feed.Chooser(config, CORPUS, 1, np.zeros(2, np.uint32))(0)
  step = steps.make_train_step(config, networks, optimizers)
  return state, *jax.eval_shape(functools.partial(step, bucket=bucket), state, resident, chosen)


CHOICES = [
  *(("generator", name) for name in model.GENERATORS),
  *(("recurrence", name) for name in model.RECURRENCES),
  *(("discriminator", name) for name in model.DISCRIMINATORS),
  *(("adversarial", name) for name in adversarial.ADVERSARIAL),
  *(("updates", name) for name in ORDERS),
  *(("text", name) for name in words_lib.READINGS),
  *((term.weight, 0.5) for term in losses.TERMS.values()),
]


@pytest.mark.parametrize(("flag", "value"), CHOICES)
def test_a_step_with_it_keeps_the_state_s_form_and_measures_scalars(flag, value):
  before, after, metrics = _traced(_with(**{flag: value}))
  assert jax.tree.structure(before) == jax.tree.structure(after)
  for a, b in zip(*map(jax.tree.leaves, (before, after))):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
  assert {value.shape for value in metrics.values()} == {()}
  assert {"g/loss", "d/loss"} <= metrics.keys()
  for name, term in losses.TERMS.items():
    assert flag != term.weight or f"{term.side[0]}/{name}" in metrics


def test_a_term_that_is_no_scalar_is_named(monkeypatch):
  term = dataclasses.replace(losses.TERMS["euclid"], value=lambda *_: jnp.zeros(8))
  monkeypatch.setitem(losses.TERMS, "euclid", term)
  with pytest.raises(ValueError, match=r"the term euclid of a loss has shape \(8,\)"):
    _traced.__wrapped__(THESIS)
