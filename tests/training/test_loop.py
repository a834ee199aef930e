"""A run that is cut off and goes on is the run that never stopped; what does not fit is refused."""

import dataclasses
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.nets import model
from t2i_jax.parallel import hosts
from t2i_jax.rundir import files, lock, metrics, records
from t2i_jax.training import checkpoints, held_out, loop, resume, shown, statistics, steps
from t2i_jax.training import window as window_lib
from tests.fixtures import checkpoints as checkpoint_files


@pytest.mark.slow
def test_ten_steps_equal_five_a_restart_and_five_bit_for_bit(command, trained, tmp_path):
  command("--mode=train", f"--workdir={tmp_path}", "--steps=5")
  assert command.status == 0 and command.json["step"] == 5
  command("--mode=train", f"--workdir={tmp_path}", "--steps=10")
  assert command.status == 0 and command.json["step"] == 10
  whole, parts = checkpoint_files.leaves(trained, 10), checkpoint_files.leaves(tmp_path, 10)
  assert whole.keys() == parts.keys() and len(whole) > 50
  for path, leaf in whole.items():
    np.testing.assert_array_equal(leaf, parts[path], err_msg=str(path))
  assert metrics.read(trained) == metrics.read(tmp_path)
  entries = json.loads((tmp_path / "environment.json").read_text())
  assert list(entries) == ["from step 0", "from step 5"]
  assert entries["from step 5"]["versions"]["jax"] == jax.__version__
  assert [line["step"] for line in metrics.read(tmp_path)] == list(range(1, 11))


@pytest.mark.slow
def test_a_checkpoint_has_the_batch_statistics_of_the_averages_and_so_has_what_is_judged(
  command, tmp_path, monkeypatch
):
  """Also one between two pictures."""

  def make_step(*_):
    next_step = jax.jit(lambda state: state.replace(step=state.step + 1))
    values = {"d/loss": jnp.float32(1), steps.SKIPPED: jnp.float32(0)}
    return lambda state, *_: (next_step(state), values)

  def refresh(state):
    """Batch statistics of 10, 20, 30 after steps 1, 2, 3."""
    drawing = {name: getattr(state, name) for name in model.DRAWING}
    full = lambda x: jnp.full_like(x, 10.0 * int(state.step))  # noqa: E731
    new = {n: net.replace(batch_stats=jax.tree.map(full, net.batch_stats))
           for n, net in drawing.items()}  # fmt: skip
    return state.replace(**new)

  judged = {}

  def look(step, state):
    judged[step] = jax.device_get(state.generator.batch_stats)
    return {}

  # Nothing is trained or drawn: only when and of what is counted.
  monkeypatch.setattr(steps, "make_train_step", make_step)
  monkeypatch.setattr(statistics, "make_refresh", lambda *_: refresh)
  monkeypatch.setattr(held_out, "make_look", lambda *_: look)
  monkeypatch.setattr(shown, "make_show", lambda *_: lambda step, state: 0.5)
  command("--mode=train", f"--workdir={tmp_path}", "--steps=3", "--checkpoint_every=2",
          "--sample_every=100", "--average_images=100")  # fmt: skip
  assert command.status == 0, command.err
  assert list(judged) == checkpoints.steps_in(tmp_path) == [2, 3]
  for step, stats in judged.items():
    kept = checkpoint_files.leaves(tmp_path, step)
    saved = [x for path, x in kept.items() if path[:2] == ("generator", "batch_stats")]
    found = [*saved, *jax.tree.leaves(stats)]
    assert len(found) == 2 * len(saved) > 0 and all((x == 10 * step).all() for x in found)


@pytest.mark.slow
def test_training_says_what_it_does_in_few_lines(trained, command, tmp_path):
  """Where the data are there already: `trained` needed them."""
  command("--mode=train", f"--workdir={tmp_path}", "--steps=1")
  told = command.err.split("\n")
  assert told[0].startswith("1 device (cpu); synthetic, split train: 24 images, ")
  assert sum(line.startswith("train: 4 of 4 captions after ") for line in told) == 1
  assert "\r" not in command.err and len(told) < 12


