"""The direction of imports: a room (folder or file of t2i_jax) imports only from rooms below it."""

import ast
import pathlib

import pytest

import t2i_jax

PACKAGE = pathlib.Path(t2i_jax.__file__).parent
# From top to bottom; rooms of one line do not know each other.
FLOORS = [
  {"main"},
  {"modes"},
  {"benchmark", "demo", "evaluation", "library", "page", "portable"},
  {"mixing", "texts"},
  {"sampling"},
  {"training", "model_folder"},
  {"judges"},
  {"nets", "data"},
  {"text"},
  {"metrics", "pictures", "templates"},
  {"rundir"},
  {"config"},
  {"parallel"},
  {"errors", "near", "process", "progress", "seeds"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def _room(path):
  return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported(path):
  """(room, line) of each import from the package, wherever it stands, type-only ones included."""
  for node in ast.walk(ast.parse(path.read_text("utf-8"))):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      if node.level:  # The convolutions can be copied out: they name no package.
        assert path.parent.name == "convolutions" and node.level == 1, f"{path}: relative import"
        continue
      names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
      continue
    for name in names:
      package, *rest = name.split(".")
      if package == "t2i_jax" and rest:
        yield rest[0], node.lineno


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or
               path.stem != "__init__")  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_below_it(path):
  room = _room(path)
  assert room in FLOOR, f"{room}: a new room needs a floor"
  wrong = [
    f"line {line}: {other}"
    for other, line in _imported(path)
    if other != room and FLOOR[other] <= FLOOR[room]
  ]
  assert wrong == []
