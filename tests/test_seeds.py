"""Seeds of up to 64 bits: small ones are what they were, a large one is another than all."""

import jax
import numpy as np
import pytest

from t2i_jax import seeds
from t2i_jax.data import corpus
from t2i_jax.metrics import mixture
from t2i_jax.text import word2vec
from t2i_jax.training import reading

LARGE = (2**31, 2**32, 2**32 + 5, 2**40, 2**63, 2**64 - 1)


def _data(seed):
  return tuple(np.asarray(jax.random.key_data(seeds.key(seed))).tolist())


def test_all_bits_of_a_seed_are_in_its_key():
  for seed in (0, 5, 2**31 - 1):
    assert _data(seed) == tuple(np.asarray(jax.random.key_data(jax.random.key(seed))).tolist())
    assert seeds.narrow(seed) == seed
  assert [_data(seed) for seed in LARGE] == [(s >> 32, s % 2**32) for s in LARGE]
  with jax.enable_x64(True):  # as JAX has it where it does not drop the upper half
    assert _data(2**40 + 3) == tuple(np.asarray(jax.random.key_data(jax.random.key(2**40 + 3))))


@pytest.mark.parametrize("setting", [
  jax.enable_x64(True), jax.default_prng_impl("rbg"), jax.threefry_partitionable(False),
])  # fmt: skip
def test_noise_is_the_same_whatever_a_program_sets_in_jax(setting):
  draw = lambda seed: np.asarray(reading.draw_noise(seeds.key(seed), 3, 5))  # noqa: E731
  compiled = jax.jit(lambda key: reading.draw_noise(key, 3, 5))
  seeds_here = (5, LARGE[-1])
  expected = [draw(seed) for seed in seeds_here]
  assert [noise.dtype for noise in expected] == 2 * [np.float32]
  with setting:
    found = [draw(seed) for seed in seeds_here]
    inside = [np.asarray(compiled(seeds.key(seed))) for seed in seeds_here]
  for noises in (found, inside):
    assert [noise.tobytes() for noise in noises] == [noise.tobytes() for noise in expected]


def test_libraries_of_32_bits_get_other_seeds_for_other_large_ones():
  narrow = [seeds.narrow(seed) for seed in LARGE]
  assert len({*narrow, 0, 5}) == len(LARGE) + 2 and 0 <= min(narrow) <= max(narrow) < 2**31
  assert seeds.narrow(2**40) == 1008949438  # on every machine


@pytest.mark.parametrize("seed", [2**40, 2**64 - 1])
def test_what_draws_at_random_takes_them(seed):
  orders = [corpus.example_order(50, 5, 1, s)(0).tolist() for s in (seed, seed, 0, 5)]
  assert orders[0] == orders[1] and orders[0] not in orders[2:]
  sentences = [["a", "red", "flower"], ["a", "blue", "bird"]] * 5
  a, b, c = (word2vec.train(sentences, dimension=4, epochs=1, seed=s) for s in (seed, seed, 0))
  np.testing.assert_array_equal(a.vectors, b.vectors)
  assert not np.array_equal(a.vectors, c.vectors)
  points = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
  fit = dict(components=2, covariance="diag", pca=0, restarts=1)
  mixture.fit(points, **fit, seed=seed)


@pytest.mark.slow
def test_a_run_of_a_large_seed_goes_on_and_draws(command, tmp_path):
  run = (f"--workdir={tmp_path}/run", f"--seed={2**64 - 1}")
  command(*run, "--steps=1")
  assert command.status == 0
  command(*run, "--steps=2")
  assert command.status == 0 and "going on from step 1" in command.err
  command("--mode=sample", run[0], "--captions=a red flower", "--variations=2", tiny=False)
  assert command.status == 0
  command(run[0], "--seed=4294967295", "--steps=3")  # the same but for its upper half
  assert command.status == 2 and "--seed" in command.err
  command(run[0], f"--seed={2**64}", "--steps=3")
  assert command.status == 2 and "--seed=18446744073709551616: must be at most" in command.err
