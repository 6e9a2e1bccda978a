"""rtnetlink(7): how a program asks the kernel for links, addresses and routes. ip(8) uses it, too.

A message has a header, a structure (for links, addresses or routes) and attributes. Attributes may hold attributes:

    length  type  flags  number  port │ struct ifinfomsg │ length IFLA_IFNAME "br-3f9c\\0" │ length IFLA_LINKINFO …

The kernel answers with an error number; 0 means "done". If we ask for a list, it sends many messages, then "done".
"""

import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface

from ..lib import explain, linux
from ..lib.errors import ContainerError, sentence
from ..lib.linux import CLONE
from .model import Namespace

# linux/netlink.h
NLM_F_REQUEST, NLM_F_ACK, NLM_F_REPLACE, NLM_F_EXCL, NLM_F_DUMP, NLM_F_CREATE = 0x1, 0x4, 0x100, 0x200, 0x300, 0x400
NLMSG_ERROR, NLMSG_DONE, NLA_F_NESTED = 2, 3, 0x8000
# linux/rtnetlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_GETROUTE = 20, 22, 24, 26
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY = 1, 4, 5, 6
RT_TABLE_MAIN, RTPROT_BOOT, RTN_UNICAST = 254, 3, 1
# linux/if_link.h, linux/if_addr.h, linux/veth.h
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_PROTINFO, IFLA_LINKINFO, IFLA_NET_NS_FD = 1, 3, 10, 12, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER, IFLA_BRPORT_MODE = 1, 2, 1, 4
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
IFF_UP = 1
HEADER, IFINFOMSG, RTMSG = struct.Struct("=IHHII"), struct.Struct("=BxHiII"), struct.Struct("=8BI")
NEW, NO_LINK = NLM_F_CREATE | NLM_F_EXCL, bytes(IFINFOMSG.size)
Attributes = dict[int, bytes]


def attribute(kind: int, value: bytes | str | int) -> bytes:
    """Return an attribute. Text ends with a zero byte, a number has 32 bits. The next one begins at a multiple of 4."""
    match value:
        case str():
            value = value.encode() + b"\0"
        case int():
            value = struct.pack("=I", value)
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *inside: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(inside))


