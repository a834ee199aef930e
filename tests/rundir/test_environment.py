"""environment.json has one entry for each start that still counts."""

import importlib.metadata
import json

import jax
import pytest

import t2i_jax
from t2i_jax import errors
from t2i_jax.rundir import environment, files


def test_a_start_replaces_the_entries_of_later_steps(tmp_path):
  for step in (0, 20, 40, 20):
    environment.write(tmp_path, step)
  entries = files.read_json(tmp_path / "environment.json")
  assert list(entries) == ["from step 0", "from step 20"]
  assert entries["from step 20"]["versions"]["jax"] == jax.__version__
  assert entries["from step 20"]["devices"] == jax.device_count()


@pytest.mark.parametrize("name", ["foo", "from step x", "from step 3 on", ""])
def test_a_damaged_file_is_named(tmp_path, name):
  (tmp_path / "environment.json").write_text(json.dumps({name: 1}))
  with pytest.raises(errors.InputError, match=r"environment\.json: damaged"):
    environment.write(tmp_path, 4)


def test_a_checkout_that_is_not_installed_has_a_version(monkeypatch):
  installed = importlib.metadata.version

  def version(name):
    if name == "t2i_jax":
      raise importlib.metadata.PackageNotFoundError(name)
    return installed(name)

  monkeypatch.setattr(importlib.metadata, "version", version)
  assert environment.describe()["versions"]["t2i_jax"] == t2i_jax.__version__
