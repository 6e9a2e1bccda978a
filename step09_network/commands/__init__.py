"""All commands except `run`, one file for each feature: their arguments, and what they print."""

from . import containers as containers
from . import exec as exec
from . import image as image
from . import inspect as inspect
from . import network as network
from . import volume as volume
