"""Weights that other people's code has trained and saved, converted for our networks."""