@pytest.mark.slow
def test_training_changes_every_network(command, tmp_path):
  """By gradients of the losses alone: --l2 would move each parameter that is not 0."""
  kept = ["--checkpoint_every=1", "--keep_checkpoints=3"]
  command("--mode=train", f"--workdir={tmp_path}", "--steps=3", "--l2=0", *kept)
  assert command.status == 0, command.err
  one, three = (checkpoint_files.leaves(tmp_path, step) for step in (1, 3))
  params = [path for path in three if path[0] != "loop" and "params" in path]
  assert {path[0] for path in params} == set(model.NETWORKS)
  still = [path for path in params if np.array_equal(one[path], three[path])]
  assert still == []


def test_what_a_run_leaves_behind(trained):
  for name in ("run.flags", "word_vectors.bin", "metrics.jsonl", "data.json"):
    assert (trained / name).exists(), name
  assert list((trained / "tensorboard").iterdir())
  pictures = sorted(p.name for p in (trained / "samples").glob("step_*"))
  assert pictures == ["step_000005.png", "step_000010.png"]
  with Image.open(trained / "samples" / pictures[-1]) as sheet:
    assert sheet.width > 5 * 64 and sheet.height > 2 * 64


@pytest.mark.slow
def test_the_run_s_own_flags_repeat_it(trained, command, tmp_path):
  command(f"--flagfile={trained}/run.flags", f"--workdir={tmp_path}", "--steps=3", tiny=False)
  assert command.status == 0
  found = metrics.read(tmp_path)
  del found[-1]["g/diversity"]  # the last step is looked at, here the third
  assert found == metrics.read(trained)[:3]


def test_a_network_that_does_not_fit_is_refused_with_the_difference(trained, command):
  before = sorted(p.name for p in trained.rglob("*"))
  command("--mode=train", f"--workdir={trained}", "--steps=12", "--base_channels=5")
  assert command.status == 2 and command.lines == []
  (line,) = [li for li in command.err.splitlines() if li.startswith("t2i_jax: ")]
  assert "--base_channels: 4 there, 5 here" in line
  assert sorted(p.name for p in trained.rglob("*")) == before


