"""Connection tracking: the kernel's table of who talks with whom, and with which addresses changed.

Rules of NAT see only the first packet of a connection. UDP has no connections, so the kernel takes all packets between
the same two ports for one, as long as they keep coming. A client that asked before a port was published, or that asked
the container which had it before, would never get to the new one. So such entries are removed.
"""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address
from typing import NamedTuple

from .netlink import NLM_F_DUMP, Attributes, Netlink, attribute, attributes, nested

NETLINK_NETFILTER = 12  # linux/netlink.h
# linux/netfilter/nfnetlink_conntrack.h; 1 << 8 is the part of netfilter's messages that concerns this table
GET, DELETE = 1 << 8 | 1, 1 << 8 | 2
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID = 1, 2, 12
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST = 1, 2
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
NFGENMSG = struct.pack("=BBH", socket.AF_INET, 0, 0)


class Flow(NamedTuple):
    """UDP packets that belong together: whom the client asks, and who answers."""

    asked: tuple[str, int]
    answers: tuple[str, int]


def forget(unwanted: Callable[[Flow], bool]) -> None:
    """Remove entries of UDP from the table; a kernel that shows nobody its table is left alone."""
    with suppress(OSError), Netlink(protocol=NETLINK_NETFILTER) as kernel:
        for entry, flow in list(flows(kernel)):
            if unwanted(flow):
                body = NFGENMSG + nested(CTA_TUPLE_ORIG, entry[CTA_TUPLE_ORIG]) + attribute(CTA_ID, entry[CTA_ID])
                with suppress(FileNotFoundError):  # it has just ended
                    list(kernel.ask(DELETE, 0, body))


def flows(kernel: Netlink) -> Iterator[tuple[Attributes, Flow]]:
    """The entries of UDP, as the kernel tells them, and what they mean."""
    for answer in kernel.ask(GET, NLM_F_DUMP, NFGENMSG):
        entry = attributes(answer[len(NFGENMSG) :])
        original, reply = (attributes(entry[kind]) for kind in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY))
        if attributes(original[CTA_TUPLE_PROTO])[CTA_PROTO_NUM][0] == socket.IPPROTO_UDP:
            asked = end(original, CTA_IP_V4_DST, CTA_PROTO_DST_PORT)
            yield entry, Flow(asked, end(reply, CTA_IP_V4_SRC, CTA_PROTO_SRC_PORT))


def end(half: Attributes, ip: int, port: int) -> tuple[str, int]:
    """The address and port of one end."""
    address = IPv4Address(attributes(half[CTA_TUPLE_IP])[ip])
    return str(address), int.from_bytes(attributes(half[CTA_TUPLE_PROTO])[port], "big")
