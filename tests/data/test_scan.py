"""Which files of a user's folder are the user's, and which text is of which image."""

import errno
import json
import os
import sys

import pytest

from t2i_jax import errors, model_folder
from t2i_jax.data import names, prepare, scan
from t2i_jax.page import study
from t2i_jax.rundir import files
from tests.data import test_folder
from tests.fixtures import folders


def test_what_the_program_writes_into_the_folder_is_none_of_its_data(tmp_path):
  raw = folders.make_folder(tmp_path / "raw")
  settings = prepare.Settings(data_dir=raw / "data", raw_dir=raw, image_size=8)
  first = prepare.prepare("folder", settings)
  for step in (500, 1000):
    folders.draw(raw, f"runs/a/samples/step_{step}.png")
  (raw / "runs/a" / files.FLAGS).write_text("--mode=train\n")
  (raw / "runs/a" / files.METRICS).write_text('{"step": 1}\n')
  folders.draw(raw, "data/clusters/class0.png")
  (raw / "data/clusters/labels.csv").write_text("filename,text\n0.png,1\n")
  (raw / "data/clusters/clusters.json").write_text("{}")
  assert prepare.prepare("folder", settings) == first
  names = {path.relative_to(raw).as_posix() for path in test_folder.folder.files(raw)}
  assert names == {f"{k}.{suffix}" for k in range(3) for suffix in ("png", "txt")}


@pytest.mark.parametrize(
  "names",
  [
    (files.LOCK, files.WORD_VECTORS, files.WORD_VECTORS_RECORD, files.DATA, files.READER),
    (model_folder.PARAMETERS, model_folder.CONFIG, model_folder.VOCABULARY, model_folder.CARD),
    (files.PAGE, "report.json", "report.md", "report.png", "study/scores.jsonl"),
    (study.DATA, study.TABLES, study.CURVES),
  ],
)
def test_folders_of_the_program_are_told_by_their_files(tmp_path, caplog, names):
  caplog.set_level("INFO")
  raw = folders.make_folder(tmp_path / "raw")
  before = test_folder.content(test_folder.read(raw))
  (raw / "runs/a/study").mkdir(parents=True)
  for name in names:
    (raw / "runs/a" / name).write_text('{"0.png": "of the program"}')
  folders.draw(raw, "runs/a/b/1.png")
  assert test_folder.content(test_folder.read(raw)) == before
  (record,) = caplog.records
  folder, _, told_by = record.getMessage().partition(" (it has ")
  assert folder == "passed over, since this program wrote it: runs/a"
  assert set(told_by.rstrip(")").split(" and ")) <= set(names)
  assert len(test_folder.folder.files(raw)) == 6


def test_a_prepared_copy_of_class_folders_may_lie_among_them(tmp_path):
  for k, name in enumerate(("rose/a.png", "tulip/b.png")):
    folders.draw(tmp_path, name, k)
  for _ in range(2):
    settings = prepare.Settings(raw_dir=tmp_path, data_dir=tmp_path, image_size=8)
    assert prepare.prepare("folder", settings).images == 2


def test_a_runs_folder_is_refused_as_the_users_folder(tmp_path):
  folders.make_folder(tmp_path)
  (tmp_path / files.FLAGS).write_text("--mode=train\n")
  with pytest.raises(errors.InputError, match=r"this program's own folder \(it has run\.flags\)"):
    test_folder.read(tmp_path)


def test_a_text_beside_two_images_of_its_name_is_of_neither(tmp_path):
  test_folder.touch(tmp_path, "a.jpg", "a.png", "b.jpg", "b.png", "c.jpg", "d.jpg", "d.png")
  for name in ("a", "b.jpg", "b.png", "c", "d", "d.jpg"):
    (tmp_path / f"{name}.txt").write_text(name)
  listing = test_folder.read(tmp_path)
  assert test_folder.content(listing) == {
    "b.jpg": ["b.jpg"], "b.png": ["b.png"], "c.jpg": ["c"], "d.jpg": ["d.jpg"], "d.png": ["d"]
  }  # fmt: skip
  reason = "a.txt could be of it: there are 2 images"
  assert test_folder.reasons(listing.skipped_images) == {"a.jpg": reason, "a.png": reason}


@pytest.mark.parametrize(
  "names", [("a.caption", "a.txt"), ("a.jpg.caption", "a.jpg.txt"), ("a.TXT", "a.txt")]
)
def test_two_texts_beside_an_image_are_refused(tmp_path, names):
  test_folder.touch(tmp_path, "a.jpg", "b.jpg")
  for name in (*names, "b.txt", "c.txt", "c.caption"):  # There is no c.jpg.
    (tmp_path / name).write_text(name)
  both = rf"both {names[0]} and {names[1]} have captions of a\.jpg; keep one"
  with pytest.raises(errors.InputError, match=both):
    test_folder.read(tmp_path)
  (tmp_path / names[0]).unlink()
  assert test_folder.content(test_folder.read(tmp_path)) == {
    "a.jpg": [names[1]], "b.jpg": ["b.txt"]
  }  # fmt: skip


