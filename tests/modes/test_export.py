"""--mode=export: which of a checkpoint's scores the page about a model shows, and what it says of
them."""

import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax import model_folder
from t2i_jax.metrics import distances
from t2i_jax.modes import export
from t2i_jax.rundir import scores
from t2i_jax.text import word2vec
from tests.fixtures import runs as run_folders


def _line(split, value, seen=0, **more):
  counts = {"real_images": 9, "captions": 18, "images_trained_on": seen, "metrics": "all"}
  return run_folders.score_line(split=split, value=value, **counts | more)


@pytest.fixture
def card_of(tmp_path):
  """Lines of scores -> the page about their run's model, of step 40."""

  def write(*lines):
    workdir = run_folders.make_run(tmp_path / "run", scores=lines)
    config = config_lib.Config(mode="export", workdir=workdir)
    words = word2vec.WordVectors(("red",), np.eye(1, dtype=np.float32))
    return export._card(model_folder.Model(config, 40, {}, words))

  return write


def test_scores_of_images_that_were_trained_on_say_so(card_of):
  card = card_of(_line("train", 2.0, seen=9))
  assert "on the split `train`" in card and "| 2 [1, 3] |" in card
  assert scores.SEEN in card.splitlines() and distances.OF_REAL in card.splitlines()


def test_scores_of_images_that_were_not_trained_on_come_first(card_of):
  card = card_of(
    _line("test", 9.0), _line("unseen", 8.0), _line("train", 2.0, seen=9), _line("all", 3.0, seen=4)
  )
  assert "on the split `unseen`" in card and "| 8 [7, 9] |" in card
  assert scores.SEEN not in card


def test_attributes_scored_later_do_not_hide_the_other_scores(card_of):
  attributes = {"frechet_classifier": None, "metrics": "attributes"}
  lines = _line("test", 9.0), _line("test", 8.0, **attributes), _line("test", 7.0, step=39)
  assert "| 9 [8, 10] |" in card_of(*lines)
