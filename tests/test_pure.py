"""The networks, losses and steps are functions of their arguments alone."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[1]


def test_pure_modules_import_nothing_that_acts():
  pure = [*(ROOT / "t2i_jax" / "nets").rglob("*.py")]
  training = ROOT / "t2i_jax" / "training"
  pure += [*(training / "losses").glob("*.py")]
  pure += [training / f"{name}.py" for name in ("drawing", "orders", "steps", "state")]
  assert len(pure) > 20
  for path in pure:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
      names = []
      if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
      assert not {n.split(".")[0] for n in names} & {"absl", "os", "logging", "numpy"}, path