def attributes(data: bytes) -> Attributes:
    """Return the attributes that a message holds, by their kind."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & ~NLA_F_NESTED] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def names(name: str, mac: str) -> bytes:
    """Return the attributes that give a link its name and its Ethernet address."""
    return attribute(IFLA_IFNAME, name) + attribute(IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))


class Netlink(socket.socket):
    """A netlink socket. It always belongs to the network namespace in which it was made."""

    def __init__(self, namespace: Namespace | None = None, protocol: int = socket.NETLINK_ROUTE) -> None:
        self.told = f"nsenter --net={namespace.name} ip" if namespace else "ip"
        if namespace is None:
            super().__init__(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
            return
        with open("/proc/self/ns/net", "rb") as home:
            try:
                linux.setns(namespace.fileno(), CLONE.CLONE_NEWNET)
                super().__init__(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
            finally:
                linux.setns(home.fileno(), CLONE.CLONE_NEWNET)

    def ask(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        """Send a message. Yields the answers without their headers. Raises OSError if the kernel refuses."""
        flags |= NLM_F_REQUEST | NLM_F_ACK
        self.send(HEADER.pack(HEADER.size + len(body), kind, flags, 0, 0) + body)
        while True:
            data = self.recv(1 << 16)
            while data:
                length, kind, _, _, _ = HEADER.unpack_from(data)
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    if error := -struct.unpack_from("=i", data, HEADER.size)[0]:
                        raise OSError(error, os.strerror(error))
                    return
                yield data[HEADER.size : length]
                data = data[(length + 3) & ~3 :]

    def change(self, text: str, kind: int, flags: int, *body: bytes) -> None:
        """Do what `ip TEXT` would do; --explain shows this. Raises ContainerError if the kernel refuses."""
        explain.line(f"{self.told} {text}")
        try:
            list(self.ask(kind, flags, b"".join(body)))
        except OSError as error:
            raise ContainerError(f"ip {text}: {sentence(error)}") from None

    # ---- links ----

    def link(self, name: str) -> tuple[int, bool]:
        """Return a link's number, and whether it is up. The number is 0 if there is no such link."""
        try:
            (answer,) = self.ask(RTM_GETLINK, 0, NO_LINK + attribute(IFLA_IFNAME, name))
        except OSError:
            return 0, False
        _, _, index, flags, _ = IFINFOMSG.unpack_from(answer)
        return index, bool(flags & IFF_UP)

    def bridges(self) -> int:
        """Return how many bridges there are."""
        links = [attributes(answer[IFINFOMSG.size :]) for answer in self.ask(RTM_GETLINK, NLM_F_DUMP, NO_LINK)]
        kinds = [attributes(link.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b"") for link in links]
        return sum(kind.rstrip(b"\0") == b"bridge" for kind in kinds)

    def add_bridge(self, name: str, mac: str) -> None:
        """Make a bridge."""
        kind = nested(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, "bridge"))
        self.change(f"link add {name} address {mac} type bridge", RTM_NEWLINK, NEW, NO_LINK, names(name, mac), kind)

    def add_veth(self, name: str, peer: str, mac: str, namespace: Namespace) -> None:
        """Make a cable: a device here, and its peer in another namespace, which gets this Ethernet address."""
        other = NO_LINK + names(peer, mac) + attribute(IFLA_NET_NS_FD, namespace.fileno())
        data = nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, other))
        kind = nested(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, "veth"), data)
        text = f"link add {name} type veth peer name {peer} address {mac} netns {namespace.name}"
        self.change(text, RTM_NEWLINK, NEW, NO_LINK, attribute(IFLA_IFNAME, name), kind)

    def up(self, name: str, master: str = "") -> None:
        """Switch a link on. Plug it into a bridge (`master`) first, if one is given."""
        told, more = "", b""
        if master:
            told, more = f" master {master}", attribute(IFLA_MASTER, self.link(master)[0])
        link = IFINFOMSG.pack(0, 0, self.link(name)[0], IFF_UP, IFF_UP)
        self.change(f"link set {name}{told} up", RTM_NEWLINK, 0, link, more)

    def hairpin(self, name: str) -> None:
        """Let a bridge send frames out by the same port by which they came."""
        port = nested(IFLA_PROTINFO, attribute(IFLA_BRPORT_MODE, b"\1"))
        link = IFINFOMSG.pack(socket.AF_BRIDGE, 0, self.link(name)[0], 0, 0)
        self.change(f"link set {name} type bridge_slave hairpin on", RTM_SETLINK, 0, link, port)

    def delete(self, name: str) -> None:
        """Delete a link, if there is one. The kernel may delete it first, with the namespace of its other end."""
        index, _ = self.link(name)
        try:
            if index:
                self.change(f"link delete {name}", RTM_DELLINK, 0, IFINFOMSG.pack(0, 0, index, 0, 0))
        except ContainerError:
            if self.link(name)[0]:
                raise

    # ---- addresses and routes ----

    def add_address(self, address: IPv4Interface, name: str) -> None:
        """Give a link an address, unless it has it."""
        head = struct.pack("=4BI", socket.AF_INET, address.network.prefixlen, 0, 0, self.link(name)[0])
        broadcast = address.network.broadcast_address
        parts = {IFA_LOCAL: address.ip, IFA_ADDRESS: address.ip, IFA_BROADCAST: broadcast}
        text = f"addr replace {address} broadcast {broadcast} dev {name}"
        body = b"".join(attribute(kind, part.packed) for kind, part in parts.items())
        self.change(text, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, head, body)

    def addresses(self) -> set[str]:
        """Return the host's own IPv4 addresses."""
        found = self.ask(RTM_GETADDR, NLM_F_DUMP, struct.pack("=4BI", socket.AF_INET, 0, 0, 0, 0))
        return {str(IPv4Address(attributes(answer[8:])[IFA_LOCAL])) for answer in found}

    def add_default_route(self, gateway: str, name: str, metric: int) -> None:
        """Send packets without a better route to the gateway. Of several routes, the lowest metric is used."""
        head = RTMSG.pack(socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0)
        via = attribute(RTA_GATEWAY, IPv4Address(gateway).packed) + attribute(RTA_OIF, self.link(name)[0])
        text = f"route add default via {gateway} dev {name} metric {metric}"
        self.change(text, RTM_NEWROUTE, NEW, head, via, attribute(RTA_PRIORITY, metric))

    def routes(self) -> list[tuple[int, Attributes]]:
        """Return the host's IPv4 routes in all tables: the length of the destination's prefix, and the attributes."""
        asked = RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        found = self.ask(RTM_GETROUTE, NLM_F_DUMP, asked)
        return [(answer[1], attributes(answer[RTMSG.size :])) for answer in found]
