"""What each verb does, as `gan-experiments VERB` has it."""
