"""GAN-INT-CLS in a toy run."""

import pytest

from t2i_jax.training import frozen


@pytest.mark.slow
def test_gan_int_cls_learns_from_images_between_captions(command, tmp_path, monkeypatch):
  monkeypatch.setattr(frozen, "_BATCH", 8)
  command(
    "--text=reader", "--reader=gru", "--reader_eyes=own", "--reader_steps=2", "--reader_dim=8",
    "--prefixes=one", "--discriminator=concatenated", "--mismatched=one", "--recurrence=none",
    "--euclid_target=none", "--share_gnn", "--real_pairing=corresponding", "--batch_size=8",
    "--interpolation_weight=0.5", "--steps=2", f"--workdir={tmp_path}/a",
  )  # fmt: skip
  assert command.status == 0, command.err
  line = command.json
  # Before anything is learnt all logits are near 0: 1 + 1/2 + 1/2 cross-entropies of log 2 for the
  # discriminator, 1 + 1/2 for the generator.
  assert line["d_loss"] == pytest.approx(2 * 0.6931, abs=0.1)
  assert line["g_loss"] == pytest.approx(1.5 * 0.6931, abs=0.1)
