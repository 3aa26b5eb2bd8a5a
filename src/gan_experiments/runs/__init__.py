"""A run on disk: its folder, its checkpoints, its config and the words of its command line."""
