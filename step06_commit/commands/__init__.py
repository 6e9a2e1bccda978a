"""The commands beside `run`, a file for each feature: what the user types, and what is printed."""

from . import image as image
from . import volume as volume
