"""The commands beside `run`, a file for each feature: what the user types, and what is printed."""

from . import containers, exec, image, volume

FEATURES = [containers.app, exec.app, image.app, volume.app]
