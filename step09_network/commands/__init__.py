"""The commands beside `run`, a file for each feature: what the user types, and what is printed."""

from .containers import app as containers_commands
from .exec import app as exec_commands
from .image import app as image_commands
from .inspect import app as inspect_commands
from .network import app as network_commands
from .volume import app as volume_commands

FEATURES = [
    containers_commands,
    exec_commands,
    image_commands,
    inspect_commands,
    network_commands,
    volume_commands,
]
