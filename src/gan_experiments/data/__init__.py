"""Data modules, one shape of batches a file, and how their images are found, decoded and cached."""
