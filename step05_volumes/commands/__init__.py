"""All commands except `run`, one file for each feature: their arguments, and what they print."""

from . import volume as volume
