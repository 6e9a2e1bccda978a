"""The commands beside `run`, a file for each feature: what the user types, and what is printed."""

from .volume import app as volume_commands

FEATURES = [
    volume_commands,
]
