"""A small grammar: the attributes of a synthetic flower -> captions of 5 to 20 words.

A caption leaves out each attribute with probability 0.2, but always names the colour of the petals
or of the centre. It records, for each attribute, which of its words names it.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from t2i_jax.data.synthetic import draw

CAPTIONS_PER_IMAGE = 5
MIN_WORDS, MAX_WORDS = 5, 20
LEAVE_OUT = 0.2


@dataclasses.dataclass(frozen=True)
class Caption:
  """A caption; positions: for each attribute the index of the word that names it, or -1."""

  text: str
  positions: dict[str, int]


# A list of words, each a string or a pair (word, the attribute that it names).
_Phrase = list


def write(values: dict[str, str], rng: np.random.Generator) -> list[Caption]:
  """`CAPTIONS_PER_IMAGE` captions of a flower with these attributes."""
  return [_write_one(values, rng) for _ in range(CAPTIONS_PER_IMAGE)]


def _write_one(values, rng) -> Caption:
  while True:
    named = {name for name in values if rng.uniform() >= LEAVE_OUT}
    if not named & {"petal_colour", "centre_colour"}:
      named.add(("petal_colour", "centre_colour")[rng.integers(2)])
    writer = _Writer({name: (values[name], name) for name in values if name in named}, rng)
    words = writer.sentence()
    if MIN_WORDS <= len(words) <= MAX_WORDS:
      return _spell(words, named, rng)


def _spell(words: _Phrase, named: set[str], rng) -> Caption:
  """Joins the words; "a" becomes "an" before a vowel."""
  positions = dict.fromkeys(draw.ATTRIBUTES, -1)
  plain = []
  for i, word in enumerate(words):
    if isinstance(word, tuple):
      word, attribute = word
      positions[attribute] = i
    plain.append(word)
  for i, word in enumerate(plain[:-1]):
    if word == "a" and plain[i + 1][0] in "aeiou":
      plain[i] = "an"
  text = " ".join(plain)
  if rng.uniform() < 0.5:
    text = text[0].upper() + text[1:] + "."
  assert all((positions[name] >= 0) == (name in named) for name in positions)
  return Caption(text, positions)


class _Writer:
  """Phrases about one flower. words: attribute -> (word, attribute), for those to be named."""

  def __init__(self, words: dict[str, tuple[str, str]], rng: np.random.Generator):
    self._words = words
    self._rng = rng

  def sentence(self) -> _Phrase:
    """One of the sentence forms that can name all the words."""
    forms: list[Callable[[], _Phrase]] = [self._has, self._with, self._predicate, self._scene]
    if "size" not in self._words:
      forms.append(self._bare)
    if "centre_colour" in self._words and "petal_colour" in self._words:
      forms += [self._surrounded, self._around, self._whose]
    return self._pick(forms)()

  def _pick(self, choices):
    return choices[self._rng.integers(len(choices))]

  def _say(self, *choices: str) -> _Phrase:
    return self._pick(choices).split()

  def _word(self, attribute: str) -> _Phrase:
    return [self._words[attribute]] if attribute in self._words else []

  def _flower(self, *articles: str) -> _Phrase:
    return [*self._say(*articles), *self._word("size"), *self._say("flower", "blossom", "bloom")]

  def _petals(self, closing: bool = False) -> _Phrase:
    """ "five pointed red petals"; if closing also "five petals that are round and red". Empty if
    nothing of them is named."""
    count, shape, colour = (self._word(a) for a in ("petals", "shape", "petal_colour"))
    if not count + shape + colour:
      return []
    both = self._pick([shape + colour, colour + shape])
    if closing and shape and colour and self._rng.uniform() < 0.5:
      return [*count, "petals", "that", "are", both[0], "and", both[1]]
    return [*count, *both, "petals"]

  def _centre(self, *articles: str, closing: bool = False) -> _Phrase:
    """ "a yellow center"; if closing also "a center that is yellow". Empty if it is not named."""
    colour = self._word("centre_colour")
    if not colour:
      return []
    if closing and self._rng.uniform() < 0.4:
      return [*self._say(*articles), "center", "that", "is", *colour]
    return [*self._say(*articles), *colour, *self._say("center", "middle", "center")]

  def _parts(self) -> _Phrase:
    """The petals and the centre, in either order."""
    if self._rng.uniform() < 0.5:
      first, second = self._petals(), self._centre("a", closing=True)
    else:
      first, second = self._centre("a"), self._petals(closing=True)
    joint = self._say("and", "and", "with") if first and second else []
    return [*first, *joint, *second]

  def _place(self, *prepositions: str) -> _Phrase:
    """ "on a dark background", "against green grass". Empty if it is not named."""
    colour = self._word("background")
    if not colour:
      return []
    surface = {"green": "grass", "gray": "stone", "brown": "soil"}.get(colour[0][0])
    if surface and self._rng.uniform() < 0.4:
      return [*self._say(*prepositions), *colour, surface]
    return [*self._say(*prepositions), "a", *colour, "background"]

  def _has(self) -> _Phrase:
    """ "this small flower has five red petals and a yellow center on a dark background"."""
    verb = self._say("has", "has", "shows")
    return [*self._flower("this", "the"), *verb, *self._parts(), *self._place("on", "against")]

  def _with(self) -> _Phrase:
    """ "a small flower on a dark background with a yellow center and five red petals"."""
    flower, parts, place = self._flower("a", "a photo of a"), self._parts(), self._place("on")
    if self._rng.uniform() < 0.5:
      return [*flower, *place, "with", *parts]
    return [*flower, "with", *parts, *place]

  def _predicate(self) -> _Phrase:
    """ "the petals of this small flower are red and pointed, and its center is yellow"."""
    shape, colour, centre = (self._word(a) for a in ("shape", "petal_colour", "centre_colour"))
    place = self._place("on", "against")
    if not colour:
      parts = self._petals()
      tail = ["with", *parts] if parts else []
      flower = self._flower("this", "the")
      return ["the", "center", "of", *flower, *place, "is", *centre, *tail]
    both = self._pick([[*shape, "and", *colour], [*colour, "and", *shape]]) if shape else colour
    tail = [*self._say("and its center is", "while the center is"), *centre] if centre else []
    flower = self._flower("this", "the")
    return ["the", *self._word("petals"), "petals", "of", *flower, *place, "are", *both, *tail]

  def _scene(self) -> _Phrase:
    """ "on a dark background grows a small flower with five red petals"."""
    place = self._place("on", "against") or self._say("here", "in this picture")
    return [*place, *self._say("grows", "stands", "is"), *self._flower("a"), "with", *self._parts()]

  def _bare(self) -> _Phrase:
    """ "five red petals with a yellow center on green grass"."""
    return [*self._parts(), *self._place("on", "against")]

  def _surrounded(self) -> _Phrase:
    """ "this flower has a yellow center surrounded by five red petals"."""
    ring = self._say("surrounded by", "circled by", "within")
    return [
      *self._flower("this", "the"), "has", *self._centre("a"), *ring, *self._petals(True),
      *self._place("on", "against"),
    ]  # fmt: skip

  def _around(self) -> _Phrase:
    """ "five red petals around the yellow center of a small flower"."""
    flower = ["of", *self._flower("a", "this")]
    return [
      *self._petals(), *self._say("around", "surround"), "the", *self._word("centre_colour"),
      "center", *flower, *self._place("on", "against"),
    ]  # fmt: skip

  def _whose(self) -> _Phrase:
    """ "a small flower whose center is yellow and whose petals are round and red"."""
    shape, colour = self._word("shape"), self._word("petal_colour")
    petals = [*self._word("petals"), "petals", "are", *shape, *(["and"] if shape else []), *colour]
    centre = ["center", "is", *self._word("centre_colour")]
    first, second = self._pick([(petals, centre), (centre, petals)])
    return [
      *self._flower("a"), *self._place("on"), "whose", *first, "and", "whose", *second,
    ]  # fmt: skip
