"""The driver `bridge`: a switch in the kernel, one veth pair for each container, and NAT to the world outside.

    container            host
    eth0 ═══ vethab12 ── br-3f9c (the gateway's address) ── routing, NAT ── eth0 ── the world

IPv6 would need all of this a second time: a subnet, an address, a table of the family ip6.
"""

from ipaddress import IPv4Network
from pathlib import Path

from ..lib import linux, store
from ..lib.errors import complain
from ..records.process import boot_id
from . import conntrack, nft
from .model import Endpoint, Namespace, Network, PortMapping, mac_of
from .netlink import RTA_DST, RTA_GATEWAY, Netlink

IPV4, IPV6 = Path("/proc/sys/net/ipv4"), Path("/proc/sys/net/ipv6")
FORWARD = IPV4 / "ip_forward"
GUARD = "mydocker"  # a table for all our networks, also those of other stores
OF_GUARD: nft.Place = ("ip", GUARD, "forward")
OF_IPTABLES: nft.Place = ("ip", "filter", "FORWARD")  # Docker and ufw set it to drop; our rules may come first


def bridge_of(network: Network) -> str:
    """Return the bridge's name; the kernel allows 15 characters."""
    return f"br-{network.id}"


def cable_of(endpoint: Endpoint) -> str:
    """Return the name of the cable's end on the host."""
    return f"veth{endpoint.id[:8]}"


def create(network: Network) -> None:
    """Make the bridge and its rules for the network's endpoints, or whatever is missing of them."""
    bridge = bridge_of(network)
    with Netlink() as host:
        index, is_up = host.link(bridge)
        if not index:
            # We give the bridge an Ethernet address. Otherwise it takes the lowest of its devices' addresses; that can
            # change when a container ends, and the other containers would go on sending to the old one.
            host.add_bridge(bridge, mac_of(network.gateway))
        if not is_up:  # up is the last step: so all of these may be missing
            warn_of_iptables(network)
            close(bridge)
            host.add_address(network.on_link(network.gateway), bridge)
            # A program here may use a published port by the address 127.0.0.1. Without this, the kernel drops packets
            # from 127.0.0.1 that leave by a real device. Packets from the bridge to 127.0.0.1 are dropped below.
            linux.write_file(IPV4 / "conf" / bridge / "route_localnet", "1")
            for endpoint in network.endpoints.values():  # there are some if somebody has deleted the bridge
                if host.link(cable_of(endpoint))[0]:
                    plug_in(host, bridge, cable_of(endpoint))
            host.up(bridge)
    chains = nft.forward_chains()
    # A table is there as a whole or not at all. To replace it takes the kernel a while: do it only for published ports.
    if ("ip", bridge, "forward") not in chains or any(endpoint.ports for endpoint in network.endpoints.values()):
        nft.run(ruleset(network))
    forward(network, chains)


def delete(network: Network) -> None:
    """Remove the bridge and its rules. After the last bridge, switch forwarding off if we have switched it on."""
    bridge = bridge_of(network)
    with Netlink() as host:
        host.delete(bridge)
        others = host.bridges()  # of another store, or Docker's: they need forwarding as well
    chains = nft.forward_chains()
    rules = delete_commands(network) if OF_IPTABLES in chains else []
    nft.run("\n".join([f"table ip {bridge}", f"delete table ip {bridge}", *rules]))  # named first, so that it exists
    if not others and (store.read_json(forwarding()).get("boot") == boot_id() or OF_GUARD in chains):
        linux.write_file(FORWARD, "0")
        nft.run(f"table ip {GUARD}\ndelete table ip {GUARD}")
    if not others:
        forwarding().unlink(missing_ok=True)


def connect(network: Network, endpoint: Endpoint, namespace: Namespace) -> None:
    """Connect a network namespace to the bridge by a cable (a veth pair)."""
    cable, inside = cable_of(endpoint), endpoint.interface
    with Netlink() as host:
        host.add_veth(cable, inside, endpoint.mac, namespace)
        plug_in(host, bridge_of(network), cable)
    with Netlink(namespace) as there:
        there.add_address(network.on_link(endpoint.ip), inside)
        there.up(inside)
        # The lowest metric wins: eth0 if there is one. When eth0 goes, the kernel takes the next interface.
        there.add_default_route(network.gateway, inside, endpoint.number)


def disconnect(network: Network, endpoint: Endpoint) -> None:
    """Remove the cable and the ports."""
    with Netlink() as host:
        host.delete(cable_of(endpoint))  # the kernel does this too when the namespace ends, but later
    publish(network, endpoint.ports)


def publish(network: Network, changed: list[PortMapping]) -> None:
    """Lead ports to the network's endpoints as these are now. `changed` ports are new or no longer published."""
    if changed:
        nft.run(ruleset(network))
    if places := [(port.address, port.host) for port in changed if port.protocol == "udp"]:
        with Netlink() as host:
            here = host.addresses()
        conntrack.forget(
            lambda ip, port: (ip, port) in places or (("0.0.0.0", port) in places and (ip in here or ip[:4] == "127."))
        )


def plug_in(host: Netlink, bridge: str, cable: str) -> None:
    """Plug the host's end of a cable into the bridge."""
    close(cable)
    host.up(cable, bridge)
    # If br_netfilter is loaded and a container calls its own published port, the packet turns round inside the bridge:
    # it must leave by the port by which it came. A bridge allows this only in hairpin mode.
    host.hairpin(cable)


def close(device: str) -> None:
    """Ignore what a container may send to change the host's own addresses and routes."""
    linux.write_file(IPV4 / "conf" / device / "accept_redirects", "0")
    if (IPV6 / "conf" / device).exists():  # IPv6 configures itself from packets: router advertisements (RFC 4862)
        linux.write_file(IPV6 / "conf" / device / "disable_ipv6", "1")


