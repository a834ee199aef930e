"""What the raw folders share."""

import os

import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.data import raw


@pytest.mark.parametrize("count, held_out", [(102, 20), (200, 50)])
def test_a_share_of_the_classes_is_held_out_whatever_their_frequency(count, held_out):
  classes = range(1, count + 1)
  chosen = raw.held_out_classes([], classes, held_out / count)
  assert len(chosen) == held_out and chosen <= set(classes)
  assert chosen == raw.held_out_classes([], [*classes, 1, 1, count], held_out / count)
  expected = np.random.default_rng(0).permutation(np.arange(1, count + 1))[:held_out]
  assert chosen == set(expected.tolist())


@pytest.mark.parametrize(
  "name, lines, expected",
  [
    ("testclasses.txt", "class_00002\nclass_00010\n", {2, 10}),
    ("testclasses.txt", "002.Laysan_Albatross\n010.Red_2_winged\n", {2, 10}),
    ("stackgan_test_filenames.txt", "002.Laysan/Laysan_0002_1027\n002.Laysan/L_0003\n", {2}),
    ("trainvalclasses.txt", "001.Black\n003.Sooty\n", {2, 4}),
    ("stackgan_train_filenames.txt", "001.Black/B_0046_18\n003.Sooty/S_3\n004.X/9", {2}),
  ],
)
def test_lists_name_the_classes(tmp_path, name, lines, expected):
  (tmp_path / name).write_text(lines)
  lists = raw.class_lists([tmp_path / "absent", tmp_path])
  assert lists == [tmp_path / name]
  assert (
    raw.held_out_classes(lists, [1, 2, 3, 4, 10][: 5 if 10 in expected else 4], 0.2) == expected
  )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_of_classes_may_have_a_mark_of_its_encoding(tmp_path, encoding):
  (tmp_path / "testclasses.txt").write_text("class_00002\nclass_00004\n", encoding)
  assert raw.held_out_classes(raw.class_lists([tmp_path]), range(1, 6), 0.2) == {2, 4}


def test_a_test_list_wins_over_a_training_list(tmp_path):
  (tmp_path / "trainvalclasses.txt").write_text("class_00001\n")
  (tmp_path / "testclasses.txt").write_text("class_00003\n")
  assert raw.held_out_classes(raw.class_lists([tmp_path]), [1, 2, 3], 0.2) == {3}


def test_a_line_without_a_class_is_an_input_error(tmp_path):
  for line in ("Laysan_Albatross", "2nd.Albatross"):
    (tmp_path / "testclasses.txt").write_text(f"001.Black\n{line}\n")
    with pytest.raises(errors.InputError, match=f"testclasses.txt: '{line}'"):
      raw.held_out_classes(raw.class_lists([tmp_path]), [1, 2], 0.5)


def test_files_beside_the_raw_folder_count_in_its_fingerprint(tmp_path):
  inside, beside = tmp_path / "raw/a.txt", tmp_path / "texts/b.txt"
  for file in (inside, beside):
    file.parent.mkdir()
    file.write_text("x")
  before = raw.fingerprint(tmp_path / "raw", [inside, beside])
  assert before == raw.fingerprint(tmp_path / "raw", [beside, inside])
  os.utime(beside, (1, 1))
  assert before != raw.fingerprint(tmp_path / "raw", [inside, beside])
