"""The verbs of `gan-experiments VERB`, one file each.

The function of a verb takes its config and returns the exit status. It raises ConfigError for a mistake of the user's.
"""
