"""Every image that the discriminator is given has been augmented."""

import dataclasses

import jax
import optax

from t2i_jax.nets import model
from t2i_jax.training import augment, batches, reading, steps
from t2i_jax.training import state as state_lib
from tests.training.test_options import CONFIG, CORPUS, ROWS


def test_blurred_images_are_augmented_like_all_others(monkeypatch):
  """It would know them as fakes by their borders."""
  seen = {}

  def remember(config, key, use, images, axes):
    seen.setdefault(use, []).append(len(images))
    return images

  monkeypatch.setattr(augment, "before_discriminator", remember)
  config = dataclasses.replace(
    CONFIG, mode="train", workdir="w", steps=1, recurrence="convlstm", prefixes="one",
    real_pairing="corresponding", augment="move_and_cut", blurry_fakes=0.4,
    euclid_target="none", euclid_weight=1.0,
  )  # fmt: skip
  networks = model.build(config)
  optimizers = {name: optax.sgd(1.0) for name in model.NETWORKS}
  resident = batches.make_resident(config, CORPUS)

  def step():
    state = state_lib.init_state(config, networks, optimizers)
    bucket = reading.training_bucket(config, CORPUS.length[ROWS[:1]])
    batch = batches.gather(config, resident, batches.Chosen(ROWS[0]), state.rng, bucket)
    return steps.update(steps.Updates(config, networks, optimizers), state, [batch])

  jax.eval_shape(step)
  assert seen[augment.BLURRED] == [2]  # 0.4 / 0.6 of three
  assert len({augment.REAL, augment.FAKE, augment.BLURRED} & seen.keys()) == 3
