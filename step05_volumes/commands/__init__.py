"""The commands beside `run`, a file for each feature: what the user types, and what is printed."""

from . import volume as volume
