"""A page that draws a caption while it is typed: drawing.py draws, words.py says what of a text the
model can read, server.py answers requests, limits.py says which."""
