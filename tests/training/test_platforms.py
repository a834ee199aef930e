"""A training step for accelerators: what JAX lowers for CUDA and TPU has their own convolutions,
and no form that is there for the CPU."""

import collections
import re

import jax
import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax.nets import model, upsampling
from t2i_jax.nets.convolutions import lowerings
from t2i_jax.training import batches, feed, steps
from t2i_jax.training import state as state_lib
from tests.fixtures import corpora

RNG = np.random.default_rng(0)
SMALL = dict(mode="bench", image_size=16, base_channels=4, embedding_dim=6, max_words=4)
CONFIGS = {
  "thesis": config_lib.Config(
    **SMALL, start_size=4, kernel_size=4, recurrence_kernel_size=3, batch_size=4, share_gnn=False
  ),
}
CORPUS = corpora.one_caption_each(RNG, 16, 4)


def _text(config, platform):
  """The step as StableHLO for the platform, lowered anew."""
  networks, optimizers = model.build(config), state_lib.make_optimizers(config)
  state = jax.eval_shape(lambda: state_lib.init_state(config, networks, optimizers))
  resident = batches.make_resident(config, CORPUS)
  chosen, bucket = feed.Chooser(config, CORPUS, 1, np.zeros(2, np.uint32))(0)
  step = steps.make_train_step(config, networks, optimizers)
  jax.clear_caches()
  lowered = step.trace(state, resident, chosen, bucket).lower(lowering_platforms=(platform,))
  return lowered.as_text()


def _natively(monkeypatch):
  """Native forms in the places of those for the CPU."""
  for name in ("strided", "to_input", "to_kernel"):
    native = getattr(lowerings, f"native_{name}")
    form = lambda *a, native=native, products, **k: native(*a, **k)  # noqa: E731
    monkeypatch.setattr(lowerings, f"cpu_{name}", form)
  monkeypatch.setattr(upsampling, "_product", upsampling._native)


def _work(text):
  """How often each operation occurs that a form of a convolution is made of, with its types."""
  made_of = "convolution|dot_general|pad|transpose|concatenate|slice|gather|multiply"
  return collections.Counter(re.findall(rf"stablehlo.({made_of})\b.* : (\(.*)", text))


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_step_for_accelerators_has_their_own_forms_alone(monkeypatch, kind):
  texts = {platform: _text(CONFIGS[kind], platform) for platform in ("cuda", "tpu", "cpu")}
  with monkeypatch.context() as patch:
    _natively(patch)
    native = _work(_text(CONFIGS[kind], "cpu"))
  jax.clear_caches()
  assert _work(texts.pop("cpu")) != native
  for platform in texts:
    assert _work(texts[platform]) == native
    assert texts[platform].count("stablehlo.convolution") > 20
    # Maps are [n h w c] all the way: what is transposed are kernels, of at most 5x5.
    shapes = re.findall(r"stablehlo.transpose .*?: \(tensor<([\dx]+)xf32>", texts[platform])
    sides = collections.Counter(
      tuple(map(int, shape.split("x")))[:2] for shape in shapes if shape.count("x") == 3
    )
    assert sides and all(max(side) <= 5 for side in sides), sides
