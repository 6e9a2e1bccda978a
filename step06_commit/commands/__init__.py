"""The commands beside `run`, a file for each feature: what the user types, and what is printed."""

from . import image, volume

FEATURES = [image.app, volume.app]
