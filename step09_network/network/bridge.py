"""The driver `bridge`: a switch in the kernel, one veth pair for each container, and NAT to the world outside.

    container            host
    eth0 ═══ vethab12 ── br-3f9c (the gateway's address) ── routing, NAT ── eth0 ── the world

All of it is asked for over netlink: rtnetlink(7) for links and addresses, nf_tables for NAT. IPv6 would need the same
once more: a subnet, an address, a table of the family ip6.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..lib import explain, linux, store
from ..lib.errors import ContainerError, complain
from ..lib.linux import CLONE
from . import nft
from .model import Endpoint, Namespace, Network
from .netlink import IPRoute, NetlinkError

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
IFF_UP = 1
LAST = "that is all"  # the comment of the rule without which a table is not whole


def command(text: str, action: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Do what `ip TEXT` would do, and tell of it. Raises ContainerError if the kernel refuses."""
    explain.line(f"ip {text}" if not text.startswith("nsenter") else text)
    try:
        return action(*args, **options)
    except NetlinkError as error:
        raise ContainerError(f"ip {text}: {os.strerror(error.code)}") from None


class Bridge:
    """The book's bridge network driver."""

    name = "bridge"

    def __init__(self) -> None:
        self.ip = IPRoute()

    def create(self, network: Network) -> None:
        """Make the bridge and its rules, as far as they are missing."""
        bridge = network.bridge
        if not self.is_up(bridge):  # the last that is done with it: so nothing is missing if it is
            if not self.index(bridge):
                command(f"link add {bridge} type bridge", self.ip.link, "add", ifname=bridge, kind="bridge")
            index, gateway = self.index(bridge), network.on_link(network.gateway)
            length = {"address": network.gateway, "prefixlen": gateway.network.prefixlen}
            command(f"addr replace {gateway} dev {bridge}", self.ip.addr, "replace", index=index, **length)
            # Without this the kernel drops what comes from 127.0.0.1 and is to leave by a real device: a program here
            # that asks for a published port by that address. What comes in by it so addressed is dropped below.
            linux.write_file(f"/proc/sys/net/ipv4/conf/{bridge}/route_localnet", "1")
            for endpoint in network.endpoints.values():  # of containers that run: somebody has deleted the bridge
                if self.index(endpoint.veth):
                    self.plug_in(network, endpoint.veth)
            command(f"link set {bridge} up", self.ip.link, "set", index=index, state="up")
        if not nft.Table(bridge).has(LAST):
            add_rules(network)
        forward(network)

    def delete(self, network: Network) -> None:
        """Take away the bridge and its rules."""
        for family, name, _ in blocking():
            nft.Table(name, family).delete_rules(comment(network))
        table = nft.Table(network.bridge)
        if table.exists():
            table.delete()
        if index := self.index(network.bridge):
            command(f"link delete {network.bridge}", self.ip.link, "del", index=index)

    def connect(self, network: Network, endpoint: Endpoint, namespace: Namespace) -> None:
        """Lay a cable from the bridge into a network namespace, and publish the endpoint's ports."""
        veth, inside = endpoint.veth, endpoint.interface
        where = f"nsenter --net=/proc/{namespace.pid}/ns/net ip"
        other = {"ifname": inside, "address": endpoint.mac, "net_ns_fd": namespace.fd}
        peer = f"peer name {inside} address {endpoint.mac} netns {namespace.pid}"
        command(f"link add {veth} type veth {peer}", self.ip.link, "add", ifname=veth, kind="veth", peer=other)
        self.plug_in(network, veth)
        there = socket_in(namespace.fd)
        index = there.link_lookup(ifname=inside)[0]
        address = network.on_link(endpoint.ip)
        length = {"address": endpoint.ip, "prefixlen": address.network.prefixlen}
        command(f"{where} addr add {address} dev {inside}", there.addr, "add", index=index, **length)
        command(f"{where} link set {inside} up", there.link, "set", index=index, state="up")
        # By eth0 if there is one; when that goes, the kernel takes the next, whose metric is the lowest then.
        metric = int(inside.removeprefix("eth"))
        command(
            f"{where} route add default via {network.gateway} metric {metric}",
            there.route,
            "add",
            gateway=network.gateway,
            priority=metric,
        )
        there.close()
        publish(nft.Table(network.bridge), endpoint)

    def plug_in(self, network: Network, veth: str) -> None:
        """Plug the host's end of a cable into the bridge."""
        index, master = self.index(veth), self.index(network.bridge)
        command(
            f"link set {veth} master {network.bridge} up", self.ip.link, "set", index=index, master=master, state="up"
        )
        # Where br_netfilter is loaded, a container's call for its own port is turned round inside the bridge, and has
        # to leave by the way it came, which bridges forbid unless told.
        command(f"link set {veth} type bridge_slave hairpin on", self.ip.brport, "set", index=index, mode=1)

    def disconnect(self, network: Network, endpoint: Endpoint) -> None:
        """Take away the cable and the ports."""
        if endpoint.ports and (table := nft.Table(network.bridge)).exists():
            table.delete_rules(endpoint.id)
        if index := self.index(endpoint.veth):  # the kernel does it too when the namespace is gone, only later
            command(f"link delete {endpoint.veth}", self.ip.link, "del", index=index)

    def index(self, name: str) -> int:
        """A link's number, 0 if there is no such link."""
        return next(iter(self.ip.link_lookup(ifname=name)), 0)

    def is_up(self, name: str) -> bool:
        """Whether there is such a link, and it is up."""
        return any(link["flags"] & IFF_UP for link in self.ip.get_links(ifname=name)) if self.index(name) else False


