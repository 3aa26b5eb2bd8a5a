"""The verbs of `gan-experiments VERB`, one file each."""
