"""The scores, one class per file: a file in this folder is found without being registered anywhere."""
