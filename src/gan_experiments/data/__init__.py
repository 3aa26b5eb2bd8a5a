"""Batches of images, one batch shape per file."""
