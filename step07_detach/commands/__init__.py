"""The commands beside `run`, a file for each feature: what the user types, and what is printed."""

from . import containers as containers
from . import image as image
from . import volume as volume
