"""From a config to what is trained or drawn from: checks, parts, runs that were trained."""
