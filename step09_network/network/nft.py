"""nftables, spoken to over netlink: tables, chains, and rules written as one types them for nft(8).

A rule is a list of expressions, each a small instruction of a machine in the kernel: load something of the packet into
a register, compare the register, and at last a verdict. The kernel knows no `ip saddr 172.18.0.0/16`; it knows "load 4
bytes at 12 of the network header; and them with ff ff 00 00; are they ac 12 00 00?" That translation is made here, for
the words that we need. (libnftnl and `nft --debug=netlink` show the same.)
"""

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Network
from typing import Any

from ..lib import explain
from ..lib.errors import ContainerError
from .netlink import NetlinkError, NFTables

FAMILIES = {"inet": 1, "ip": 2}
REGISTER, SECOND, VERDICT = 1, 2, 0  # nf_tables.h: NFT_REG_1, NFT_REG_2, NFT_REG_VERDICT
CODES = {"drop": 0, "accept": 1, "jump": -3}
CT_STATES = {"established": 2, "related": 4}
CT_DNAT = 1 << 5  # IPS_DST_NAT
PROTOCOLS = {"tcp": 6, "udp": 17}
Expression = dict[str, Any]


def command(text: str, action: Callable[[], Any]) -> Any:
    """Do what `nft TEXT` would do, and tell of it. Raises ContainerError if the kernel refuses."""
    explain.line(f"nft {text}")
    try:
        return action()
    except NetlinkError as error:
        raise ContainerError(f"nft {text}: {error.args[-1] if error.args else error}") from None


@dataclass
class Table:
    """A table of the family `ip`, and what is done with it. Raises ContainerError where nftables is missing."""

    name: str
    family: str = "ip"
    nft: Any = field(init=False)

    def __post_init__(self) -> None:
        self.nft = NFTables(nfgen_family=FAMILIES[self.family])

    @property
    def words(self) -> str:
        """How nft calls it."""
        return f"{self.family} {self.name}"

    def exists(self) -> bool:
        """Whether the kernel has it."""
        return any(table.get_attr("NFTA_TABLE_NAME") == self.name for table in listed(self.nft.get_tables))

    def has(self, comment: str) -> int:
        """How many rules with this comment there are in it."""
        return len(self.commented(comment))

    def commented(self, comment: str) -> list[Any]:
        """The rules in it with this comment."""
        rules = [rule for rule in listed(self.nft.get_rules) if rule.get_attr("NFTA_RULE_TABLE") == self.name]
        return [rule for rule in rules if rule.get_attr("NFTA_RULE_USERDATA") == comment]

    def add(self) -> None:
        """nft add table."""
        command(f"add table {self.words}", lambda: self.nft.table("add", name=self.name))

    def delete(self) -> None:
        """nft delete table: with all that is in it."""
        command(f"delete table {self.words}", lambda: self.nft.table("del", name=self.name))

    def add_chain(self, name: str, kind: str = "", hook: str = "", priority: int = 0) -> None:
        """nft add chain: a base chain, which the kernel calls at a hook, or without one a chain to jump to."""
        place: dict[str, Any] = {"table": self.name, "name": name}
        spec = ""
        if hook:
            place |= {"type": kind, "hook": hook, "priority": priority, "policy": CODES["accept"]}
            spec = f" '{{ type {kind} hook {hook} priority {priority} ; policy accept ; }}'"
        command(f"add chain {self.words} {name}{spec}", partial(self.nft.chain, "add", **place))

    def add_rule(self, chain: str, rule: str, comment: str = "", how: str = "add") -> None:
        """nft add rule, at the end of a chain; or, with "insert", before the others."""
        told = f'{rule} comment "{comment}"' if comment else rule
        more = {"userdata": comment} if comment else {}
        place = {"table": self.name, "chain": chain, "expressions": [translate(rule)], **more}
        command(f"{how} rule {self.words} {chain} '{told}'", partial(self.nft.rule, how, **place))

    def delete_rules(self, comment: str) -> None:
        """nft delete rule, for those with this comment."""
        for rule in self.commented(comment):
            chain, handle = rule.get_attr("NFTA_RULE_CHAIN"), rule.get_attr("NFTA_RULE_HANDLE")
            place = {"table": self.name, "chain": chain, "handle": handle}
            command(f"delete rule {self.words} {chain} handle {handle}", partial(self.nft.rule, "del", **place))


def listed(question: Callable[[], Any]) -> list[Any]:
    """What the kernel has of tables, chains or rules. Raises ContainerError if it has no nftables."""
    try:
        return list(question())
    except NetlinkError as error:
        raise ContainerError(f"nftables: {os.strerror(error.code)}: is nf_tables missing in this kernel?") from None


def dropping_chains(family: str) -> list[tuple[str, str]]:
    """The base chains (table, chain) of a family that drop what is forwarded, unless a rule accepts it.

    By their policy, as iptables' under Docker and ufw, or by their last rule, as firewalld's.
    """
    nft = NFTables(nfgen_family=FAMILIES[family])
    found: list[tuple[str, str]] = []
    accepting: list[tuple[str, str]] = []
    for chain in listed(nft.get_chains):
        hook = chain.get_attr("NFTA_CHAIN_HOOK")
        place = (chain.get_attr("NFTA_CHAIN_TABLE"), chain.get_attr("NFTA_CHAIN_NAME"))
        if hook is not None and hook.get_attr("NFTA_HOOK_HOOKNUM") == 2 and not place[0].startswith("br-"):
            (found if chain.get_attr("NFTA_CHAIN_POLICY") == CODES["drop"] else accepting).append(place)
    last = {place_of(rule): rule for rule in listed(nft.get_rules)} if accepting else {}
    return found + [place for place in accepting if place in last and refuses_all(last[place])]


