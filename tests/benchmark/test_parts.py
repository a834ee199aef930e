"""What a step costs, counted from traces, against formulas for the networks of the thesis."""

import pytest

from t2i_jax import config as config_lib
from t2i_jax.benchmark import costs, inputs, parts, timing
from t2i_jax.training import state as state_lib

TOY = {"image_size": 16, "start_size": 4, "base_channels": 4, "embedding_dim": 10, "max_words": 3}


def _layer(products, values_in, values_out):
  return costs.Cost(2 * products, 4 * (values_in + values_out))


def _passes(config):
  """By hand: one forward pass of each network over one word, or image; each layer's input read and
  output written."""
  k, start, size = config.kernel_size, config.start_size, config.image_size
  count = (size // start).bit_length() - 1
  channels = [*(config.base_channels * 2**i for i in reversed(range(count))), 3]
  area = [(start * 2**i) ** 2 for i in range(count + 1)]
  values = [a * c for a, c in zip(area, channels)]
  inputs = config.noise_dim + (0 if config.text == "noise" else config.embedding_dim)
  generator = _layer(inputs * values[0], inputs, values[0])
  for i in range(count):
    generator += _layer(values[i] * k**2 * channels[i + 1], values[i], values[i + 1])
  stage = {"start": 0, "penultimate": count - 1}.get(config.recurrence_position, count)
  c, v, taps = channels[stage], values[stage], config.recurrence_kernel_size**2
  # The four gates: from the input for all words, then from h in the loop.
  products = {"convlstm": v * taps * 4 * c, "lstm": 4 * v * v, "none": 0}[config.recurrence]
  found = {"generator": generator}
  if config.recurrence != "none":
    found[config.recurrence] = _layer(products, v, 4 * v) * 2
    if config.recurrence_position == "last_plus_deconv":
      found["head"] = _layer(v * taps * c, v, v) * 2
  if config.adversarial != "none":
    discriminator, c, f = costs.Cost(), 3, config.base_channels
    while size > 4:
      size //= 2
      discriminator += _layer(size**2 * k**2 * c * f, 4 * size**2 * c, size**2 * f)
      c, f = f, 2 * f
    found["discriminator"] = discriminator + _layer(size**2 * c, size**2 * c, 1)
  return found


def _of_caption(config, words):
  """By hand: k updates of the discriminator, three passes each; one of the generating networks, and
  of the discriminator without its kernels' gradients."""
  cost, k = _passes(config), config.discriminator_steps
  discriminator = cost.pop("discriminator", costs.Cost())
  judges_last = config.text != "sequence" or config.euclid_target == "none"
  fakes = words if judges_last else words - 1
  reals = 1 if config.real_pairing == "corresponding" else fakes
  blurred = min(reals, fakes * config.blurry_fakes / (1 - config.blurry_fakes))
  minibatches = k + (config.updates == "alternating")
  drawing = sum(cost.values(), costs.Cost()) * (words * (3 + minibatches - 1))
  return drawing + discriminator * (3 * k * (reals + fakes + blurred) + 2 * fakes)


VECTOR = {"recurrence": "none", "text": "word", "share_gnn": True}
CASES = [
  {},
  {"recurrence_position": "start", "share_gnn": False},
  {"recurrence_position": "penultimate", "real_pairing": "random", "discriminator_steps": 2},
  {"recurrence_position": "last", "real_pairing": "corresponding", "updates": "alternating"},
  {"recurrence": "lstm", "recurrence_position": "start", "euclid_target": "none"},
  {"recurrence": "lstm", "recurrence_position": "last_plus_deconv", "adversarial": "none"},
  {"recurrence": "none", "blurry_fakes": 0.25},
  VECTOR,
  {**VECTOR, "text": "noise", "noise_dim": 6, "dtype": "bfloat16"},
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", CASES, ids=lambda changes: "-".join(map(str, changes.values())))
def test_counts_equal_the_formulas(changes):
  config = config_lib.Config(mode="bench", **{**TOY, **changes})
  state = state_lib.abstract_state(config, state_lib.make_optimizers(config))
  counted = {n: net.cost() for n, net in parts.networks_of(config, state, 2, 3, 5).items()}
  expected = _passes(config)
  images = {"gnn": 2, "discriminator": 5}
  if not config.share_gnn:
    expected["gnn"] = expected["generator"]
  width = {"float32": 1, "bfloat16": 0.5}[config.dtype]
  assert counted == {
    name: costs.Cost(cost.flops * images.get(name, 6), cost.bytes * images.get(name, 6) * width)
    for name, cost in expected.items()
  }
  words = 2.6 if config.text == "sequence" else 1.0
  total, by_hand = parts.of_caption(config, words), _of_caption(config, words)
  assert total.flops == pytest.approx(by_hand.flops, rel=1e-12)
  assert total.bytes == pytest.approx(by_hand.bytes * width, rel=1e-12)


def test_the_network_of_the_thesis_by_hand():
  config = config_lib.Config(mode="bench")
  # 400 -> 8x8x256, then 5x5: 256 -> 128 from 8x8, 128 -> 64 from 16x16, 64 -> 3 from 32x32.
  generator = 400 * 64 * 256 + 64 * 25 * 256 * 128 + 256 * 25 * 128 * 64 + 1024 * 25 * 64 * 3
  # Four gates, each from 3 channels of the image and 3 of the memory, at 64x64 with 5x5.
  recurrence = 4096 * 25 * (3 + 3) * 12
  head = 2 * 4096 * 25 * 3 * 3
  discriminator = 1024 * 25 * 3 * 64 + 256 * 25 * 64 * 128 + 64 * 25 * 128 * 256
  discriminator += 16 * 25 * 256 * 512 + 16 * 512
  # The generating networks forward and back for 25 words; the discriminator forward and back on 24
  # generated and 24 real images, and for the generator's sake on 24 without its kernels' gradients.
  expected = 3 * 25 * (generator + recurrence + head) + 24 * (3 + 3 + 2) * discriminator
  assert parts.of_caption(config, 25.0).flops == 2 * expected


def test_r1_looks_at_an_eighth_of_the_reals_by_hand():
  shape = {**TOY, **VECTOR, "kernel_size": 5, "batch_size": 20, "discriminator_steps": 2}
  without, config = (config_lib.Config(mode="bench", **shape, r1_weight=w) for w in (0.0, 1.0))
  # 16x16x3 -> 8x8x4 -> 4x4x8 -> a logit.
  first, second, last = 64 * 25 * 3 * 4, 16 * 25 * 4 * 8, 16 * 8
  # Forward, back to the image, and both gradients of each of these. Left out: the first layer's
  # gradient to the image for the second time, and all of the logit (it is linear) but the way back
  # and that way's gradient to its kernel.
  of_image = 2 * (5 * first + 6 * second + 2 * last)
  assert parts.of_r1(config, 17).flops == 3 * of_image  # images 0, 8 and 16
  # 20 captions, each with a real image, in each of two minibatches.
  added = parts.of_caption(config, 1.0).flops - parts.of_caption(without, 1.0).flops
  assert added == pytest.approx(2 * 3 * of_image / 20)


def test_a_batch_is_drawn_whole_where_the_corpus_has_fewer_captions(monkeypatch):
  rows = []
  monkeypatch.setattr(timing, "fastest", lambda run, *given: rows.append(given) or 1.0)
  config = config_lib.Config(mode="bench", **TOY, **VECTOR, adversarial="none", batch_size=70)
  corpus = inputs.random_split(config)
  limits = {"peak_flops_per_second": 1.0, "copy_bytes_per_second": 1.0}
  found = parts.time_parts(config, corpus, limits)
  _, (_, ids, length, _) = rows[-1]  # of draw_batch
  assert len(corpus.ids) < len(ids) == len(length) == 70
  assert found["draw_batch"]["flops"] == 70 * found["draw_caption"]["flops"]
