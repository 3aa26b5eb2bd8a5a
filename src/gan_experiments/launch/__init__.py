"""From the command line to a verb's work; imports no torch."""
