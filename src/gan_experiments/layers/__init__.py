"""Layers and weight initialisations."""
