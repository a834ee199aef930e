"""The recurrences that join a caption's words, by the values of --recurrence but `none`.

A recurrence is a linen module `(maps [n h w c], packed) -> maps [n h w c]` that reads each
caption's words left to right: `packing.spread` gives them as [t b h w c], `packing.collect` packs
them again. It has parameters only, no batch statistics. `model.build` sets its attributes: the
settings of the same names, `dtype` and `axes`, and `kernel_size` and `unroll`, which are those of
--recurrence_kernel_size and --recurrence_unroll. What follows it with
--recurrence_position=last_plus_deconv is in `head`.
"""

from t2i_jax.nets.recurrences import convlstm, lstm

RECURRENCES = {
  "convlstm": convlstm.Recurrence,
  "lstm": lstm.Recurrence,
}