def socket_in(namespace: int) -> IPRoute:
    """A netlink socket in another network namespace: it belongs to the one in which it was made, for good."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(namespace, CLONE.CLONE_NEWNET)
        try:
            return IPRoute()
        finally:
            linux.setns(home, CLONE.CLONE_NEWNET)
    finally:
        os.close(home)


def add_rules(network: Network) -> None:
    """NAT for a network, and who may reach it: a table of its own, which goes with it and touches no other."""
    bridge, subnet = network.bridge, network.subnet
    table = nft.Table(bridge)
    if table.exists():  # half of it, of a command that was killed
        table.delete()
    table.add()
    table.add_chain("publish")  # filled by endpoints
    table.add_chain("raw", "filter", "prerouting", -300)
    table.add_rule("raw", f"iifname {bridge} ip daddr 127.0.0.0/8 drop")
    table.add_chain("outside", "nat", "prerouting", -100)  # who asks from elsewhere for one of our addresses
    table.add_rule("outside", "fib daddr type local jump publish")
    table.add_chain("here", "nat", "output", -100)  # who asks from here
    table.add_rule("here", "fib daddr type local jump publish")
    table.add_chain("leave", "nat", "postrouting", 100)
    table.add_rule("leave", f"ip saddr {subnet} oifname != {bridge} masquerade")
    # The answer must come back to us, or nobody turns its address round again: from a container by the host's address
    # to another on the same network; and from 127.0.0.1, which in the container would mean the container itself.
    table.add_rule("leave", f"ip saddr {subnet} oifname {bridge} ct status dnat masquerade")
    table.add_rule("leave", f"ip saddr 127.0.0.0/8 oifname {bridge} masquerade")
    table.add_chain("forward", "filter", "forward", 0)
    for condition in ("ct state established,related accept", "ct status dnat accept"):
        table.add_rule("forward", f"iifname != {bridge} oifname {bridge} {condition}")
    for endpoint in network.endpoints.values():  # of containers that run: somebody has flushed the rules
        publish(table, endpoint)
    table.add_rule("forward", f"iifname != {bridge} oifname {bridge} drop", comment=LAST)


def publish(table: nft.Table, endpoint: Endpoint) -> None:
    """Send on what comes for an endpoint's ports."""
    for port in endpoint.ports:
        to_host = f"ip daddr {port.address} " if port.address != "0.0.0.0" else ""
        rule = f"{to_host}{port.protocol} dport {port.host} dnat to {endpoint.ip}:{port.container}"
        table.add_rule("publish", rule, comment=endpoint.id)


def forward(network: Network) -> None:
    """Have the host pass packets on, between the bridge and the world."""
    if FORWARD.read_text().strip() == "0":
        store.write_json(store.folder("networks") / "forwarding.json", {"was": "0"})
        linux.write_file(FORWARD, "1")
        complain("switched net.ipv4.ip_forward on; removing the last network switches it off again")
    for family, name, chain in blocking():
        table = nft.Table(name, family)
        if family == "ip" and chain == "FORWARD":  # that of iptables, which Docker and ufw have set to drop
            if table.has(comment(network)) < 2:
                table.delete_rules(comment(network))  # one of the two, of a command that was killed
                for direction in ("iifname", "oifname"):
                    table.add_rule(chain, f"{direction} {network.bridge} accept", comment(network), how="insert")
        else:
            complain(
                f"the chain {chain} of the nftables table {family} {name} drops what is forwarded: "
                f"{network.name} reaches nothing outside until a rule there accepts {network.bridge}"
            )


def forward_no_more() -> None:
    """Switch forwarding off, if it was us who switched it on: for when the last network is gone."""
    file = store.folder("networks") / "forwarding.json"
    others = IPRoute().link_lookup(kind="bridge")  # of another store, or Docker's: they need it as well
    if store.read_json(file).get("was") == "0" and not others:
        linux.write_file(FORWARD, "0")
    file.unlink(missing_ok=True)


def blocking() -> list[tuple[str, str, str]]:
    """The chains (family, table, chain) of others that drop what is forwarded."""
    return [(family, *found) for family in nft.FAMILIES for found in nft.dropping_chains(family)]


def comment(network: Network) -> str:
    """How we know rules of ours in other tables."""
    return f"mydocker {network.bridge}"


def used_subnets() -> list[Any]:
    """The subnets that this host has routes to."""
    from ipaddress import IPv4Network

    routes = IPRoute().get_routes(family=2)
    found = [(route.get_attr("RTA_DST"), route["dst_len"]) for route in routes]
    # What is wider than any subnet is a default route in two halves, as VPNs set them.
    return [IPv4Network(f"{to}/{length}") for to, length in found if to and length >= 8 and not to.startswith("127.")]
