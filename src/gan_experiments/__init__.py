"""Generative adversarial networks as Lightning modules, composed by Hydra."""

__version__ = "0.1.0"
