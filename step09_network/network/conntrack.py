"""Connection tracking: the kernel's table of connections, and of the addresses that NAT changes in them.

NAT rules see only the first packet of a connection. UDP has no connections, so for the kernel all packets between the
same two ports are one connection, as long as packets keep coming. A client that sent to a port before it was published,
or to the container that had the port before, would never reach the new container. So such entries are removed.
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
    """Remove the UDP entries of clients that send to an address and port for which `unwanted` is true.

    If the kernel does not show its table, nothing is done.
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
