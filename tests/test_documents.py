"""README, notes and docs/ name what exists: links, paths, flags, and the code that docs/adding.md
changes; and the examples there are code."""

import collections
import importlib.util
import itertools
import pathlib
import re
import sys
import types
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax import sampling
from t2i_jax.benchmark import parts
from t2i_jax.metrics import metric
from t2i_jax.nets import contract, model, packing
from t2i_jax.nets import words as words_lib
from t2i_jax.portable import program
from t2i_jax.text import word2vec
from t2i_jax.training import batches, loop, losses
from t2i_jax.training import state as state_lib
from tests.fixtures import corpora

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "BUILD_NOTES.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAG_FILES = sorted((ROOT / "launch/flags").rglob("*.flags"))
ADDING = (ROOT / "docs/adding.md").read_text(encoding="utf8")

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"(?<![\w/.-])(?:t2i_jax|launch|docs|tests)/[\w./*-]*(?:\{[\w,]+\}[\w./*-]*)*")
_FLAG = re.compile(r"(?<![\w-])--([a-z][a-z0-9_]*)(?:=([a-z0-9_]+)(?![\w./-]))?")
_REMOVED = {"parameter_shards", "sweep", "reference"}  # BUILD_NOTES.md says why
_VERDICT = re.compile(r"^\| (C\d+): [^|]+ \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
_COUNTS = re.compile(
  r"Of its (\d+) claims our small runs confirm (\w+), refute (\w+) and leave (\w+) undecided; "
  r"(\w+) depend on the setting(?: and (\w+) were not tested)?\."
)
_NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _by_name(path):
  return str(path.relative_to(ROOT))


def _anchors(document):
  """The anchors that headings have on GitHub."""
  text = _FENCE.sub("", document.read_text(encoding="utf8"))
  headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
  return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _expanded(path):
  """a{b,c}d -> abd, acd."""
  parts = [part.split(",") for part in re.split(r"[{}]", path)]
  return ["".join(words) for words in itertools.product(*parts)]


def _examples(language):
  return [body for kind, body in _FENCE.findall(ADDING) if kind == language]


@pytest.mark.parametrize(("documents", "least"), [
  (DOCUMENTS, {_LINK: 100, _PATH: 150, _FLAG: 500, _FENCE: 40}),
  (FLAG_FILES, {_PATH: 80, _FLAG: 400}),
])  # fmt: skip
def test_what_is_looked_for_in_documents_is_found(documents, least):
  """Where nothing is found, nothing is checked."""
  text = "\n".join(path.read_text(encoding="utf8") for path in documents)
  found = {kind: kind.findall(text) for kind in least}
  assert all(len(found[kind]) > count for kind, count in least.items())
  # Flags with values, and links to files and to headings, are each a check of their own.
  assert sum(bool(value) for _, value in found[_FLAG]) > len(found[_FLAG]) / 4
  if _LINK in found:
    inside = [link for link in found[_LINK] if not link.startswith("https://")]
    assert len(inside) > 90 and sum("#" in link for link in inside) > 20
    assert {language for language, _ in found[_FENCE]} >= {"bash", "python", "diff"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=_by_name)
def test_every_link_leads_somewhere(document):
  for link in _LINK.findall(document.read_text(encoding="utf8")):
    if link.startswith("https://"):
      continue
    name, _, anchor = link.replace("\\", "").partition("#")
    target = document.parent / name if name else document
    assert target.exists(), link
    assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("document", [*DOCUMENTS, *FLAG_FILES], ids=_by_name)
def test_every_path_exists(document):
  text = document.read_text(encoding="utf8")
  new = set(re.findall(r"\bas\s+`([^`]+)`:", text))  # the files that docs/adding.md adds
  for path in _PATH.findall(text):
    for name in _expanded(path.rstrip(".")):
      assert name in new or any(ROOT.glob(name.rstrip("/"))), name


@pytest.mark.parametrize("document", [*DOCUMENTS, *FLAG_FILES], ids=_by_name)
def test_every_flag_exists_and_takes_its_value(document):
  text = document.read_text(encoding="utf8")
  kinds = {field.name: kind for field, kind in config_lib.fields()}
  assert not _REMOVED & kinds.keys()
  scripts = "\n".join(path.read_text(encoding="utf8") for path in (ROOT / "launch").glob("*.sh"))
  others = {"flagfile", "help", "helpfull"} | {name for name, _ in _FLAG.findall(scripts)}
  for path in (ROOT / "tests").glob("*.py"):  # Those that are programs have flags too.
    others |= set(re.findall(r'add_argument\("--(\w+)"', path.read_text(encoding="utf8")))
  if document.name == "BUILD_NOTES.md":
    others |= _REMOVED
  added = set(re.findall(r"^\+?  (\w+): \w+ = knob\(", text, re.MULTILINE))
  added |= {f"mode={name}" for name in re.findall(r'"""`--mode=(\w+)`', text)}
  for name, value in _FLAG.findall(text):
    negated = name.removeprefix("no")
    is_known = name in kinds or kinds.get(negated) is bool or name in others | added
    assert is_known, f"--{name}"
    values = typing.get_args(kinds.get(name))
    if typing.get_origin(kinds.get(name)) is typing.Literal and value:
      assert value in values or f"{name}={value}" in added, f"--{name}={value}"


def test_the_readme_counts_the_verdicts_of_the_thesis_as_their_table_does():
  table = _VERDICT.findall((ROOT / "docs/thesis.md").read_text(encoding="utf8"))
  assert [claim for claim, _ in table] == [f"C{number}" for number in range(1, 15)]
  counted = collections.Counter(said for _, said in table)
  readme = " ".join((ROOT / "README.md").read_text(encoding="utf8").split())
  claims, *told = _COUNTS.search(readme).groups("no")
  kinds = ("confirmed", "refuted", "undecided", "depends", "not tested")
  assert dict(zip(kinds, map(_NUMBERS.index, told))) == {kind: counted[kind] for kind in kinds}
  assert int(claims) == len(table) == counted.total() == sum(counted[kind] for kind in kinds)


def test_what_is_to_be_changed_is_there():
  linked = {link.replace("\\", "") for link in _LINK.findall(ADDING) if link.endswith(".py")}
  code = "\n".join((ROOT / "docs" / link).read_text(encoding="utf8") for link in linked)
  lines = code.splitlines()
  for diff in _examples("diff"):
    for line in diff.splitlines():
      if line[:1] in (" ", "-"):
        start = line[1:].removesuffix("...")
        assert any(found.startswith(start) for found in lines), line


def test_every_file_to_add_is_imported():
  added = [line[1:] for diff in _examples("diff") for line in diff.splitlines() if line[:1] == "+"]
  files = re.findall(r"\bas\s+`(t2i_jax/[^`]+)\.py`:", ADDING)
  assert len(files) == 6
  for name in (*(file.rpartition("/")[2] for file in files), "Nearest"):
    imported = re.compile(rf"from t2i_jax\.[\w.]+ import .*\b{name}\b|  {name},")
    assert any(map(imported.match, added)), name


def test_the_term_to_add_is_the_mean_difference_of_neighbours():
  """An image that rises by 3 from row to row and by 1 from column to column; one without weight."""
  (diff,) = [body for body in _examples("diff") if "def _variation" in body]
  *added, _ = [line[1:] for line in diff.splitlines() if line[:1] == "+"]  # the last: in TERMS
  names = dict(vars(losses))
  exec("\n".join(added), names)
  rising = 3.0 * jnp.arange(4)[:, None, None] + jnp.arange(4)[:, None] + jnp.zeros(3)
  drawn = types.SimpleNamespace(images=jnp.stack([rising, 7 * rising]))
  asked = types.SimpleNamespace(weight=jnp.array([1.0, 0.0]))
  found = names["_variation"](None, types.SimpleNamespace(asked=asked), drawn, None, ())
  assert found == 3 + 1
  # Also where a caption has more words than images.
  config = config_lib.Config(
    mode="train", workdir="runs/a", steps=1, image_size=16, start_size=4, base_channels=2,
    recurrence="convlstm", prefixes="one", embedding_dim=6, max_words=3,
  )  # fmt: skip
  corpus = corpora.one_caption_each(np.random.default_rng(0), 4, 3)

  def value(key):
    resident = batches.make_resident(config, corpus)
    chosen = batches.Chosen(jnp.arange(4), jnp.arange(4), jnp.arange(4))
    batch = batches.gather(config, resident, chosen, key, None)
    shape = len(batch.packed.slot[batches.drawn_rows(config, batch.packed)]), 16, 16, 3
    drawn = types.SimpleNamespace(images=jnp.zeros(shape))
    assert len(batch.words.weight) > len(drawn.images)
    return names["_variation"](config, batch, drawn, None, ())

  assert jax.eval_shape(value, jax.random.key(0)).shape == ()


@pytest.fixture
def example(tmp_path, monkeypatch):
  """(first words of a docstring) -> the module of docs/adding.md that begins so."""

  def load(start):
    (source,) = [body for body in _examples("python") if body.startswith(f'"""{start}')]
    path = tmp_path / "example.py"
    path.write_text(source, encoding="utf8")
    spec = importlib.util.spec_from_file_location(f"example_{len(source)}", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module

  return load


def _words(count):
  row = jnp.arange(count)
  return words_lib.Words(
    vectors=jnp.ones((count, 5)), noise=jnp.ones((count, 3)),
    caption=row // 3, position=row % 3, weight=jnp.ones(count),
  )  # fmt: skip


@pytest.mark.parametrize(
  ("flag", "name", "start", "kinds"),
  [
    ("generator", "residual", "A residual generator", model.GENERATORS),
    ("discriminator", "projection", "A discriminator that reads", model.DISCRIMINATORS),
  ],
)
def test_a_network_that_is_added_as_written_works_with_the_default_flags(
  flag, name, start, kinds, example, monkeypatch
):
  module = example(start)
  monkeypatch.setitem(kinds, name, getattr(module, flag.title()))
  config = config_lib.Config(mode="train", workdir="runs/a", steps=1)
  object.__setattr__(config, flag, name)  # as if its Literal had the name
  config.check()
  contract.check(config)
  networks, words = model.build(config), model.example_words(config, 2)
  made = jax.eval_shape(lambda: model.init(networks, jax.random.key(0), words))
  assert made["generator"]["params"] and made["discriminator"]["params"]


def test_training_from_a_program_keeps_absolute_inputs_as_mode_train_does(monkeypatch):
  text = (ROOT / "docs/library.md").read_text(encoding="utf8")
  (source,) = [body for _, body in _FENCE.findall(text) if "loop.train(" in body]
  trained = []
  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(loop, "train", trained.append)
  exec(source, {})
  assert pathlib.Path(trained[0].data_dir).is_absolute()


@pytest.mark.parametrize("split", [1, 2, 3])
def test_the_generator_to_add_makes_images(split, example):
  kind = example("A residual generator").Generator
  network = kind(image_size=16, start_size=4, base_channels=2, kernel_size=5, split=split)

  def run(words):
    variables = network.init(jax.random.key(0), words, True)
    maps = network.apply(variables, words, False, method="lower")
    return network.apply(variables, maps, words, False, method="upper")

  assert jax.eval_shape(run, _words(6)).shape == (6, 16, 16, 3)


def test_networks_to_add_can_be_exported(example, monkeypatch):
  monkeypatch.setitem(model.GENERATORS, "residual", example("A residual generator").Generator)
  monkeypatch.setitem(model.RECURRENCES, "gru", example("A gated recurrent unit").Recurrence)
  config = config_lib.Config(
    mode="demo", image_size=16, start_size=4, base_channels=2, embedding_dim=6, max_words=3
  )
  object.__setattr__(config, "generator", "residual")  # as if the Literals had the names
  object.__setattr__(config, "recurrence", "gru")
  networks, words = model.build(config), model.example_words(config, 2)
  made = jax.eval_shape(lambda: model.init(networks, jax.random.key(0), words))
  variables = {name: made[name] for name in model.DRAWING}
  vectors = word2vec.WordVectors(("red",), np.ones((1, 6), np.float32))
  made = program.exported(sampling.TrainedRun(config, 0, variables, vectors, ""), "cpu")
  (images_u8,) = made.out_avals
  assert images_u8.shape[1:] == (3, 16, 16, 3) and images_u8.dtype == np.uint8
  assert not isinstance(images_u8.shape[0], int)  # any number of captions


def test_the_recurrence_to_add_stands_at_every_place(example, monkeypatch):
  monkeypatch.setitem(model.RECURRENCES, "gru", example("A gated recurrent unit").Recurrence)
  config = config_lib.Config(
    mode="bench", image_size=16, start_size=4, base_channels=2, embedding_dim=6, max_words=3
  )
  object.__setattr__(config, "recurrence", "gru")  # as if its Literal had the name
  contract.check(config)
  costs = {}
  for position in ("start", "penultimate", "last", "last_plus_deconv"):
    object.__setattr__(config, "recurrence_position", position)
    config.check()
    costs[position] = parts.of_caption(config, 3.0).flops
    made = state_lib.abstract_state(config, state_lib.make_optimizers(config)).recurrence.params
    assert ("head" in made) == (position == "last_plus_deconv") and len(made) > ("head" in made)
  # Two 5x5 convolutions of 16x16x3 for three words, forward and back.
  assert costs["last_plus_deconv"] - costs["last"] == 3 * 3 * 2 * 2 * 16 * 16 * 25 * 3 * 3


def test_the_recurrence_to_add_reads_left_to_right(example):
  network = example("A gated recurrent unit").Recurrence()
  packed = packing.pack(jnp.array([3, 2]), 3, True)
  maps = jnp.ones((len(packed.slot), 2, 2, 1))
  variables = network.init(jax.random.key(0), maps, packed)

  def at(slots):  # the sum of word 1 of caption 0
    maps = packing.collect(packed, slots)
    return packing.spread(packed, network.apply(variables, maps, packed))[1, 0].sum()

  gradient = jax.grad(at)(jnp.ones((3, 2, 2, 2, 1)))
  reached = np.abs(gradient).sum((2, 3, 4)) > 0
  np.testing.assert_array_equal(reached, [[True, False], [True, False], [False, False]])


def test_the_discriminator_to_add_reads_words(example):
  network = example("A discriminator that reads").Discriminator(base_channels=2, kernel_size=3)
  images, words = jnp.ones((6, 4, 4, 3)), _words(6)
  variables = network.init(jax.random.key(0), images, words, None)

  def logits(vectors):
    return network.apply(variables, images, words.replace(vectors=vectors), words.weight)

  assert logits(words.vectors).shape == (6,)
  gradient = jax.grad(lambda vectors: logits(vectors).sum())(words.vectors)
  assert (np.abs(gradient).sum(1) > 0).all()


def test_the_score_to_add_falls_with_blur(example):
  (score,) = example("How sharp images are").METRICS
  sharp = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
  grey = np.full_like(sharp, 99)
  found = score.compute(metric.Inputs(images_u8=grey, own_u8=sharp))["sharpness"]
  assert found["value"] == 0 < found["real"]


def test_the_mode_and_dataset_to_add_are_code(tmp_path, example):
  assert callable(example("`--mode=nearest`").run)
  dataset = example("PNG images whose names").DATASET
  (tmp_path / "red_heart.png").touch()  # no image is opened before it is needed
  listing = dataset.read(tmp_path)
  assert set(listing.splits) == set(dataset.splits)
  assert listing.splits["test"][0].captions == ["red heart"]
