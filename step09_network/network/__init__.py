"""Networks: what containers are connected to. Here is what the commands do; `bridge.py` does it in the kernel.

Every change happens under the lock of `networks` in the store, in this order: first on record, then in the kernel. So
whatever a killed command has left can be found on record, and is taken away by the next: whose container is not held
by anybody any more has no use for its address, cable and ports.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..lib import linux, store
from ..lib.errors import ContainerError
from . import driver, files, model
from .ipam import IPAM, free_subnet, parse_subnet
from .model import DEFAULT, MODES, Endpoint, Namespace, Network, PortMapping

if TYPE_CHECKING:
    from ..config import Config


def create(name: str, subnet: str = "", kind: str = "bridge") -> Network:
    """Make a network. Raises ContainerError if its name is taken, or its subnet overlaps with anything."""
    if not model.NAME.fullmatch(name) or name in MODES:
        raise ContainerError(
            f"network {name!r}: letters, digits, _ . and -, the first a letter or digit; not none, host"
        )
    found = driver.get(kind)
    from .bridge import used_subnets

    with linux.locked(store.folder("networks")):
        if model.load(name):
            raise ContainerError(f"network {name}: there is one of this name")
        others = {network.name: network.addresses for network in model.every()}
        routes = used_subnets()
        chosen = parse_subnet(subnet) if subnet else free_subnet([*others.values(), *routes])
        for other, addresses in [*others.items(), *(("a route of this machine", route) for route in routes)]:
            if chosen.overlaps(addresses):
                raise ContainerError(f"--subnet {chosen}: overlaps with {addresses}, {other}")
        gateway = str(chosen.network_address + 1)
        network = Network(name, os.urandom(6).hex(), str(chosen), gateway, kind, time.time())
        network.save()
        try:
            found.create(network)
        except BaseException:
            found.delete(network)
            model.path(name).unlink()
            raise
        return network


def remove(name: str) -> None:
    """Remove a network. Raises ContainerError if containers are on it."""
    with linux.locked(store.folder("networks")):
        network = model.get(name)
        sweep(network)
        if network.endpoints:
            there = ", ".join(endpoint.name for endpoint in network.endpoints.values())
            raise ContainerError(f"{name}: containers are on it: {there}; stop or disconnect them first")
        driver.get(network.driver).delete(network)
        model.path(network.name).unlink()
        if not model.every():
            from .bridge import forward_no_more

            forward_no_more()


def sweep(network: Network) -> None:
    """Take away what containers that are dead have left. The caller holds the lock of `networks`."""
    for container in [*network.endpoints]:
        if not store.is_held(store.folder("containers") / container):
            detach(network, container)


@contextmanager
def connected(name: str, config: "Config", namespace: Namespace, ports: list[PortMapping]) -> Iterator[None]:
    """Have a new container, called `name`, on its network as long as it runs."""
    mode = config.network
    if mode in MODES:
        yield
        return
    try:
        if mode == DEFAULT and model.load(DEFAULT) is None:
            try:
                create(DEFAULT)
            except ContainerError:
                if model.load(DEFAULT) is None:  # else somebody was faster
                    raise
        connect(mode, config.id, name, namespace, config.ip, ports)
        yield
    finally:
        release(config.id)


def connect(
    network_name: str,
    container: str,
    name: str,
    namespace: Namespace,
    ip: str = "",
    ports: list[PortMapping] | None = None,
) -> None:
    """Connect a container, given by its id, its name and its network namespace, to a network."""
    kind = driver.get(model.get(network_name).driver)  # loaded before anybody has to wait for our lock
    with linux.locked(store.folder("networks")):
        network = model.get(network_name)
        sweep(network)
        if container in network.endpoints:
            raise ContainerError(f"{name}: it is on {network_name} already")
        kind.create(network)  # what is missing of it: after a reboot all
        address = IPAM().allocate(network.addresses, network.gateway, container, ip)
        id = os.urandom(6).hex()
        mac = ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *map(int, address.split("."))))
        taken = {other.endpoints[container].interface for other in networks_of(container)}
        interface = next(name for name in (f"eth{number}" for number in range(len(taken) + 1)) if name not in taken)
        network.endpoints[container] = Endpoint(
            id, container, name, interface, f"veth{id[:8]}", address, mac, ports or []
        )
        network.save()
        try:
            kind.connect(network, network.endpoints[container], namespace)
        except BaseException:
            detach(network, container)
            raise
        tell_names(network, container)


def detach(network: Network, container: str) -> None:
    """Take a container off a network. The caller holds the lock of `networks`."""
    endpoint = network.endpoints[container]
    driver.get(network.driver).disconnect(network, endpoint)
    IPAM().release(network.addresses, endpoint.ip)
    del network.endpoints[container]
    network.save()
    tell_names(network, container)


def disconnect(name: str, container: str, called: str) -> None:
    """Take a container off one network."""
    with linux.locked(store.folder("networks")):
        network = model.get(name)
        if container not in network.endpoints:
            raise ContainerError(f"{called}: it is not on {name}")
        detach(network, container)


def release(container: str) -> None:
    """Take a container off all its networks: it has ended."""
    if networks_of(container):  # without: no reason to wait for anybody
        with linux.locked(store.folder("networks")):
            for network in networks_of(container):
                detach(network, container)


def networks_of(container: str) -> list[Network]:
    """The networks that a container is on."""
    return [network for network in model.every() if container in network.endpoints]


def tell_names(network: Network, container: str) -> None:
    """Let all who are on a network, and the container that has come or gone, know who is there."""
    networks = model.every()
    for member in {container} if network.name == DEFAULT else {*network.endpoints, container}:
        with suppress(OSError):  # it is just going
            known = [each for each in networks if member in each.endpoints]
            files.write_hosts(store.folder("containers") / member, known)


@contextmanager
def namespace_of(pid: int) -> Iterator[Namespace]:
    """A process's network namespace, which the descriptor keeps even when the process dies."""
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        yield Namespace(fd, pid)
    finally:
        os.close(fd)


def described(network: Network) -> dict[str, object]:
    """All that is known of a network, under the names that Docker gives to these things."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(network.created)),
        "Driver": network.driver,
        "IPAM": {"Config": [{"Subnet": network.subnet, "Gateway": network.gateway}]},
        "Containers": {
            container: {
                "Name": endpoint.name,
                "EndpointID": endpoint.id,
                "MacAddress": endpoint.mac,
                "IPv4Address": str(network.on_link(endpoint.ip)),
            }
            for container, endpoint in network.endpoints.items()
        },
    }
