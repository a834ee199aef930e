"""The generators, by the values of --generator.

A generator is a linen module with `lower(words, train) -> maps [n h w c]` and
`upper(maps, words, train) -> images [n H W 3]`; the recurrence stands between the two. Its
`__call__(words, train)` is the one after the other, by which parameters are initialised.
`model.build` sets its attributes.
"""

from t2i_jax.nets.generators import dcgan, modulated

GENERATORS = {
  "dcgan": dcgan.Generator,
  "modulated": modulated.Generator,
}
