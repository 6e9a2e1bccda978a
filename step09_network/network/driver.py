"""What a network can be made of: the book's NetworkDriver. A second one would be a module beside bridge.py, and a line
in DRIVERS.
"""

from typing import Protocol

from ..lib.errors import ContainerError
from .model import Endpoint, Namespace, Network


class NetworkDriver(Protocol):
    """What a driver does in the kernel. What is on record is not its business."""

    name: str

    def create(self, network: Network) -> None:
        """Make the network, or what is missing of it: after a reboot all is."""

    def delete(self, network: Network) -> None:
        """Take it away; what is gone already is no error."""

    def connect(self, network: Network, endpoint: Endpoint, namespace: Namespace) -> None:
        """Connect a network namespace."""

    def disconnect(self, network: Network, endpoint: Endpoint) -> None:
        """Take an endpoint away; what is gone already is no error."""


def get(name: str) -> NetworkDriver:
    """A driver by its name. Raises ContainerError if there is none."""
    from .bridge import Bridge  # and with it pyroute2, which takes longer to load than all the rest: only if needed

    drivers: dict[str, NetworkDriver] = {"bridge": Bridge()}
    if name not in drivers:
        raise ContainerError(f"--driver {name!r}: there is {', '.join(drivers)}")
    return drivers[name]