def test_texts_that_are_all_of_two_images_are_told_and_no_folder_stands_in(tmp_path):
  for name in ("rose/a.jpg", "rose/a.png"):
    folders.draw(tmp_path / "raw", name)
  (tmp_path / "raw/rose/a.txt").write_text("a red one")
  with pytest.raises(
    errors.InputError, match=r"2 of 2 images .*a\.txt could be of it: there are 2"
  ):
    folders.prepare(tmp_path, tmp_path / "raw")


def test_an_image_has_captions_in_a_table_or_in_its_text_but_not_in_both(tmp_path):
  test_folder.touch(tmp_path, "1.jpg", "2.jpg")
  for k in (1, 2):
    (tmp_path / f"{k}.txt").write_text(f"a long caption {k}")
  (tmp_path / "index.csv").write_text("filename,description\n1.jpg,unlabelled\n2.jpg,unlabelled\n")
  with pytest.raises(errors.InputError, match=r"both index\.csv and 1\.txt .* of 1\.jpg; keep one"):
    test_folder.read(tmp_path)
  (tmp_path / "index.csv").write_text("filename,description\nold.jpg,unlabelled\n")
  assert test_folder.content(test_folder.read(tmp_path)) == {
    "1.jpg": ["a long caption 1"], "2.jpg": ["a long caption 2"]
  }  # fmt: skip


def _write_records(path, count):
  """As img2dataset writes them: an image, its text and a record of each."""
  for k in range(count):
    test_folder.touch(path, f"{k:05d}.png")
    (path / f"{k:05d}.txt").write_text(f"flower {k}")
    record = {"caption": f"flower {k}", "url": f"http://x/{k}.jpg", "key": f"{k:05d}", "width": 9}
    (path / f"{k:05d}.json").write_text(json.dumps(record))


def test_a_record_beside_each_image_costs_no_more_for_many_than_for_few(tmp_path, monkeypatch):
  normal, calls = names.normal, []
  monkeypatch.setattr(names, "normal", lambda name: calls.append(name) or normal(name))
  per_image = []
  for count in (10, 40):
    calls.clear()
    _write_records(tmp_path / str(count), count)
    listing = test_folder.read(tmp_path / str(count))
    assert len(test_folder.content(listing)) == listing.captions == count
    assert not listing.skipped_images and not listing.skipped_captions
    per_image.append(len(calls) / count)
  assert per_image[1] <= per_image[0]


def test_a_record_beside_each_image_is_no_table_of_which_each_image_lacks_a_row(tmp_path):
  _write_records(tmp_path, 3)
  for path in tmp_path.glob("*.txt"):
    path.unlink()
  with pytest.raises(errors.InputError, match=r"00000\.json: not understood .*names no image"):
    test_folder.read(tmp_path)


def test_only_the_systems_own_folder_may_be_unreadable(tmp_path, monkeypatch):
  test_folder.touch(tmp_path, "dog/a.png", "cat/b.png", "lost+found/c.png")
  refused, scandir = [tmp_path / "lost+found"], os.scandir

  def refuse(path):
    if any(os.fspath(path) == str(one) for one in refused):
      raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    return scandir(path)

  monkeypatch.setattr(os, "scandir", refuse)
  assert scan.scan(tmp_path).photographs == ["cat/b.png", "dog/a.png"]
  refused.append(tmp_path / "cat")
  with pytest.raises(PermissionError):
    scan.scan(tmp_path)


@pytest.mark.parametrize("call", ["scandir", "stat"])
def test_a_folder_or_file_that_cannot_be_looked_at_is_not_passed_over(tmp_path, monkeypatch, call):
  test_folder.touch(tmp_path, "dog/a.png", "cat/b.png")
  real, refused = getattr(os, call), tmp_path / ("cat" if call == "scandir" else "cat/b.png")

  def refuse(path, *args, **kwargs):
    if os.fspath(path) == str(refused):
      raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
    return real(path, *args, **kwargs)

  monkeypatch.setattr(os, call, refuse)
  with pytest.raises(OSError) as raised:
    scan.scan(tmp_path)
  assert raised.value.errno == errno.ESTALE


def test_a_class_is_not_passed_over_for_one_file_that_others_write_too(tmp_path):
  test_folder.touch(tmp_path, "rose/1.png", "tulip/2.png")
  (tmp_path / "tulip/clusters.json").write_text("{}")
  with pytest.raises(errors.InputError, match=r"tulip/clusters\.json: not understood"):
    test_folder.read(tmp_path)


