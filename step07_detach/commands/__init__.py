"""All commands except `run`, one file for each feature: their arguments, and what they print."""

from . import containers as containers
from . import image as image
from . import volume as volume
