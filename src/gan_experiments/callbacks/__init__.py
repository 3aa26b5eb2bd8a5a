"""Callbacks around the training: sheets, scores, checkpoints, progress, health."""
