"""The modes: their names, what help says of them, and that none imports what is heavy too soon."""

import pathlib
import subprocess
import sys
import typing

from t2i_jax import modes
from t2i_jax.config import groups

ROOT = pathlib.Path(__file__).parents[2]


def test_the_modes_are_the_values_of_the_flag_and_the_files_of_the_folder():
  assert set(modes.MODES) == set(typing.get_args(groups.Mode))
  files = {path.stem for path in (ROOT / "t2i_jax" / "modes").glob("*.py")} - {"__init__"}
  assert set(modes.MODES) == files
  for name, mode in modes.MODES.items():
    assert mode.__name__ == f"t2i_jax.modes.{name}" and callable(mode.run)


def test_a_mode_says_what_it_does_in_its_first_sentence(monkeypatch):
  monkeypatch.setattr(
    modes.train, "__doc__", "`--mode=train`: draws to `data_dir=/x`;\non. And more.\n\nMore."
  )
  assert modes.about()["train"] == "draws to --data_dir=/x; on"
  for name, text in modes.about().items():
    assert len(text) > 20 and "--mode" not in text
    assert modes.MODES[name].__doc__.startswith(f"`--mode={name}`: ")


def test_help_and_a_wrong_flag_are_answered_before_anything_heavy_is_imported():
  heavy = [
    "jax",
    "flax",
    "numpy",
    "scipy",
    "tensorflow",
    "tensorflow_datasets",
    "gensim",
    "matplotlib",
  ]
  code = f"import sys, t2i_jax.main; print([m for m in {heavy} if m in sys.modules])"
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == "[]"
