"""Synthetic flowers and their captions."""

import collections
import functools
import itertools

import numpy as np

from t2i_jax.data.sets import synthetic
from t2i_jax.data.synthetic import draw, grammar
from t2i_jax.text import captions

TRIPLE = ("petal_colour", "centre_colour", "shape")


@functools.cache
def sources(count):
  return synthetic.read(count).splits


def values(source):
  return {a: draw.ATTRIBUTES[a][i] for a, i in source.attributes.items()}


def test_unseen_triples_are_a_fifth_and_leave_every_pair_to_train():
  triples = [t for t in itertools.product(*(draw.ATTRIBUTES[a] for a in TRIPLE)) if t[0] != t[1]]
  seen = [t for t in triples if not draw.is_unseen(*t)]
  assert 0.15 < 1 - len(seen) / len(triples) < 0.25
  for i, j in itertools.combinations(range(3), 2):
    assert {(t[i], t[j]) for t in seen} == {(t[i], t[j]) for t in triples}


def test_only_the_split_unseen_shows_unseen_triples():
  splits = sources(400)
  assert {split: len(found) for split, found in splits.items()} == {
    "train": 320, "test": 40, "unseen": 40,
  }  # fmt: skip
  for split, found in splits.items():
    for source in found:
      petal, centre, shape = (values(source)[a] for a in TRIPLE)
      assert petal != centre
      assert draw.is_unseen(petal, centre, shape) == (split == "unseen")


def test_every_value_is_in_train():
  counts = collections.Counter(
    item for source in sources(400)["train"] for item in source.attributes.items()
  )
  assert len(counts) == sum(map(len, draw.ATTRIBUTES.values()))


def test_few_images_make_splits_without_loss():
  for count in (1, 2, 3, 9, 10, 57):
    assert sum(draw.split_sizes(count).values()) == count


def test_a_flower_depends_on_seed_split_and_index_alone(monkeypatch):
  few, many, firsts = sources(30), sources(60), {}
  for split in draw.SPLITS:
    assert few[split][0].captions == many[split][0].captions
    first = firsts[split] = few[split][0].image(16)
    np.testing.assert_array_equal(first, many[split][0].image(16))
    np.testing.assert_array_equal(first, few[split][0].image(16))  # Drawn again, the same.
    assert np.any(first != few[split][1].image(16))
  assert np.any(few["train"][0].image(16) != few["test"][0].image(16))
  monkeypatch.setattr(synthetic, "_SEED", 1)
  for split, first in firsts.items():
    assert np.any(first != synthetic.read(30).splits[split][0].image(16))


def test_any_size_from_16_to_128():
  source = sources(1)["train"][0]
  for size in (16, 33, 128):
    image = source.image(size)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8


def test_equal_attributes_give_images_that_are_alike_but_not_equal():
  chosen = values(sources(1)["train"][0])
  one, two = (draw.draw(chosen, np.random.default_rng(k), 32).astype(int) for k in (1, 2))
  assert 0 < np.abs(one - two).mean() < 25


def test_the_number_of_petals_can_be_counted_on_a_circle():
  base = dict(petal_colour="white", centre_colour="red", size="large", background="dark")
  angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
  for count, shape in itertools.product(draw.ATTRIBUTES["petals"], ("round", "pointed")):
    image = draw.draw({**base, "petals": count, "shape": shape}, np.random.default_rng(0), 128)
    radius = 0.37 * 128  # Beyond the veins, inside the tips.
    y = np.round(64 - radius * np.cos(angles)).astype(int)
    x = np.round(64 + radius * np.sin(angles)).astype(int)
    light = image[y, x].mean(-1)
    waves = np.fft.rfft(light - light.mean())
    wave = 3 + int(np.abs(waves[3:10]).argmax())
    assert wave == 4 + draw.ATTRIBUTES["petals"].index(count), (count, shape)
    first = np.degrees(np.angle(waves[wave])) / -wave  # Where the wave's first crest is.
    assert abs(first) < 6, "the first petal is upright"


def test_captions_have_5_to_20_words_and_know_where_each_attribute_stands():
  left_out, lengths, texts = collections.Counter(), set(), []
  for source in sources(400)["train"]:
    assert len(source.captions) == grammar.CAPTIONS_PER_IMAGE
    for k, text in enumerate(source.captions):
      words = captions.clean(text)
      lengths.add(len(words))
      texts.append(text)
      position = {a: source.positions[a][k] for a in draw.ATTRIBUTES}
      assert max(position["petal_colour"], position["centre_colour"]) >= 0, text
      for a, at in position.items():
        left_out[a] += at < 0
        assert at < 0 or words[at] == values(source)[a], (text, a)
        # A word that stands for this attribute alone is absent when the attribute is unnamed.
        if at < 0 and a in ("petals", "shape", "size"):
          assert values(source)[a] not in words, (text, a)
  assert min(lengths) >= 5 and max(lengths) <= 20 and len(lengths) >= 12
  assert len(set(texts)) > 0.9 * len(texts)
  for a in draw.ATTRIBUTES:
    assert 0.15 < left_out[a] / len(texts) < 0.25, a


def test_articles_fit_the_word_that_follows():
  texts = [c for s in sources(400)["train"] for c in s.captions]
  pairs = [pair for t in texts for pair in itertools.pairwise(captions.clean(t))]
  assert ("an", "orange") in pairs
  for article, word in pairs:
    if article in ("a", "an"):
      assert (article == "an") == (word[0] in "aeiou"), (article, word)
