"""Generators and discriminators, by architecture."""
