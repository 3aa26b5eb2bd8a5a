"""Exported files of generators and translators: how they are made, compared with the run, described and opened."""
