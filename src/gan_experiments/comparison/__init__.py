"""Runs side by side: their folders read, their seeds grouped, tables, curves and sheets. Nothing here imports torch."""
