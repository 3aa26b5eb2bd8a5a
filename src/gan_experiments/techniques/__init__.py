"""Additions to the training of the models that derive from `models/game.py`, as in `technique=[r1,lecam]`."""
