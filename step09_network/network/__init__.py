"""Networks, to which containers are connected. This file keeps the records; `bridge.py` changes the kernel.

Every change is made under the lock of `networks` in the store: first on record, then in the kernel. So whatever a
killed command has left is on record. The next command removes the addresses, cables and ports of each container whose
lock no process holds any more.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from ..lib import linux, store
from ..lib.errors import ContainerError
from . import files, model
from .ipam import allocate, free_subnet, hosts_in_use, parse_subnet
from .model import DEFAULT, MODES, Endpoint, Namespace, Network, NetworkDriver, PortMapping, mac_of

if TYPE_CHECKING:
    from ..config import Config


def driver(kind: str) -> NetworkDriver:
    """Return the driver of this kind. To add a driver, write a module beside bridge.py, and add a line here.

    Raises ContainerError if there is no such driver.
    """
    from . import bridge  # only now: most commands need no driver

    drivers: dict[str, NetworkDriver] = {"bridge": bridge}
    if kind not in drivers:
        raise ContainerError(f"--driver {kind!r}: no such driver; there is {', '.join(drivers)}")
    return drivers[kind]


def create(name: str, subnet: str = "", kind: str = "bridge") -> Network:
    """Make a network. Raises ContainerError if its name is taken, or its subnet overlaps with anything."""
    if not model.NAME.fullmatch(name) or name in MODES:
        raise ContainerError(
            f"network {name!r}: use letters, digits, _ . -; begin with a letter or digit; not none or host"
        )
    maker = driver(kind)
    with linux.locked(store.folder("networks")):
        if model.load(name):
            raise ContainerError(f"network {name}: there is one with this name; choose another")
        others = {network.name: network.addresses for network in model.every()}
        routes = maker.used_subnets()
        chosen = parse_subnet(subnet) if subnet else free_subnet([*others.values(), *routes, *hosts_in_use()])
        for other, addresses in [*others.items(), *(("a route of this machine", route) for route in routes)]:
            if chosen.overlaps(addresses):
                raise ContainerError(f"--subnet {chosen}: overlaps with {addresses}, {other}; choose another")
        gateway = str(chosen.network_address + 1)
        network = Network(name, os.urandom(6).hex(), str(chosen), gateway, kind, time.time())
        network.save()
        try:
            maker.create(network)
        except BaseException:
            with suppress(ContainerError, OSError):  # the first error is enough
                maker.delete(network)
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
        driver(network.driver).delete(network)
        model.path(network.name).unlink()


def sweep(network: Network) -> None:
    """Remove the endpoints of dead containers. The caller holds the lock of `networks`."""
    for container in [*network.endpoints]:
        if not store.is_held(store.folder("containers") / container):
            detach(network, container)


@contextmanager
def connected(container_name: str, config: "Config", namespace: Namespace) -> Iterator[None]:
    """Connect a new container to its networks, and disconnect it at the end."""
    try:
        for name in config.networks:
            if name not in MODES:
                connect(name, config.id, container_name, namespace, config.ip if name == config.network else "")
        yield
    finally:
        release(config.id)


def get(name: str) -> Network:
    """Return a network by its name or id. Make the default one at its first use. Raises ContainerError if not found."""
    if name == DEFAULT and model.load(DEFAULT) is None:
        try:
            create(DEFAULT)
        except ContainerError:
            if model.load(DEFAULT) is None:  # else another command was faster
                raise
    return model.get(name)


def connect(network_name: str, container: str, container_name: str, namespace: Namespace, ip: str = "") -> None:
    """Connect a container, given by its id, its name and its network namespace, to a network."""
    maker = driver(get(network_name).driver)  # import it before others have to wait for our lock
    with linux.locked(store.folder("networks")):
        network = model.get(network_name)
        sweep(network)
        if container in network.endpoints:
            raise ContainerError(f"{container_name}: it is on {network_name} already")
        address, interface = allocate(network, ip), free_interface(container)
        id, mac = os.urandom(6).hex(), mac_of(address)
        endpoint = Endpoint(id, container, container_name, interface, address, mac, [])
        network.endpoints[container] = endpoint
        network.save()
        try:
            maker.create(network)  # whatever is missing of it; after a reboot: all
            maker.connect(network, endpoint, namespace)
            publish_ports(container)
        except BaseException:
            detach(model.get(network_name), container)
            raise
        update_hosts(network, container)


def free_interface(container: str) -> str:
    """Return the first of eth0, eth1 … that a container does not have."""
    taken = {network.endpoints[container].interface for network in networks_of(container)}
    return next(f"eth{number}" for number in count() if f"eth{number}" not in taken)


def detach(network: Network, container: str) -> None:
    """Disconnect a container from a network. The caller holds the lock of `networks`.

    Here the kernel comes first: if we are killed, the endpoint is still on record, and the next command finds it.
    """
    endpoint = network.endpoints.pop(container)
    driver(network.driver).disconnect(network, endpoint)
    network.save()
    update_hosts(network, container)


def disconnect(network_name: str, container: str, container_name: str) -> None:
    """Disconnect a container from one network."""
    with linux.locked(store.folder("networks")):
        network = model.get(network_name)
        if container not in network.endpoints:
            raise ContainerError(f"{container_name}: it is not on {network_name}")
        detach(network, container)
        publish_ports(container)


def publish_ports(container: str) -> None:
    """Lead a container's published ports to its first endpoint, as its answers leave by this one.

    The caller holds the lock of `networks`.
    """
    ports = files.ports_of(store.folder("containers") / container)
    networks = sorted(networks_of(container), key=lambda network: network.endpoints[container].number)
    for network in networks:
        endpoint = network.endpoints[container]
        wanted = ports if network is networks[0] else []
        if endpoint.ports != wanted:  # else another network would cut the UDP flows to these ports
            network.endpoints[container] = replace(endpoint, ports=wanted)
            network.save()
            driver(network.driver).publish(network, ports)


def published(container: str) -> list[PortMapping]:
    """Return the ports of the host that lead to a container."""
    return [port for network in networks_of(container) for port in network.endpoints[container].ports]


def release(container: str) -> None:
    """Disconnect a container that has ended from all its networks."""
    if networks_of(container):  # if there are none, do not wait for the lock
        with linux.locked(store.folder("networks")), ExitStack() as each:
            for network in networks_of(container):
                each.callback(detach, network, container)  # also if another one fails


def networks_of(container: str) -> list[Network]:
    """Return the networks that a container is connected to."""
    return [network for network in model.every() if container in network.endpoints]


def update_hosts(network: Network, container: str) -> None:
    """Write /etc/hosts of all containers on a network, and of the container that has come or gone."""
    networks = model.every()
    for member in {container} if network.name == DEFAULT else {*network.endpoints, container}:
        with suppress(OSError):  # it is just being removed
            known = [each for each in networks if member in each.endpoints]
            files.write_hosts(store.folder("containers") / member, known)


def allow_users() -> None:
    """Allow all users of a container what is for root alone by default: ports below 1024, and ping. ip(7)."""
    linux.write_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
    first, _, count = Path("/proc/self/gid_map").read_text().split()[-3:]  # a user namespace may have only one
    linux.write_file("/proc/sys/net/ipv4/ping_group_range", f"0 {min(int(first) + int(count), 2**31) - 1}")


def namespace_of(pid: int) -> Namespace:
    """Open the network namespace of a process."""
    return open(f"/proc/{pid}/ns/net", "rb")


def described(network: Network) -> dict[str, object]:
    """Return all that is known of a network, with Docker's names."""
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
