"""`--mode=export`: writes what drawing needs of a run's checkpoint into a folder of its own:
parameters as safetensors, the words with their vectors, the flags, and a page that describes the
model. `--mode=sample --workdir=` that folder draws by it, and so does `draw.py` in it, which needs
JAX and no t2i_jax.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from t2i_jax import config as config_lib
from t2i_jax import errors

_FOLDER = "model"  # below --workdir, without --output


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """The JSON line: the folder, its size, and the numbers of words and parameters."""
  import jax

  from t2i_jax import model_folder, sampling
  from t2i_jax.portable import program

  asked = config
  of_training = {"seed", *config_lib.names("schedule")} - {"sampling_statistics"}
  trained = sampling.open_run(config, given - of_training)
  config = trained.config
  for name in sorted(given & of_training):
    if (value := getattr(asked, name)) != getattr(config, name):
      raise errors.InputError(
        f"`{name}={value}`: the run was trained with {getattr(config, name)}, and its model says "
        "so; leave it out"
      )
  folder = config.output or os.path.join(config.workdir, _FOLDER)
  vectors = trained.vectors
  if config.export_words:
    if config.oov == "mean":
      raise errors.InputError(
        "--export_words: this run gives unknown words the mean of all vectors (--oov=mean), which "
        "would change; leave it out"
      )
    kept = slice(config.export_words)
    vectors = dataclasses.replace(vectors, words=vectors.words[kept], vectors=vectors.vectors[kept])
  model = model_folder.Model(config, trained.step, trained.variables, vectors)
  card, programs = _card(model), program.files(trained)
  model_folder.write(folder, model, card, config.export_dtype, programs)
  return {
    "checkpoint": trained.checkpoint,
    "step": trained.step,
    "output": folder,
    "bytes": sum(entry.stat().st_size for entry in os.scandir(folder)),
    "words": len(vectors.words),
    "parameters": sum(x.size for x in jax.tree.leaves(trained.variables)),
  }


def _card(model) -> str:
  """A page about the model: what it was trained on, its scores, and how to draw by it."""
  import jax

  from t2i_jax.metrics import distances, registry
  from t2i_jax.rundir import scores

  config = model.config
  lines = [
    f"# {config.dataset}, {config.image_size} pixels: a caption becomes images, one for every word",
    "",
    f"Trained by t2i_jax on `{config.dataset}` (`{config.train_split}`), {model.step:,} steps of "
    f"{config.batch_size} captions, seed {config.seed}; all flags are in `config.json`. It knows "
    f"{len(model.vectors.words):,} words.",
    "",
    "```bash",
    'python -m t2i_jax.main --mode=sample --workdir=FOLDER --captions="a caption" '
    "--output=caption.png",
    "```",
    "",
    "`draw.py` draws without t2i_jax, by the programs beside it: `draw.cpu.stablehlo`, "
    "`draw.cuda.stablehlo`, `draw.tpu.stablehlo`. JAX "
    f"{jax.__version__} wrote them; an older one cannot read them. With it a CPU draws the same "
    "pixels; with a newer one, up to 0.12, one value in 100,000 may differ by 1.",
    "",
    "```bash",
    f"pip install 'jax>={jax.__version__},<0.13' flatbuffers numpy pillow",
    'python draw.py "a caption" caption.png',
    "```",
  ]
  found = [s for s in scores.of_checkpoints(scores.read(config.workdir)) if s["step"] == model.step]
  # The last one, of images that were not trained on if there is one.
  line = max(found[::-1], key=lambda s: not s.get("images_trained_on"), default=None)
  if line:
    partial = line.get("partial", [])
    lines += [
      "",
      f"Scores on the split `{line['split']}`, {line['real_images']:,} images and "
      f"{line['captions']:,} captions, with 95 % intervals"
      + ("; † computed through a network that training looked through" if partial else "")
      + ":",
      *(["", scores.SEEN] if line.get("images_trained_on") else []),
      "",
      "| score | value | real images |",
      "|---|---|---|",
    ]
    for metric in registry.ALL:
      if value := line.get(metric.name):
        mark = "†" if metric.name in partial else ""
        real = _number(value["real"]) if "real" in value else ""
        numbers = (_number(value[name]) for name in ("value", "low", "high"))
        lines.append(
          "| {}{} (`{}`) | {} [{}, {}] | {} |".format(
            metric.title, mark, metric.name, *numbers, real
          )
        )
    if any(line[name] for name in line if name.startswith("frechet_")):
      lines += ["", distances.OF_REAL]
  return "\n".join([*lines, ""])


def _number(value: float | None) -> str:
  """Three digits; a dash for a score that was not finite."""
  return "–" if value is None else f"{value:.3g}"
