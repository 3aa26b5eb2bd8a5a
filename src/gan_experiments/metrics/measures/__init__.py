"""The scores, a class each: a file that is put here needs nothing else to be known."""