@pytest.mark.parametrize(("link", "real"), [("latest", "v2"), ("a", "z/v2"), ("z/a", "z/v2")])
def test_a_linked_folder_does_not_stand_in_for_the_real_one(tmp_path, link, real):
  test_folder.touch(tmp_path, f"{real}/1.png")
  (tmp_path / link).symlink_to(tmp_path / real)
  (tmp_path / "captions.csv").write_text(f"image,caption\n{real}/1.png,a red one\n")
  assert test_folder.content(test_folder.read(tmp_path)) == {f"{real}/1.png": ["a red one"]}


def _in_splits(path, of, numbers):
  """Images and captions of train and test, the same numbers in both, each in a folder of its own.
  Captions are texts, or the table `of`."""
  for split in ("train", "test"):
    test_folder.touch(path, *(f"{split}/images/{k}.jpg" for k in numbers))
    if of == "texts":
      (path / split / "captions").mkdir()
      for k in numbers:
        (path / split / f"captions/{k}.txt").write_text(f"{split} {k}")
    else:
      rows = (f"{k}.jpg,{split} {k}\n" for k in numbers)
      (path / split / of).parent.mkdir(exist_ok=True)
      (path / split / of).write_text("image,caption\n" + "".join(rows))


@pytest.mark.parametrize("of", ["texts", "metadata.csv", "annotations/a.csv"])
def test_captions_are_of_images_of_their_own_split(tmp_path, of):
  _in_splits(tmp_path, of, range(3))
  listing = test_folder.read(tmp_path)
  for split in ("train", "test"):
    assert test_folder.content(listing, split) == {
      f"{split}/images/{k}.jpg": [f"{split} {k}"] for k in range(3)
    }
  assert not listing.skipped_images and not listing.skipped_captions
  # One split has lost an image, and the other its caption: they do not meet.
  (tmp_path / "train/images/1.jpg").unlink()
  if of == "texts":
    (tmp_path / "test/captions/1.txt").unlink()
  else:
    table = tmp_path / "test" / of
    table.write_text(table.read_text().replace("1.jpg,test 1\n", ""))
  listing = test_folder.read(tmp_path)
  for split in ("train", "test"):
    assert test_folder.content(listing, split) == {
      f"{split}/images/{k}.jpg": [f"{split} {k}"] for k in (0, 2)
    }
  assert list(test_folder.reasons(listing.skipped_images)) == ["test/images/1.jpg"]
  assert [s["reason"] for s in listing.skipped_captions] == (
    [] if of == "texts" else ["no image 1.jpg below train"]
  )


def test_of_texts_in_two_folders_of_captions_the_deepest_counts(tmp_path):
  test_folder.touch(tmp_path, "a/images/1.jpg", "b/images/2.jpg")
  for name in ("captions/1", "a/captions/1", "captions/2"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / f"{name}.txt").write_text(name)
  assert test_folder.content(test_folder.read(tmp_path)) == {
    "a/images/1.jpg": ["a/captions/1"], "b/images/2.jpg": ["captions/2"]
  }  # fmt: skip


@pytest.mark.parametrize(
  ("name", "image"),
  [
    ("1.jpg", "a/in/1.jpg"),  # the only one below a/
    ("in/2.jpg", "a/in/2.jpg"),
    ("../b/3.jpg", "b/3.jpg"),
    ("../b/./../a/in/2.jpg", "a/in/2.jpg"),
    ("b/1.jpg", "b/1.jpg"),  # its whole path
    ("3.jpg", None),
    ("0.jpg", None),
    ("../../b/3.jpg", None),
  ],
)
def test_a_name_in_a_table_is_that_of_an_image_below_the_tables_folder(name, image):
  images = ["0.jpg", "a/in/1.jpg", "a/in/2.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"]
  assert names.Names("", images).find(name, "a/captions.csv") == image


def test_images_of_one_name_cost_no_more_for_many_than_for_few(tmp_path):
  """Calls of functions for an image, as a profiler counts them."""
  per_image = []
  for count in (10, 40):
    raw = tmp_path / str(count)
    test_folder.touch(raw, *(f"all/{k:05d}/image.jpg" for k in range(count)))
    (raw / "captions").mkdir()
    rows = "".join(f"{k:05d}/image.jpg,flower {k}\n" for k in range(count))
    (raw / "captions/a.csv").write_text("image,caption\n" + rows)
    calls = []
    sys.setprofile(lambda *event, calls=calls: calls.append(event[1]))
    try:
      listing = test_folder.read(raw)
    finally:
      sys.setprofile(None)
    assert len(test_folder.content(listing)) == count
    per_image.append(len(calls) / count)
  assert per_image[1] <= per_image[0]
