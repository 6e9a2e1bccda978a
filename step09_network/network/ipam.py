"""IP address management (IPAM): which address is whose. The leases are in `networks/ipam.json`.

The book keeps a string of one character for each address: 2²⁴ zeros for a /8. Only the addresses that are taken need
to be written down.
"""

from ipaddress import IPv4Address, IPv4Network

from ..lib import store
from ..lib.errors import ContainerError

Leases = dict[str, str]  # an address: the container that has it


class IPAM:
    """The book's allocator. Who calls it holds the lock of `networks`."""

    def __init__(self) -> None:
        self.file = store.folder("networks") / "ipam.json"
        self.leases: dict[str, Leases] = store.read_json(self.file)  # by subnet

    def allocate(self, subnet: IPv4Network, gateway: str, container: str, wanted: str = "") -> str:
        """The lowest free address, or the one that is wanted. The network's own, its broadcast and gateway are none.

        A lease ends with its container. Raises ContainerError if there is no free one, or it is not to be had.
        """
        alive = {
            ip: owner
            for ip, owner in self.leases.get(str(subnet), {}).items()
            if store.is_held(store.folder("containers") / owner)
        }
        taken = {IPv4Address(ip) for ip in (*alive, gateway)} | {subnet.network_address, subnet.broadcast_address}
        address = check(wanted, subnet, taken, alive) if wanted else subnet.network_address
        while address in taken:
            address += 1
        if address not in subnet:
            raise ContainerError(f"no address is left in {subnet}: its {len(alive)} are all taken")
        self.leases[str(subnet)] = alive | {str(address): container}
        store.write_json(self.file, self.leases)
        return str(address)

    def release(self, subnet: IPv4Network, ip: str) -> None:
        """Give an address back."""
        self.leases.get(str(subnet), {}).pop(ip, None)
        self.leases = {subnet: leases for subnet, leases in self.leases.items() if leases}
        store.write_json(self.file, self.leases)


def check(wanted: str, subnet: IPv4Network, taken: set[IPv4Address], alive: Leases) -> IPv4Address:
    """The address that a user asks for. Raises ContainerError if he cannot have it."""
    try:
        address = IPv4Address(wanted)
    except ValueError:
        raise ContainerError(f"--ip {wanted!r}: an IPv4 address such as {subnet.network_address + 10}") from None
    if address not in subnet:
        raise ContainerError(f"--ip {wanted}: the network is {subnet}, so an address in that")
    if address in taken:
        owner = f"container {alive[wanted]} has it" if wanted in alive else "it is the network's own"
        raise ContainerError(f"--ip {wanted}: {owner}; take another, or leave --ip out")
    return address


def parse_subnet(text: str) -> IPv4Network:
    """A subnet as a user writes it. Raises ContainerError if it is none, or not one that containers fit in."""
    try:
        subnet = IPv4Network(text, strict=False)
    except ValueError:
        raise ContainerError(f"--subnet {text!r}: an IPv4 subnet such as 172.20.0.0/16") from None
    if "/" not in text or not 8 <= subnet.prefixlen <= 30:
        raise ContainerError(f"--subnet {text!r}: with the length of its prefix, from /8 to /30")
    if not text.startswith(f"{subnet.network_address}/"):
        raise ContainerError(f"--subnet {text!r}: that is an address in a subnet; the subnet is {subnet}")
    return subnet


def free_subnet(used: list[IPv4Network]) -> IPv4Network:
    """A subnet that overlaps with nothing that is used, from the ranges for private networks (RFC 1918)."""
    ranges = [("172.16.0.0/12", 16), ("192.168.0.0/16", 20), ("10.0.0.0/8", 16)]
    for block, length in ranges:
        for subnet in IPv4Network(block).subnets(new_prefix=length):
            if not any(subnet.overlaps(other) for other in used):
                return subnet
    raise ContainerError("every private subnet overlaps with a route of this machine: give a free one with --subnet")
