"""The book's types: a network, its endpoints (containers' places on it), and the driver that makes them in the kernel.

A network is kept with its endpoints as JSON in `networks/`.
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
DEFAULT = "bridge"  # as in Docker: made at its first use, and without names
MODES = ("none", "host")  # what --network takes beside networks
Namespace = BinaryIO  # the open file /proc/PID/ns/net, which keeps the namespace even when the process dies


@dataclass(frozen=True)
class PortMapping:
    """A port of the host's (on one of its addresses, or on all: 0.0.0.0) that leads to a port of a container's."""

    address: str
    host: int
    container: int
    protocol: str  # tcp or udp

    def __str__(self) -> str:
        return f"{self.address}:{self.host}->{self.container}/{self.protocol}"

    def clashes(self, other: "PortMapping") -> bool:
        """Whether both want the same port of the host's."""
        same = (self.host, self.protocol) == (other.host, other.protocol)
        return same and (self.address == other.address or "0.0.0.0" in (self.address, other.address))


@dataclass(frozen=True)
class Endpoint:
    """A container's place on a network. It is also the lease of its address: no other record has that."""

    id: str
    container: str
    name: str  # the container's
    interface: str  # inside: eth0
    ip: str
    mac: str
    ports: list[PortMapping]

    @property
    def number(self) -> int:
        """Of the interface. By the one with the lowest the container sends what leaves its networks."""
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
        """The subnet, to be calculated with."""
        return IPv4Network(self.subnet)

    def on_link(self, ip: str) -> IPv4Interface:
        """An address with the length of the subnet's prefix: 172.18.0.2/16."""
        return IPv4Interface(f"{ip}/{self.addresses.prefixlen}")

    def save(self) -> None:
        """Write it to the store; the caller holds the lock of `networks`."""
        store.write_json(path(self.name), dataclasses.asdict(self))


class NetworkDriver(Protocol):
    """What a driver does in the kernel: a module with these functions. It leaves what is on record alone."""

    def used_subnets(self) -> list[IPv4Network]:
        """What a new network of this kind must not overlap with."""

    def create(self, network: Network) -> None:
        """Make the network, or what is missing of it: after a reboot all is."""

    def delete(self, network: Network) -> None:
        """Take it away; what is gone already is no error."""

    def connect(self, network: Network, endpoint: Endpoint, namespace: Namespace) -> None:
        """Connect a network namespace to a network that has been made."""

    def disconnect(self, network: Network, endpoint: Endpoint) -> None:
        """Take away an endpoint that the network has no more; what is gone already is no error."""

    def publish(self, network: Network, changed: list[PortMapping]) -> None:
        """Have ports lead to the network's endpoints as they do now; these are new or withdrawn."""


def mac_of(ip: str) -> str:
    """The Ethernet address that goes with an address: who has the one next has the other, too, and ARP stays right."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *IPv4Address(ip).packed))


def path(name: str) -> Path:
    """Where a network is kept."""
    return store.folder("networks") / f"{name}.network.json"


def load(name: str) -> Network | None:
    """A network by its name, None if there is none."""
    facts = store.read_json(path(name)) if NAME.fullmatch(name) else {}
    if not facts:
        return None
    endpoints = {
        container: Endpoint(**values | {"ports": [PortMapping(**port) for port in values["ports"]]})
        for container, values in facts.pop("endpoints").items()
    }
    return Network(**facts, endpoints=endpoints)


def get(reference: str) -> Network:
    """A network by its name, its id or the beginning of that. Raises ContainerError if there is none."""
    if network := load(reference):
        return network
    by_id = {network.id: network for network in every()}
    if reference and (id := store.only_one(reference, [*by_id], "networks")):
        return by_id[id]
    there = ", ".join(network.name for network in by_id.values()) or "none"
    raise NotFoundError(f"{reference!r}: no such network; there are: {there}; `network create` makes one")


def every() -> list[Network]:
    """All networks, by name."""
    names = sorted(file.name.removesuffix(".network.json") for file in path("x").parent.glob("*.network.json"))
    return [network for network in map(load, names) if network]
