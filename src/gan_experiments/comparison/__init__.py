"""Comparison of runs: reading of folders, grouping of seeds, tables, curves and sheets. Nothing here imports torch."""
