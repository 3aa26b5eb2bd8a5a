"""Where a run's numbers and pictures go; each takes `log_metrics(metrics, step)` with the images seen as the step."""
