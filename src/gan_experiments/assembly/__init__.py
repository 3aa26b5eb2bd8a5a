"""From a config to objects: checks of configs, the parts of a training, and trained models opened again."""
