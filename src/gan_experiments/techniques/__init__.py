"""What can be added to the game of `models/noise_to_image.py`, whichever variant plays it: `technique=[r1,lecam]`."""
