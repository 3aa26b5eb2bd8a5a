"""Exploration of a trained generator's latent space: a file for each choice of `what=` in the verb `explore`."""
