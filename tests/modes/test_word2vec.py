"""--mode=word2vec: what the flags ask for, and what the JSON line says."""

import pytest

from t2i_jax.data import images
from t2i_jax.text import train_word2vec, word2vec


@pytest.fixture
def mode(command, tmp_path):
  text = tmp_path / "text.txt"
  text.write_text("red petals one flower\n" * 60 + "stem leaf\n" * 20)

  def run(*words):
    shape = ["--workers=1", "--embedding_dim=8", "--epochs=2", f"--output={tmp_path}/v.bin"]
    return command("--mode=word2vec", f"--corpus={text}", *shape, *words, tiny=False)

  return run


def test_the_line_tells_numbers_and_files(mode, tmp_path):
  run = mode("--min_count=21")
  assert run.status == 0, run.err
  assert run.json == {
    "words": 4,
    "dimension": 8,
    "tokens": 280,
    "vectors": f"{tmp_path}/v.bin",
    "compact": f"{tmp_path}/v.safetensors",
  }
  assert set(word2vec.load(tmp_path / "v.bin").words) == {"red", "petals", "one", "flower"}


def test_each_flag_reaches_the_training(mode, tmp_path, monkeypatch):
  found = {}

  def train(text, output, settings, a_is_one):
    found.update(text=text, output=output, settings=settings, a_is_one=a_is_one)
    raise KeyboardInterrupt

  monkeypatch.setattr(train_word2vec, "train", train)
  mode("--word2vec=skip_gram", "--window=3", "--min_count=2", "--seed=7", "--a_is_one")
  assert found["settings"] == train_word2vec.Settings(
    architecture="skip_gram", dimension=8, window=3, min_count=2, epochs=2, workers=1, seed=7
  )
  assert found["output"] == tmp_path / "v.bin" and found["a_is_one"] is True
  assert (found["text"].path, found["text"].workers) == (f"{tmp_path}/text.txt", 1)
  mode("--epochs=0")
  assert found["settings"].epochs == 5


def test_errors_of_the_training_name_flags(mode, monkeypatch):
  run = mode("--min_count=1000")
  assert run.status == 2 and "no word of its" in run.err and "--min_count=1" in run.err
  with monkeypatch.context() as patch:
    patch.setattr(train_word2vec, "train_once", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert mode().status == 1
  run = mode("--window=4")
  assert run.status == 2 and "(--window: 5 there, 4 here)" in run.err and "delete" in run.err
  assert mode("--corpus=").status == 2
  assert mode("--output=v.txt").status == 2


def test_coverage_of_a_datasets_captions_is_in_the_line(mode, data_dir, monkeypatch):
  monkeypatch.delattr(images, "decode")  # Captions need no image.
  run = mode(
    "--dataset=synthetic", "--synthetic_images=30", "--image_size=16", f"--data_dir={data_dir}",
    "--start_size=4",
  )  # fmt: skip
  assert run.status == 0, run.err
  cover = run.json["coverage"]
  assert cover["dataset"] == "synthetic" and cover["tokens"] > 30 * 3
  assert 1 <= cover["types_known"] < cover["types"] and cover["without"]
  assert not set(cover["without"]) & {"red", "petals", "one", "flower"}
  assert "red" in run.json["neighbours"] or "flower" in run.json["neighbours"]
