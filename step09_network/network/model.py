"""The book's types: a network, its endpoints (containers' places on it), and the driver that makes them in the kernel.

A network and its endpoints are kept together, as JSON in `networks/`.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import BinaryIO, Protocol

from ..lib import store
from ..lib.errors import NotFoundError

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", re.ASCII)
DEFAULT = "bridge"  # as in Docker: made at its first use; its containers do not know each other's names
MODES = ("none", "host")  # what --network allows besides the names of networks
Namespace = BinaryIO  # the open file /proc/PID/ns/net, which keeps the namespace even when the process dies


@dataclass(frozen=True)
class PortMapping:
    """A port of the host (on one of its addresses, or on all: 0.0.0.0) that leads to a port of a container."""

    address: str
    host: int
    container: int
    protocol: str  # tcp or udp

    def __str__(self) -> str:
        return f"{self.address}:{self.host}->{self.container}/{self.protocol}"

    def clashes(self, other: "PortMapping") -> bool:
        """Return whether both want the same port of the host."""
        same = (self.host, self.protocol) == (other.host, other.protocol)
        return same and (self.address == other.address or "0.0.0.0" in (self.address, other.address))


@dataclass(frozen=True)
class Endpoint:
    """A container's place on a network. It is also the lease of the address: there is no other record of it."""

    id: str
    container: str
    name: str  # the container's
    interface: str  # its name in the container: eth0
    ip: str
    mac: str
    ports: list[PortMapping]

    @property
    def number(self) -> int:
        """The interface's number. A container uses its lowest one for all that leaves its networks."""
        return int(self.interface.removeprefix("eth"))


@dataclass
class Network:
    """A subnet that containers share, and who is on it."""

    name: str
    id: str
    subnet: str
    gateway: str
    driver: str
    created: float  # seconds since 1970
    endpoints: dict[str, Endpoint] = field(default_factory=dict)  # by container

    @property
    def addresses(self) -> IPv4Network:
        """The subnet, as an object for calculations."""
        return IPv4Network(self.subnet)

    def on_link(self, ip: str) -> IPv4Interface:
        """Return an address with the length of the subnet's prefix: 172.18.0.2/16."""
        return IPv4Interface(f"{ip}/{self.addresses.prefixlen}")

    def save(self) -> None:
        """Write the network to the store. The caller holds the lock of `networks`."""
        store.write_json(path(self.name), dataclasses.asdict(self))


class NetworkDriver(Protocol):
    """A driver: a module with these functions. It makes changes in the kernel, and none in the records."""

    def used_subnets(self) -> list[IPv4Network]:
        """Return the subnets that a new network of this kind must not overlap with."""

    def create(self, network: Network) -> None:
        """Make the network, or what is missing of it: after a reboot, all is missing."""

    def delete(self, network: Network) -> None:
        """Remove the network. It is no error if it is gone already."""

    def connect(self, network: Network, endpoint: Endpoint, namespace: Namespace) -> None:
        """Connect a network namespace to a network that has been made."""

    def disconnect(self, network: Network, endpoint: Endpoint) -> None:
        """Remove an endpoint that the network no longer has. It is no error if it is gone already."""

    def publish(self, network: Network, changed: list[PortMapping]) -> None:
        """Lead ports to the network's endpoints as these are now. `changed` ports are new or no longer published."""


def mac_of(ip: str) -> str:
    """Return the Ethernet address for an IP address. The next user of the IP has the same one, so ARP stays right."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *IPv4Address(ip).packed))


def path(name: str) -> Path:
    """Return the file of a network."""
    return store.folder("networks") / f"{name}.network.json"


def load(name: str) -> Network | None:
    """Return the network with this name, or None."""
    facts = store.read_json(path(name)) if NAME.fullmatch(name) else {}
    if not facts:
        return None
    endpoints = {
        container: Endpoint(**values | {"ports": [PortMapping(**port) for port in values["ports"]]})
        for container, values in facts.pop("endpoints").items()
    }
    return Network(**facts, endpoints=endpoints)


def get(reference: str) -> Network:
    """Return a network, given its name, its id or the beginning of its id. Raises ContainerError if not found."""
    if network := load(reference):
        return network
    by_id = {network.id: network for network in every()}
    if reference and (id := store.only_one(reference, [*by_id], "networks")):
        return by_id[id]
    there = ", ".join(network.name for network in by_id.values()) or "none"
    raise NotFoundError(f"{reference!r}: no such network; there are: {there}; `network create` makes one")


def every() -> list[Network]:
    """Return all networks, in the order of their names."""
    names = sorted(file.name.removesuffix(".network.json") for file in path("x").parent.glob("*.network.json"))
    return [network for network in map(load, names) if network]
