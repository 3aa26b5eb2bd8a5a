"""Differentiable augmentation of real and generated images."""
