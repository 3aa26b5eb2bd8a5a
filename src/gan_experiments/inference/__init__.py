"""What a trained model makes, for whoever asks: the verbs, Python, a service, exported files."""
