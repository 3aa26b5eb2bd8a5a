"""What happens around the training: sheets, scores, checkpoints, progress."""
