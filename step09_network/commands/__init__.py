"""The commands beside `run`, a file for each feature: what the user types, and what is printed."""

from . import containers, exec, image, inspect, network, volume

FEATURES = [containers.app, exec.app, image.app, inspect.app, network.app, volume.app]
