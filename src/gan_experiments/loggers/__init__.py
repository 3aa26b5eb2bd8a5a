"""Loggers of a run's numbers and pictures; in all of them, `step` is the number of images seen."""
