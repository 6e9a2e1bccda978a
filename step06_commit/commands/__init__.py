"""The commands beside `run`, a file for each feature: what the user types, and what is printed."""

from .image import app as image_commands
from .volume import app as volume_commands

FEATURES = [
    image_commands,
    volume_commands,
]
