"""Adversarial losses, penalties and reconstruction losses: pure functions and small modules."""
