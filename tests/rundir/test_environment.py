"""environment.json has one entry for each start that still counts."""

import jax

from t2i_jax.rundir import environment, files


def test_a_start_replaces_the_entries_of_later_steps(tmp_path):
  for step in (0, 20, 40, 20):
    environment.write(tmp_path, step)
  entries = files.read_json(tmp_path / "environment.json")
  assert list(entries) == ["from step 0", "from step 20"]
  assert entries["from step 20"]["versions"]["jax"] == jax.__version__
  assert entries["from step 20"]["devices"] == jax.device_count()
