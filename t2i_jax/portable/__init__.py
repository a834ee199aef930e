"""A model that draws without this package: serialised programs, and a script that runs them."""