def test_other_data_is_refused(trained, command, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(trained, workdir)
  record = json.loads((workdir / "data.json").read_text())
  (workdir / "data.json").write_text(json.dumps({**record, "crc32": "0-0-0"}))
  command("--mode=train", f"--workdir={workdir}", "--steps=12")
  assert command.status == 2 and "other data" in command.err


@pytest.mark.slow
def test_a_finished_run_is_told_so_and_fewer_steps_are_refused(trained, command):
  command("--mode=train", f"--workdir={trained}", "--steps=10")
  assert command.status == 0 and command.json["step"] == 10
  command("--mode=train", f"--workdir={trained}", "--steps=9")
  assert command.status == 2 and "--steps=9" in command.err


@pytest.mark.slow
def test_numbers_that_are_not_finite_stop_the_run_with_a_finite_checkpoint(
  command, tmp_path, monkeypatch
):
  monkeypatch.setattr(resume, "_MOST_RETURNS", 1)
  run = ("--mode=train", f"--workdir={tmp_path}", "--steps=50", "--checkpoint_every=4")
  command(*run, "--generator_learning_rate=1e39")
  assert command.status == 1 and command.lines == []
  (line,) = [line for line in command.err.splitlines() if line.startswith("t2i_jax: ")]
  assert "none of 5 steps in a row was applied" in line and "--generator_learning_rate" in line
  assert "nor after going back 1 times" in line and command.err.count("with other captions") == 1
  (last, *_) = sorted(map(int, os.listdir(tmp_path / "checkpoints")), reverse=True)
  assert all(np.isfinite(leaf).all() for leaf in checkpoint_files.leaves(tmp_path, last).values())
  # A smaller rate goes on from there.
  command(*run[:2], f"--steps={last + 1}", "--generator_learning_rate=1e-4")
  assert command.status == 0 and f"going on from step {last} " in command.err


@pytest.mark.slow
def test_a_run_that_meets_bad_steps_goes_back_and_takes_other_captions(
  command, tmp_path, monkeypatch
):
  """Steps 6 to 10 are not applied, the first time."""
  make, given = steps.make_train_step, []

  def make_bad(*arguments):
    step = make(*arguments)

    def bad(state, resident, chosen, bucket):
      given.append((int(state.step), np.asarray(chosen.captions).tolist()))
      new, values = step(state, resident, chosen, bucket)
      is_bad = len(given) in range(6, 11)
      return new, {**values, steps.SKIPPED: np.float32(is_bad)}

    return bad

  monkeypatch.setattr(steps, "make_train_step", make_bad)
  run = ("--mode=train", f"--workdir={tmp_path}", "--steps=12", "--checkpoint_every=4")
  command(*run)
  assert command.status == 0 and "back to step 8, with other captions" in command.err
  assert [line["step"] for line in metrics.read(tmp_path)] == [1, 2, 3, 4, 5, 9, 10, 11, 12]
  before, after = dict(given[:11]), dict(given[11:])  # The step after them had begun.
  assert list(after) == [8, 9, 10, 11] and all(before[s] != after[s] for s in (8, 9))
  assert records.read_returns(tmp_path) == {"count": 1, "step": 8, "in_vain": 1}
  # It goes on with the captions that it had come to.
  command(*run[:2], "--steps=13", "--checkpoint_every=4")
  assert given[-1][0] == 12 and given[-1][1] not in before.values()


def test_a_run_without_a_checkpoint_has_no_returns_of_an_earlier_try(tmp_path):
  record = {"count": 3, "step": 0, "in_vain": 3}
  records.write_returns(tmp_path, record)
  assert resume.returns_so_far(tmp_path, 4) == record
  none = resume.returns_so_far(tmp_path, 0)
  assert none["count"] == none["in_vain"] == 0 and resume.steps_ahead(none) == 0
  assert records.read_returns(tmp_path) == none  # Nor has the run that goes on from here.


def test_a_run_without_a_checkpoint_knows_no_best_one_of_an_earlier_try(tmp_path, monkeypatch):
  here, there = tmp_path / "here", tmp_path / "there"  # A bucket, and the copy that is worked on.
  monkeypatch.setattr(resume.bucket, "checkpoints", lambda _: there / "checkpoints")
  for folder in (here, there):
    records.write_best(folder, 9, 0.0)
    records.write_window(folder, 9, [{"d/loss": 1.0}], 1)
    records.write_collapse(folder, 9)
    (folder / "scores.jsonl").write_text('{"step": 9}\n')
  resume.forget_earlier_try(here, 9)
  assert records.read_best(here) == {"step": 9, "distance": 0.0} and records.read_window(here, 9)
  assert (here / "scores.jsonl").exists() and records.has_collapsed(here, 9)
  resume.forget_earlier_try(here, 0)
  for folder in (here, there):
    assert records.read_best(folder) is None and not records.read_window(folder, 9)
    assert not (folder / "scores.jsonl").exists() and not records.has_collapsed(folder, 9)
  assert (here / files.EARLIER_SCORES).read_text() == '{"step": 9}\n'  # Nothing is lost.
  resume.forget_earlier_try(here, 0)


def test_returns_in_vain_are_counted_until_the_run_gets_further():
  def after(returns, step, applied):
    return resume.next_return(returns, step, window_lib.NotFinite("bad", applied))

  first = after({"count": 0, "step": -1, "in_vain": 0}, 8, True)
  assert first == {"count": 1, "step": 8, "in_vain": 1}
  assert after(first, 8, True)["in_vain"] == 2  # No further checkpoint.
  assert after(first, 12, False)["in_vain"] == 2  # One further, but of skipped steps alone.
  assert after(first, 12, True) == {"count": 2, "step": 12, "in_vain": 1}
  third = after(after(first, 8, True), 8, True)
  assert resume.steps_ahead(third) == 3 * resume.steps_ahead(first) > 0
  with pytest.raises(errors.Failed, match=r"bad, nor after going back 3 times.* from step 8"):
    after(third, 8, True)


def test_one_step_that_is_not_finite_is_left_out_of_the_means(tmp_path):
  lines = []

  class Writer(metrics.NoWriter):
    def write(self, step, values):
      lines.append((step, values))

  config = config_lib.Config(workdir=str(tmp_path), log_every=3, steps=9)
  window = window_lib.Window(config, Writer(tmp_path, 0), 0, 9)
  for step, loss in enumerate([1.0, np.nan, 3.0, 5.0, 5.0, 8.0], 1):
    window.put(step, {"d/loss": jnp.float32(loss), steps.SKIPPED: jnp.float32(np.isnan(loss))})
  window.flush()
  assert lines == [(3, {"d/loss": 2.0}), (6, {"d/loss": 6.0})]


@pytest.mark.parametrize("first", [0, 4])
def test_a_run_does_not_end_with_steps_that_did_nothing(tmp_path, first):
  """Two steps are left of it, fewer than end it in its midst; neither is applied."""
  config = config_lib.Config(workdir=str(tmp_path), steps=first + 2)
  window = window_lib.Window(config, metrics.NoWriter(tmp_path, 0), first, first + 2)
  bad = {"d/loss": jnp.float32(np.nan), steps.SKIPPED: jnp.float32(1)}
  window.put(first + 1, bad)
  window.put(first + 2, bad)
  with pytest.raises(window_lib.NotFinite, match="none of 2 steps"):
    window.flush()


BAD = {"d/loss": jnp.float32(np.nan), steps.SKIPPED: jnp.float32(1)}
GOOD = {
  "d/loss": jnp.float32(1), "g/gradient_norm": jnp.float32(0), steps.SKIPPED: jnp.float32(0)
}  # fmt: skip


def _bad_until_returned(config, first, returned_to=0, total=100):
  """How many steps after the first, none of which is applied, a run goes back."""
  window = window_lib.Window(config, metrics.NoWriter("", 0), first, total, returned_to)
  for step in range(first + 1, total + 1):
    window.put(step, BAD)
    try:
      window.flush()
    except window_lib.NotFinite as error:
      return step - first, error.applied


def test_bad_steps_before_a_checkpoint_count_for_the_run_that_goes_on_from_it(tmp_path):
  """As they do for the unbroken run: of five in a row, three were before the checkpoint."""
  config = config_lib.Config(workdir=str(tmp_path), steps=100)
  records.write_window(tmp_path, 8, [{"d/loss": 1.0}], 5, skipped=3)
  (tmp_path / "window.json").write_text(
    json.dumps({**json.loads((tmp_path / "window.json").read_text()), "6": [{"d/loss": 1.0}]})
  )
  assert _bad_until_returned(config, 8) == (2, True)
  assert _bad_until_returned(config, 6) == (5, True)  # as an older version wrote it
  assert _bad_until_returned(config, 0) == (5, False)
  assert _bad_until_returned(config, 8, returned_to=5) == (2, False)
  assert _bad_until_returned(config, 8, returned_to=4) == (2, True)
  assert _bad_until_returned(config, 8, returned_to=8) == (5, False)  # Other captions are tried.


@pytest.mark.parametrize("first", [0, 6, 8])
def test_a_last_step_that_is_not_applied_is_none_wherever_the_run_was_stopped(tmp_path, first):
  config = config_lib.Config(workdir=str(tmp_path), steps=9)
  window = window_lib.Window(config, metrics.NoWriter("", 0), first, 9)
  for step in range(first + 1, 9):
    window.put(step, GOOD)
  window.put(9, BAD)
  with pytest.raises(window_lib.NotFinite, match=r"step 9: .* none of 1 steps"):
    window.flush()


@pytest.mark.parametrize("content", [
  '{"a": []}', '{"5": 7}', '{"5": [7]}', '{"5": [{"d/loss": "x"}]}', '{"5": {"metrics": []}}',
  '{"5": {"metrics": 3, "skipped": 0}}',
])  # fmt: skip
def test_a_damaged_record_of_metrics_is_named(tmp_path, content):
  (tmp_path / "window.json").write_text(content)
  for use in (
    lambda: records.read_window(tmp_path, 5), lambda: records.write_window(tmp_path, 6, [], 3)
  ):  # fmt: skip
    with pytest.raises(errors.InputError, match=r"window\.json: damaged"):
      use()


@pytest.mark.slow
def test_a_run_that_is_stopped_among_bad_steps_goes_back_where_the_unbroken_one_does(
  command, tmp_path, monkeypatch
):
  """Steps 3 to 7 are not applied, the first time. Nothing is trained, drawn or judged."""
  seen, judged = [], []

  def make_step(*_):
    next_step = jax.jit(lambda state: state.replace(step=state.step + 1))

    def step(state, *_):
      seen.append(int(state.step) + 1)
      is_bad = seen[-1] in range(3, 8) and seen.count(seen[-1]) == 1
      return next_step(state), BAD if is_bad else GOOD

    return step

  monkeypatch.setattr(steps, "make_train_step", make_step)
  monkeypatch.setattr(shown, "make_show", lambda *_: lambda step, state: 0.5)
  monkeypatch.setattr(held_out, "make_look", lambda *_: lambda step, _: judged.append(step) or {})
  stop = lambda self, step: step == 5 and seen.count(5) == 1  # noqa: E731
  for name, has_come in (("unbroken", lambda self, step: False), ("stopped", stop)):
    seen.clear(), judged.clear()
    monkeypatch.setattr(hosts.Notice, "has_come", has_come)
    run = ("--mode=train", f"--workdir={tmp_path}/{name}", "--steps=9", "--checkpoint_every=7")
    command(*run)
    if name == "stopped":
      assert command.status == 75
      records.write_best(tmp_path / name, 7, 0.0)  # It ended while this was being saved.
      command(*run)
      assert records.read_best(tmp_path / name) is None
    assert command.status == 0, command.err
    assert "step 7: d/loss not finite; none of 5 steps in a row was applied" in command.err
    assert "learns nothing" not in command.err  # There is one look, at the last step.
    # What is not kept is not judged: it would be the best checkpoint, and there is none.
    assert judged == [7, 9] and seen.index(7) < len(seen) - 1 - seen[::-1].index(7)


def test_the_best_checkpoint_is_among_those_that_are_there(tmp_path):
  """Of step 4 there are metrics, but its saving never ended; those of step 8 were cut off."""
  distances = {2: 0.5, 4: 0.1, 6: 0.4, 8: 0.2}
  for step, distance in distances.items():
    line = {"step": step, "g/held_out_distance": distance}
    files.append_json_line(tmp_path / "metrics.jsonl", line)
    files.append_json_line(tmp_path / "metrics.jsonl", {"step": step + 1, "d/loss": 0.0})
  for first, saved, best in ((6, [2, 6], 6), (5, [2, 5], 2), (9, [2, 6, 8], 8), (5, [5], None)):
    records.write_best(tmp_path, 4, 0.1)
    resume.choose_best(tmp_path, first, saved)
    assert records.read_best(tmp_path) == (best and {"step": best, "distance": distances[best]})


def test_two_runs_do_not_share_a_folder(command, tmp_path):
  with lock.hold(tmp_path / "run"):
    # The system's lock is of the open file: another opening of it is as another process.
    command("--mode=train", f"--workdir={tmp_path}/run", "--steps=1")
  assert command.status == 2 and f"process {os.getpid()} on" in command.err
  with lock.hold(tmp_path / "run"):  # It is given up with the body.
    pass


@pytest.mark.slow
def test_epochs_are_passes_over_the_captions(command, tmp_path):
  command("--mode=train", f"--workdir={tmp_path}", "--epochs=1", "--batch_size=50",
          "--captions_per_image=3")  # fmt: skip
  # 24 training images (80 % of 30), 3 captions each: 72 captions in batches of 50.
  assert command.json["step"] == 2
  assert json.loads((tmp_path / "data.json").read_text())["captions"] == 72


def test_order_shows_every_caption_once_an_epoch_and_depends_on_seed_and_step_alone():
  order = corpus_lib.example_order(12, 3, 2, seed=5)
  epochs = [np.concatenate([order(step).ravel() for step in (2 * e, 2 * e + 1)]) for e in (0, 1)]
  for epoch in epochs:
    assert sorted(epoch) == list(range(12))
  assert not np.array_equal(*epochs)
  again = corpus_lib.example_order(12, 3, 2, seed=5)
  np.testing.assert_array_equal(again(3), order(3))
  assert not np.array_equal(corpus_lib.example_order(12, 3, 2, seed=6)(0), order(0))
  assert order(0).shape == (2, 3)


def test_captions_a_step_counts_the_discriminator_s_own():
  config = config_lib.Config(mode="bench", batch_size=4, discriminator_steps=3)
  assert loop._captions_a_step(config) == 12


@pytest.mark.slow
def test_a_collapse_is_told_and_may_end_the_run(command, tmp_path):
  # Weights that stay as they are draw nearly the same grey for all captions.
  still = ["--generator_learning_rate=0", "--sample_every=1", "--checkpoint_every=100"]
  words = ["--mode=train", f"--workdir={tmp_path}", "--steps=5", *still]
  command(*words, "--stop_at_collapse")
  assert command.status == 0
  assert (command.json["step"], command.json["collapsed"]) == (2, True)
  assert command.err.count("the run has collapsed") == 1 and "D(fake)" in command.err
  assert checkpoints.steps_in(tmp_path) == [2]
  assert metrics.read(tmp_path)[-1].keys() >= {"g/diversity", "g/loss"}
  # It is done: nothing is trained further, and whoever follows it need not wait.
  command(*words, "--stop_at_collapse")
  assert (command.json["step"], command.json["collapsed"]) == (2, True)
  assert records.has_collapsed(tmp_path, 2) and not records.has_collapsed(tmp_path, 3)
  # Without the flag it goes on; the looks of before count, so that it is not told once more.
  command(*words)
  assert "the run has collapsed" not in command.err
  assert command.json["step"] == 5 and "collapsed" not in command.json


def test_word_vectors_of_a_try_that_failed_serve_the_same_captions_and_flags_alone(tmp_path):
  config = config_lib.Config(workdir=str(tmp_path), steps=1)
  texts = ["a red flower", "a bird"]
  assert not resume.has_word_vectors(config, texts)
  (tmp_path / "word_vectors.bin").write_bytes(b"")
  assert not resume.has_word_vectors(config, texts)  # whose is not known
  resume.record_word_vectors(config, texts)
  assert resume.has_word_vectors(config, texts)
  assert not resume.has_word_vectors(config, [*texts, "more"])
  for change in ({"seed": 1}, {"word2vec": "skip_gram"}, {"embedding_dim": 8}):
    assert not resume.has_word_vectors(dataclasses.replace(config, **change), texts)


@pytest.mark.slow
def test_word_vectors_that_changed_on_the_disk_are_made_again(
  command, trained, tmp_path, monkeypatch
):
  workdir = tmp_path / "run"
  shutil.copytree(trained, workdir)
  path = workdir / "word_vectors.bin"
  whole = path.read_bytes()
  path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
  command("--mode=sample", f"--workdir={workdir}", "--captions=a red flower", tiny=False)
  assert command.status == 2 and "word_vectors.bin: is not what was written" in command.err
  command("--mode=train", f"--workdir={workdir}", "--steps=10")
  assert command.status == 0 and "word_vectors.bin is not what was written" in command.err
  assert path.read_bytes() == whole
  # Others than it began with, as of another processor, do not take their place.
  path.unlink()
  make = loop.corpus_lib.make_word_vectors

  def make_others(*given):
    vectors = make(*given)
    return dataclasses.replace(vectors, vectors=vectors.vectors + 1)

  monkeypatch.setattr(loop.corpus_lib, "make_word_vectors", make_others)
  command("--mode=train", f"--workdir={workdir}", "--steps=10")
  assert command.status == 2 and "word_vectors.bin is gone or damaged" in command.err
  assert not path.exists()


def test_captions_of_one_word_need_a_discriminator_that_sees_them(command, tmp_path):
  for name in ("red", "blue"):
    (tmp_path / "raw" / name).mkdir(parents=True)
    for i in range(6):
      Image.new("RGB", (16, 16), name).save(tmp_path / "raw" / name / f"{i}.png")
  words = [
    "--dataset=folder", f"--raw_dir={tmp_path}/raw", f"--workdir={tmp_path}/run", "--steps=1",
    "--real_pairing=corresponding",
  ]  # fmt: skip
  command(*words)
  assert command.status == 2 and "--euclid_target=none" in command.err