def ruleset(network: Network) -> str:
    """Return the rules for NAT and for access to a network. They are in one table, which belongs to this network alone.

    The table is replaced as a whole. The first line makes it, so that there is one to delete.
    """
    bridge, subnet = bridge_of(network), network.subnet
    # The rules of `leave` put our address in as the sender: the answer must come back to us, as we must change its
    # address back. This also holds for a call from one container to another on the same network by the host's address,
    # and for a call from 127.0.0.1, which inside the container would mean the container itself.
    return f"""
table ip {bridge}
delete table ip {bridge}
table ip {bridge} {{
    chain publish {{
{published(network)}    }}
    chain raw {{
        type filter hook prerouting priority raw; policy accept;
        iifname "{bridge}" ip daddr 127.0.0.0/8 drop
    }}
    chain outside {{
        type nat hook prerouting priority dstnat; policy accept;
        ip daddr != 127.0.0.0/8 fib daddr type local jump publish
    }}
    chain here {{
        type nat hook output priority -100; policy accept;
        fib daddr type local jump publish
    }}
    chain leave {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {subnet} oifname != "{bridge}" masquerade
        ip saddr {subnet} oifname "{bridge}" ct status dnat masquerade
        ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname != "{bridge}" oifname "{bridge}" ct state established,related accept
        iifname != "{bridge}" oifname "{bridge}" ct status dnat accept
        iifname != "{bridge}" oifname "{bridge}" drop
    }}
}}
"""


def published(network: Network) -> str:
    """Return the rules that send packets for published ports on to the network's endpoints."""
    rules = ""
    for endpoint in network.endpoints.values():
        for port in endpoint.ports:
            to_host = "" if port.address == "0.0.0.0" else f"ip daddr {port.address} "
            rule = f"{to_host}{port.protocol} dport {port.host} dnat to {endpoint.ip}:{port.container}"
            rules += f'        {rule} comment "{endpoint.id}"\n'
    return rules


# ---- forwarding ------------------------------------------------------------------------------------------------------


# Forwarding is for all devices, so with it this machine becomes a router between its neighbours. If it was off before
# us, then only packets from a bridge or to a bridge may pass: our bridges, and those of other container engines.
ONLY_BRIDGES = f"""
table ip {GUARD}
delete table ip {GUARD}
table ip {GUARD} {{
    chain forward {{
        type filter hook forward priority filter; policy accept;
        meta iifkind != "bridge" meta oifkind != "bridge" drop
    }}
}}
"""


def forwarding() -> Path:
    """Return the file that says in which boot we have switched forwarding on."""
    return store.folder("networks") / "forwarding.json"


def forward(network: Network, chains: dict[nft.Place, str]) -> None:
    """Let the host forward packets between the bridge and the world. Chains of other programs may drop them."""
    if FORWARD.read_text().strip() == "0":
        store.write_json(forwarding(), {"boot": boot_id()})
        nft.run(ONLY_BRIDGES)
        linux.write_file(FORWARD, "1")
        complain("switched net.ipv4.ip_forward on; removing the last network switches it off again")
    elif store.read_json(forwarding()).get("boot") == boot_id() and OF_GUARD not in chains:
        nft.run(ONLY_BRIDGES)  # somebody has flushed all rules
    for place, policy in chains.items():
        family, table, chain = place
        # A chain refuses packets by its policy (Docker, ufw) or by a rule (firewalld).
        if policy != "drop" and not any(map(nft.refuses_all, nft.rules(place))):
            continue
        if place == OF_IPTABLES:
            accept_in_iptables(network)
        else:
            complain(
                f"the chain {chain} of the nftables table {family} {table} drops what is forwarded: "
                f"{network.name} reaches nothing outside until a rule there accepts {bridge_of(network)}"
            )


def warn_of_iptables(network: Network) -> None:
    """Warn of rules that nft cannot show: those of the older iptables, which are not in nf_tables."""
    if "filter" in linux.read_file("/proc/net/ip_tables_names").split():
        bridge = bridge_of(network)
        complain(
            f"iptables-legacy is in use: if its chain FORWARD drops, {network.name} reaches nothing outside until "
            f"`iptables-legacy -I FORWARD -i {bridge} -j ACCEPT`, and the same with -o"
        )


def accept_in_iptables(network: Network) -> None:
    """Put our two rules before those of iptables."""
    bridge, before = bridge_of(network), delete_commands(network)
    if len(before) != 2:
        rule = f'insert rule {" ".join(OF_IPTABLES)} %s "{bridge}" accept comment "mydocker {bridge}"'
        nft.run("\n".join([*before, rule % "iifname", rule % "oifname"]))


def delete_commands(network: Network) -> list[str]:
    """Return the commands that delete our two rules. We find these rules by their comment."""
    ours = [rule for rule in nft.rules(OF_IPTABLES) if rule.get("comment") == f"mydocker {bridge_of(network)}"]
    return [f"delete rule {' '.join(OF_IPTABLES)} handle {rule['handle']}" for rule in ours]


# ---- which subnets are free ------------------------------------------------------------------------------------------


def used_subnets() -> list[IPv4Network]:
    """Return the subnets that this host has routes to, and the gateways of these routes."""
    with Netlink() as host:
        routes = host.routes()
    found = [IPv4Network((route[RTA_DST], length)) for length, route in routes if RTA_DST in route]
    found += [IPv4Network(route[RTA_GATEWAY]) for _, route in routes if RTA_GATEWAY in route]
    # Routes wider than /8 are not to subnets: they are halves of a default route, as VPNs set them.
    return [subnet for subnet in found if subnet.prefixlen >= 8]
