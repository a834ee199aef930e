"""A flag's values and the literal dict of what they name are equal: each value does something, and
each part can be asked for."""

import typing

import pytest

from t2i_jax import config as config_lib
from t2i_jax import modes
from t2i_jax.data import sets
from t2i_jax.nets import words
from t2i_jax.nets.discriminators import DISCRIMINATORS
from t2i_jax.nets.generators import GENERATORS
from t2i_jax.nets.recurrences import RECURRENCES
from t2i_jax.training import augment, feed, losses
from t2i_jax.training.losses import adversarial
from t2i_jax.training.orders import ORDERS

KINDS = {field.name: kind for field, kind in config_lib.fields()}


@pytest.mark.parametrize(
  ("flag", "registry", "besides"),
  [
    ("mode", modes.MODES, ()),
    ("dataset", sets.DATASETS, ()),
    ("text", words.READINGS, ()),
    ("generator", GENERATORS, ()),
    ("discriminator", DISCRIMINATORS, ()),
    ("recurrence", RECURRENCES, ("none",)),
    ("adversarial", adversarial.ADVERSARIAL, ("none",)),
    ("updates", ORDERS, ()),
    ("placement", feed._HELD, ("auto",)),
  ],
)
def test_the_values_of_a_flag_are_the_names_in_its_registry(flag, registry, besides):
  values = typing.get_args(KINDS[flag])
  assert len(values) == len(set(values)) and set(values) == {*registry, *besides}


def test_each_term_is_weighted_by_a_flag():
  assert {term.weight for term in losses.TERMS.values()} <= KINDS.keys()


def test_a_term_of_the_discriminator_is_refused_where_there_is_none():
  weights = {term.weight for term in losses.TERMS.values() if term.side == "discriminator"}
  assert weights and weights <= config_lib._WITHOUT_D.keys()


def test_every_augmentation_says_whether_it_changes_colours():
  assert {"none", *augment._WITH_COLOUR} == set(typing.get_args(KINDS["augment"]))
