"""The HTTP service of trained models: `gan-experiments serve`."""
