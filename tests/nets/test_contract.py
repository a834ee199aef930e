"""Every network that flags can name fits the others, and one that does not is told so before a run
loads anything."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.nets import contract, model
from t2i_jax.nets.discriminators import logits

THESIS = config_lib.Config(mode="train", workdir="runs/a", steps=1, image_size=16, start_size=4)
MODERN = dataclasses.replace(
  THESIS, text="reader", recurrence="none", prefixes="one", real_pairing="corresponding",
  euclid_target="none", generator="modulated", discriminator="residual", noise_dim=4,
)  # fmt: skip


def _naming(flag, name):
  """The first of the two configurations that takes this value of the flag."""
  for base in (THESIS, MODERN):
    try:
      return dataclasses.replace(base, **{flag: name})
    except errors.InputError:
      pass
  raise AssertionError(f"--{flag}={name} fits neither the thesis's networks nor the modern ones")


def _looked_at(config, monkeypatch):
  """(flag, what) of each result that is looked at and fits."""
  found, expect = [], contract._expect

  def expecting(config, flag, what, *more):
    expect(config, flag, what, *more)
    found.append((flag, what))

  monkeypatch.setattr(contract, "_expect", expecting)
  contract.check(config)
  return found


def _owed(config):
  of_pairs = config.discriminator in config_lib._OF_PAIRS
  logits_of = ("logits, alone", "logits, pairs") if of_pairs else ("logits",)
  return [
    ("generator", "maps of lower"),
    *([("recurrence", "maps")] if config.recurrence != "none" else []),
    ("generator", "images of upper"),
    *(("discriminator", what) for what in logits_of),
  ]


@pytest.mark.parametrize(
  ("flag", "name"),
  [
    *(("generator", name) for name in model.GENERATORS),
    *(("recurrence", name) for name in model.RECURRENCES),
    *(("discriminator", name) for name in model.DISCRIMINATORS),
  ],
)
def test_every_network_that_a_flag_can_name_fits_the_others(flag, name, monkeypatch):
  config = _naming(flag, name)
  assert _looked_at(config, monkeypatch) == _owed(config)


@pytest.mark.parametrize("position", ["start", "penultimate", "last", "last_plus_deconv"])
@pytest.mark.parametrize("statistics", ["joint", "per_word"])
def test_the_thesis_s_networks_fit_wherever_the_recurrence_stands(
  position, statistics, monkeypatch
):
  config = dataclasses.replace(
    THESIS, recurrence_position=position, bn_statistics=statistics, share_gnn=False
  )
  assert _looked_at(config, monkeypatch) == _owed(config)


class _Maps(nn.Module):
  """A generator of zeros."""

  lower_shape: tuple = (4, 4, 2)
  image_shape: tuple = (16, 16, 3)
  dtype_of_images: str = "float32"

  def lower(self, words, train):
    return jnp.zeros((len(words.position), *self.lower_shape))

  def upper(self, maps, words, train):
    return jnp.zeros((len(words.position), *self.image_shape), self.dtype_of_images)

  def __call__(self, words, train):
    return self.upper(self.lower(words, train), words, train)


class _Flat(_Maps):
  lower_shape: tuple = (32,)


class _Small(_Maps):
  image_shape: tuple = (8, 8, 3)


class _Bytes(_Maps):
  dtype_of_images: str = "uint8"


class _Growing(nn.Module):
  @nn.compact
  def __call__(self, maps, packed):
    return jnp.concatenate([maps, maps], -1)


class _Counting(nn.Module):
  @nn.compact
  def __call__(self, maps, packed):
    self.variable("batch_stats", "count", lambda: jnp.zeros(()))
    return maps


class _Column(nn.Module):
  @nn.compact
  def __call__(self, images, words, weight):
    return jnp.zeros((len(images), 1))


class _Fewer(nn.Module):
  @nn.compact
  def __call__(self, images, words, weight):
    n = len(images)
    return logits.Logits(jnp.zeros((1, n)), jnp.zeros((1, n, n - 1)))


@pytest.mark.parametrize(
  ("flag", "network", "message"),
  [
    ("generator", _Flat, r"maps of lower: float32\[24 32\].* \[24 h w c\]"),
    ("generator", _Small, r"images of upper: float32\[24 8 8 3\].* \[24 16 16 3\]"),
    ("generator", _Bytes, r"images of upper: uint8\[24 16 16 3\].* floats"),
    ("recurrence", _Growing, r"maps: float32\[24 4 4 \d+\].* \[24 4 4 \d+\]"),
    ("recurrence", _Counting, "keeps variables in batch_stats"),
    ("discriminator", _Column, r"logits: float32\[24 1\].* \[24\]"),
    ("discriminator", _Fewer, r"logits, pairs: float32\[1 24 23\].* \[k 24 24\]"),
  ],
)
def test_a_network_that_does_not_fit_is_named_with_what_is_wanted(
  flag, network, message, monkeypatch
):
  kinds = {"generator": model.GENERATORS, "recurrence": model.RECURRENCES,
           "discriminator": model.DISCRIMINATORS}[flag]  # fmt: skip
  name = getattr(THESIS, flag)
  monkeypatch.setitem(kinds, name, network)
  with pytest.raises(errors.InputError, match=f"`{flag}={name}`: {message}"):
    contract.check(
      dataclasses.replace(
        THESIS, recurrence_position="start", prefixes="one", real_pairing="corresponding"
      )
    )


def test_logits_of_pairs_are_refused_where_a_step_has_no_pairs(monkeypatch):
  monkeypatch.setitem(model.DISCRIMINATORS, "dcgan", model.DISCRIMINATORS["residual"])
  with pytest.raises(errors.InputError, match="`discriminator=dcgan`: gives Logits, which need"):
    contract.check(dataclasses.replace(THESIS, text="sequence"))


def test_an_attribute_of_a_network_is_a_flag_of_what_a_run_is(monkeypatch):
  class Recurrence(nn.Module):
    window: int  # a flag of --mode=word2vec

    def __call__(self, maps, packed):
      return maps

  monkeypatch.setitem(model.RECURRENCES, "lstm", Recurrence)
  with pytest.raises(TypeError, match="Recurrence: its attribute window is neither a flag that"):
    model.build(dataclasses.replace(THESIS, recurrence="lstm"))
