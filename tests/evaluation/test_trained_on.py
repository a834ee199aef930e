"""Which images count as trained on."""

from t2i_jax import config as config_lib
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.evaluation import panel


def test_images_held_out_were_not_trained_on(data_dir):
  shape = {"dataset": "synthetic", "synthetic_images": 60, "image_size": 16, "start_size": 4}
  config = config_lib.Config(
    mode="train", workdir="w", steps=1, data_dir=str(data_dir), hold_out=0.5, **shape
  )
  every = corpus_lib.load_training_examples(config)
  found = panel.trained_on(config)
  assert set(found.names) < set(every.names)
  assert len(found.names) == len(every.names) - round(0.5 * len(every.names))
