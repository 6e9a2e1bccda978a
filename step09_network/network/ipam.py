"""IP address management (IPAM): which container has which address.

The book keeps a string of one character for each address: 2²⁴ zeros for a /8. Here we keep no such list. Each endpoint
has an address, and an address that no endpoint has is free. So there are no two records that could disagree.
"""

import os
import re
import sys
from ipaddress import IPv4Address, IPv4Network

from ..lib.errors import ContainerError
from ..lib.linux import read_file
from .files import RESOLVED
from .model import Network


def allocate(network: Network, wanted: str = "") -> str:
    """Return the lowest free address, or the one that is `wanted`. The caller holds the lock of `networks`.

    Raises ContainerError if no address is left, or the wanted one is not available.
    """
    subnet = network.addresses
    own = (subnet.network_address, IPv4Address(network.gateway), subnet.broadcast_address)
    taken = dict.fromkeys(own, "it is the network's own")
    taken |= {IPv4Address(each.ip): f"container {each.name} has it" for each in network.endpoints.values()}
    if wanted:
        return check(wanted, subnet, taken)
    for address in subnet.hosts():
        if address not in taken:
            return str(address)
    raise ContainerError(f"no address is left in {subnet}: its {len(network.endpoints)} are all taken")


def check(wanted: str, subnet: IPv4Network, taken: dict[IPv4Address, str]) -> str:
    """Return the address that a user asks for. Raises ContainerError if it is not available; `taken` says why."""
    try:
        address = IPv4Address(wanted)
    except ValueError:
        raise ContainerError(f"--ip {wanted!r}: use an IPv4 address such as {subnet.network_address + 10}") from None
    if address not in subnet:
        raise ContainerError(f"--ip {wanted}: use an address inside the network's subnet, {subnet}")
    if address in taken:
        raise ContainerError(f"--ip {wanted}: {taken[address]}; take another, or leave --ip out")
    return str(address)


def parse_subnet(text: str) -> IPv4Network:
    """Parse a subnet as a user writes it. Raises ContainerError if it is wrong, or has not the right size."""
    try:
        subnet = IPv4Network(text, strict=False)
    except ValueError:
        raise ContainerError(f"--subnet {text!r}: use an IPv4 subnet such as 172.20.0.0/16") from None
    if not 8 <= subnet.prefixlen <= 30:
        raise ContainerError(f"--subnet {text!r}: write the length of its prefix, from /8 to /30")
    if not text.startswith(f"{subnet.network_address}/"):
        raise ContainerError(f"--subnet {text!r}: this is an address in a subnet; the subnet is {subnet}")
    return subnet


def hosts_in_use() -> list[IPv4Network]:
    """Return hosts that this machine talks to, by whatever route. A network with their addresses would cut them off.

    These are name servers, hosts in /etc/hosts, file servers, proxies, and the other ends of connections: proc(5).
    """
    texts = [read_file(path) for path in ("/etc/resolv.conf", RESOLVED, "/etc/hosts", "/proc/mounts")]
    texts += [value for name, value in os.environ.items() if name.lower().endswith("_proxy")]
    written = re.findall(r"\b(?:\d{1,3}\.){3}\d{1,3}\b", "\n".join(texts))
    found = {tuple(map(int, host.split("."))) for host in written}
    for table in ("tcp", "udp", "tcp6", "udp6"):
        for line in read_file(f"/proc/net/{table}").splitlines()[1:]:
            address = line.split()[2].partition(":")[0].removeprefix("0000000000000000FFFF0000")  # IPv4 inside IPv6
            if len(address) == 8:
                found.add(tuple(int(address, 16).to_bytes(4, sys.byteorder)))
    return [IPv4Network(bytes(host)) for host in found if max(host) < 256]


def free_subnet(used: list[IPv4Network]) -> IPv4Network:
    """Return a subnet that overlaps with none in `used`, from the ranges for private networks (RFC 1918)."""
    ranges = [("172.16.0.0/12", 16), ("192.168.0.0/16", 20), ("10.0.0.0/8", 16)]
    for block, length in ranges:
        for subnet in IPv4Network(block).subnets(new_prefix=length):
            if not any(subnet.overlaps(other) for other in used):
                return subnet
    raise ContainerError("every private subnet overlaps with a route of this machine: give a free one with --subnet")
