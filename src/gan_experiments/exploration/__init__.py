"""What a trained generator's latent space holds: a file for each choice of `what=` in the verb `explore`."""