def place_of(rule: Any) -> tuple[str, str]:
    """A rule's table and chain."""
    return rule.get_attr("NFTA_RULE_TABLE"), rule.get_attr("NFTA_RULE_CHAIN")


def refuses_all(rule: Any) -> bool:
    """Whether a rule drops or rejects whatever comes as far as to it."""
    verdict = ("NFTA_EXPR_DATA", "NFTA_IMMEDIATE_DATA", "NFTA_DATA_VERDICT", "NFTA_VERDICT_CODE")
    for expression in rule.get_attr("NFTA_RULE_EXPRESSIONS") or []:
        match expression.get_attr("NFTA_EXPR_NAME"):
            case "counter" | "log":
                continue
            case "immediate":
                return bool(expression.get_nested(*verdict) == "NF_DROP")
            case name:
                return bool(name == "reject")
    return False


# ---- rules ----


def translate(rule: str) -> list[Expression]:
    """The expressions of a rule.

    >>> [e["attrs"][0][1] for e in translate("ip saddr 172.18.0.0/16 oifname != br-1 masquerade")]
    ['payload', 'bitwise', 'cmp', 'meta', 'cmp', 'masq']
    """
    words = rule.split()
    found: list[Expression] = []
    while words:
        match words:
            case ["iifname" | "oifname" as key, "!=", name, *words]:
                found += [meta(key), compare(name.encode().ljust(16, b"\0"), equal=False)]
            case ["iifname" | "oifname" as key, name, *words]:
                found += [meta(key), compare(name.encode().ljust(16, b"\0"))]
            case ["ip", "saddr" | "daddr" as key, subnet, *words]:
                found += address(key, IPv4Network(subnet))
            case ["tcp" | "udp" as protocol, "dport", port, *words]:
                found += [meta("l4proto"), compare(bytes([PROTOCOLS[protocol]]))]
                found += [payload(base=2, offset=2, length=2), compare(int(port).to_bytes(2, "big"))]
            case ["ct", "state", states, *words]:
                found += conntrack(0, sum(CT_STATES[state] for state in states.split(",")))
            case ["ct", "status", "dnat", *words]:
                found += conntrack(2, CT_DNAT)
            case ["fib", "daddr", "type", "local", *words]:
                # pyroute2 takes the result's number for a set of bits. These two are 1 and 2, together 3: ADDRTYPE.
                result = {"NFT_FIB_RESULT_UNSPEC", "NFT_FIB_RESULT_OIF"}
                found += [expression("fib", dreg=REGISTER, flags=2, result=result), compare(native(2))]
            case ["dnat", "to", target, *words]:
                ip, _, port = target.partition(":")
                found += [immediate(REGISTER, socket.inet_aton(ip)), immediate(SECOND, int(port).to_bytes(2, "big"))]
                found += [expression("nat", type=1, family=2, reg_addr_min=REGISTER, reg_proto_min=SECOND)]
            case ["masquerade", *words]:
                found += [expression("masq")]
            case ["accept" | "drop" as verdict, *words]:
                found += [immediate_verdict(VERDICT_CODE=CODES[verdict])]
            case ["jump", chain, *words]:
                found += [immediate_verdict(VERDICT_CODE=CODES["jump"], VERDICT_CHAIN=chain)]
            case _:
                raise AssertionError(f"no translation for {words}")
    return found


def expression(name: str, **values: object) -> Expression:
    """An expression as pyroute2 packs it: its name, and attributes named NFTA_<NAME>_…"""
    prefix = {"immediate": "IMMEDIATE"}.get(name, name.upper())
    attributes = [(f"NFTA_{prefix}_{key.upper()}", value) for key, value in values.items()]
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", {"attrs": attributes})]}


def data(value: bytes) -> dict[str, Any]:
    """A constant."""
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def native(number: int) -> bytes:
    """32 bits in the processor's own order, as the kernel compares what is no part of the packet."""
    return number.to_bytes(4, sys.byteorder)


def meta(key: str) -> Expression:
    """Load what is known of the packet beside its bytes."""
    return expression("meta", dreg=REGISTER, key={"iifname": 6, "oifname": 7, "l4proto": 16}[key])


def payload(base: int, offset: int, length: int) -> Expression:
    """Load bytes of the packet: of its network header (base 1) or transport header (2)."""
    return expression("payload", dreg=REGISTER, base=base, offset=offset, len=length)


def compare(value: bytes, equal: bool = True) -> Expression:
    """Go on with the rule if the register holds this, or if it does not."""
    return expression("cmp", sreg=REGISTER, op=0 if equal else 1, data=data(value))


def masked(mask: bytes) -> Expression:
    """Keep some bits of the register."""
    zero = data(bytes(len(mask)))
    return expression("bitwise", sreg=REGISTER, dreg=REGISTER, len=len(mask), mask=data(mask), xor=zero)


def address(key: str, subnet: IPv4Network) -> list[Expression]:
    """Go on if the source or destination is in a subnet."""
    loaded = payload(base=1, offset={"saddr": 12, "daddr": 16}[key], length=4)
    return [loaded, masked(subnet.netmask.packed), compare(subnet.network_address.packed)]


def conntrack(key: int, bits: int) -> list[Expression]:
    """Go on if the connection has one of these bits in its state (key 0) or status (key 2)."""
    return [expression("ct", dreg=REGISTER, key=key), masked(native(bits)), compare(native(0), equal=False)]


def immediate(register: int, value: bytes) -> Expression:
    """Load a constant."""
    return expression("immediate", dreg=register, data=data(value))


def immediate_verdict(**values: object) -> Expression:
    """What becomes of the packet."""
    attributes = [(f"NFTA_{key}", value) for key, value in values.items()]
    verdict = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": attributes})]}
    return expression("immediate", dreg=VERDICT, data=verdict)
