"""The commands beside `run`, a file for each feature: what the user types, and what is printed."""

from . import containers as containers
from . import exec as exec
from . import image as image
from . import inspect as inspect
from . import network as network
from . import volume as volume
