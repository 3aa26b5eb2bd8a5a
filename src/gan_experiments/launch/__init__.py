"""From the command line to a verb's work. Nothing here imports torch."""
