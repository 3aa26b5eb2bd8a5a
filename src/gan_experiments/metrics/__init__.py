"""One feature pass, many scores."""
