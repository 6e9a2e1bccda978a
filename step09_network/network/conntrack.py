"""Connection tracking: the kernel's table of who talks with whom, and with which addresses changed.

Rules of NAT see only the first packet of a connection. UDP has no connections, so the kernel takes all packets between
the same two ports for one, as long as they keep coming. A client that asked before a port was published, or that asked
the container which had it before, would never get to the new one. So such entries are removed.
"""

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address

from .netlink import NLM_F_DUMP, Netlink, attribute, attributes, nested

NETLINK_NETFILTER = 12  # linux/netlink.h
# linux/netfilter/nfnetlink_conntrack.h; 1 << 8 is the part of netfilter's messages that concerns this table
GET, DELETE = 1 << 8 | 1, 1 << 8 | 2
CTA_TUPLE_ORIG, CTA_ID = 1, 12
CTA_TUPLE_IP, CTA_IP_V4_DST = 1, 2
CTA_TUPLE_PROTO, CTA_PROTO_NUM, CTA_PROTO_DST_PORT = 2, 1, 3
NFGENMSG = struct.pack("=BBH", socket.AF_INET, 0, 0)


def forget(unwanted: Callable[[str, int], bool]) -> None:
    """Remove the entries of UDP whose clients ask an address and port that are `unwanted`.

    A kernel that shows nobody its table is left alone.
    """
    with suppress(OSError), Netlink(protocol=NETLINK_NETFILTER) as kernel:
        for answer in list(kernel.ask(GET, NLM_F_DUMP, NFGENMSG)):
            entry = attributes(answer[len(NFGENMSG) :])
            client = attributes(entry[CTA_TUPLE_ORIG])
            protocol, address = attributes(client[CTA_TUPLE_PROTO]), attributes(client[CTA_TUPLE_IP])
            if protocol[CTA_PROTO_NUM][0] == socket.IPPROTO_UDP and unwanted(
                str(IPv4Address(address[CTA_IP_V4_DST])), int.from_bytes(protocol[CTA_PROTO_DST_PORT], "big")
            ):
                body = NFGENMSG + nested(CTA_TUPLE_ORIG, entry[CTA_TUPLE_ORIG]) + attribute(CTA_ID, entry[CTA_ID])
                with suppress(FileNotFoundError):  # it has just ended
                    list(kernel.ask(DELETE, 0, body))
