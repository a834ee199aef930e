"""The recurrences that join a caption's words, by the values of --recurrence but `none`.

A recurrence is a linen module `(maps [n h w c], packed) -> maps [n h w c]` that reads each
caption's words left to right. `model.build` sets its attributes.
"""

from t2i_jax.nets.recurrences import convlstm, lstm

RECURRENCES = {
  "convlstm": convlstm.Recurrence,
  "lstm": lstm.PlainRecurrence,
}
