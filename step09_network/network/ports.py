"""Published ports: -p [IP:]HOST:CONTAINER[/tcp|udp], where HOST and CONTAINER may be ranges."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from ..lib import store
from ..lib.errors import ContainerError
from . import model
from .model import PortMapping

RANGE = re.compile(r"\d{1,5}(-\d{1,5})?", re.ASCII)
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def parse(texts: list[str]) -> list[PortMapping]:
    """Parse the options -p. Port 0 of the host means any free one. Raises ContainerError if an option is wrong."""
    return [mapping for text in texts for mapping in parse_one(text)]


def parse_one(text: str) -> list[PortMapping]:
    """Parse one option -p. It gives one mapping, or several if it has ranges."""
    rest, _, protocol = text.partition("/")
    *address, host, container = ["", *rest.split(":")] if ":" not in rest else rest.split(":")
    if protocol not in ("", *KINDS):
        raise ContainerError(f"-p {text!r}: the protocol is tcp or udp, not {protocol!r}")
    if len(address) > 1 or not all(RANGE.fullmatch(ports) for ports in (host or "0", container)):
        raise ContainerError(f"-p {text!r}: use [IP:]HOST:CONTAINER[/tcp|udp], such as 8080:80; HOST is optional")
    inside = numbers(container)
    outside = numbers(host) if host not in ("", "0") else [0] * len(inside)
    if not inside or len(outside) != len(inside):
        raise ContainerError(f"-p {text!r}: use ranges of the same length, such as 8001-8003:80-82")
    if not (min(inside) >= 1 and max(*inside, *outside) <= 65535) or (0 in outside and any(outside)):
        raise ContainerError(f"-p {text!r}: ports are from 1 to 65535")
    try:
        ip = str(IPv4Address(address[0])) if address and address[0] else "0.0.0.0"
    except ValueError:
        raise ContainerError(f"-p {text!r}: {address[0]!r} is not an IPv4 address of this machine") from None
    return [PortMapping(ip, *pair, protocol or "tcp") for pair in zip(outside, inside, strict=True)]


def numbers(text: str) -> list[int]:
    """Return the ports of a range: 80-82 are three."""
    first, _, last = text.partition("-")
    return [*range(int(first), int(last or first) + 1)]


@contextmanager
def reserved(wanted: list[PortMapping]) -> Iterator[dict[PortMapping, socket.socket]]:
    """Bind ports of the host. Yields a socket for each mapping; in the mapping, port 0 is now the port that was free.

    The kernel frees the ports when our last descriptor is closed.
    """
    found: dict[PortMapping, socket.socket] = {}
    with ExitStack() as sockets:
        for mapping in wanted:
            if any(map(mapping.clashes, found)):
                raise ContainerError(f"-p {mapping.host}:{mapping.container}: it is given twice")
            held = sockets.enter_context(socket.socket(socket.AF_INET, KINDS[mapping.protocol]))
            with refusal_explained(mapping):
                if mapping.protocol == "tcp":  # allow ports whose connections have just ended: TIME_WAIT, tcp(7)
                    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                held.bind((mapping.address, mapping.host))
            found[replace(mapping, host=held.getsockname()[1])] = held
        yield found


def keep(found: dict[PortMapping, socket.socket]) -> None:
    """Keep the ports from other programs. With SO_REUSEADDR sockets can share a port, unless one of them listens.

    Call this when the ports lead to the container, not before: nobody accepts here, so a client would wait for ever.
    """
    for mapping, held in found.items():
        if mapping.protocol == "tcp":
            with refusal_explained(mapping):
                held.listen()


@contextmanager
def refusal_explained(mapping: PortMapping) -> Iterator[None]:
    """Turn the kernel's refusal of a port into ContainerError."""
    try:
        yield
    except OSError as error:
        raise ContainerError(f"-p {mapping.host}:{mapping.container}: {refused(mapping, error)}") from None


def refused(mapping: PortMapping, error: OSError) -> str:
    """Return why a port is not available: who has it."""
    place = f"port {mapping.host}/{mapping.protocol} of {mapping.address}"
    for network in model.every():
        for endpoint in network.endpoints.values():
            if any(map(mapping.clashes, endpoint.ports)) and store.is_held(
                store.folder("containers") / endpoint.container
            ):
                return f"{place} is published by container {endpoint.name}"
    return f"{place}: {error.strerror}{holder(mapping)}"


def holder(mapping: PortMapping) -> str:
    """Return who has a port: its socket's inode is in /proc/net/tcp and, as a link, in /proc/PID/fd. proc(5)."""
    inodes = set()
    for table in (mapping.protocol, f"{mapping.protocol}6"):
        with suppress(OSError):
            for fields in (line.split() for line in Path("/proc/net", table).read_text().splitlines()[1:]):
                if int(fields[1].rpartition(":")[2], 16) == mapping.host:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir()):
                return f": {(process / 'comm').read_text().strip()} (process {process.name}) has it"
    return ""
