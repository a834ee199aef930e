"""t2i_jax: a caption becomes images, one for every word read so far."""

__version__ = "0.1.0"
