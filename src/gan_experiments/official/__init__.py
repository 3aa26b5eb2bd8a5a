"""Networks that other people's code has trained and saved, read into ours."""
