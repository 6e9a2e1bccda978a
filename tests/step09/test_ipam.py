"""Step 9: addresses. The lowest free one, never twice, never lost; and subnets that get in nobody's way."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import host, hostnet
from tests.support.fresh import Fresh
from tests.support.hostnet import Net
from tests.support.runtime import Runtime

pytestmark = [
    pytest.mark.ours_alone("Podman hands out the next address, not the lowest"),
    pytest.mark.as_root("networks are made on the host"),
]
MANY = 100 if os.environ.get("MYDOCKER_TEST_FAULTS") == "all" else 30


@pytest.fixture
def net(runtime: Runtime, tmp_path: Path) -> Iterator[Net]:
    with hostnet.standing_in(runtime, tmp_path) as made:
        yield made


def address(net: Net, *options: str) -> str:
    """What a container on the network `lab` gets."""
    return net.output("sh", "-c", "ip -4 -o addr show eth0", options=["--network", "lab", *options]).split()[3]


def leases(net: Net) -> dict[str, dict[str, str]]:
    """By subnet: which container has which address."""
    records = [json.loads(path.read_text()) for path in net.networks().glob("*.network.json")]
    return {one["subnet"]: {each["ip"]: id for id, each in one["endpoints"].items()} for one in records}


def test_the_lowest_free_address_first(net: Net) -> None:
    net.ok("network", "create", "lab", "--subnet", "10.7.0.0/29")
    ids = [net.sleeping(name, "--network", "lab") for name in ("aa", "bb", "cc")]
    assert leases(net) == {"10.7.0.0/29": {f"10.7.0.{number}": id for number, id in enumerate(ids, start=2)}}
    net.ok("rm", "-f", "bb")
    assert address(net) == "10.7.0.3/29"
    assert address(net, "--ip", "10.7.0.6") == "10.7.0.6/29"
    assert address(net) == "10.7.0.3/29"
    for wanted, why in {
        "10.7.0.0": "network's own",
        "10.7.0.1": "network's own",
        "10.7.0.7": "network's own",
        "10.7.0.2": "has it",
        "10.7.0.8": "10.7.0.0/29",
        "10.7.0.256": "IPv4",
        "web": "IPv4",
    }.items():
        said = net.refused("run", "--rm", "--network", "lab", "--ip", wanted, "test", "true")
        assert wanted in said and why in said
    for name in ("dd", "ee"):
        net.sleeping(name, "--network", "lab")
    net.sleeping("ff", "--network", "lab")
    assert "10.7.0.0/29" in net.refused("run", "--rm", "--network", "lab", "test", "true"), "it is full"
    assert len(leases(net)["10.7.0.0/29"]) == 5


def test_any_subnet_and_any_address(net: Net, fresh: Fresh) -> None:
    """The first free one, or the one that is asked for; and one that is given back is there again."""
    ten = f"10.{fresh.number(1, 254)}.{fresh.number(1, 254)}"
    net.ok("network", "create", "lab", "--subnet", f"{ten}.0/24")
    net.sleeping("aa", "--network", "lab")
    assert address(net) == f"{ten}.3/24"
    wanted = f"{ten}.{fresh.number(10, 250)}"
    assert address(net, "--ip", wanted) == f"{wanted}/24"
    assert wanted.rpartition(".")[0] in net.inside("aa", "ip route")
    net.sleeping("bb", "--network", "lab", "--ip", wanted)
    assert wanted in net.refused("run", "--rm", "--network", "lab", "--ip", wanted, "test", "true")
    net.ok("rm", "-f", "aa")
    assert address(net) == f"{ten}.2/24"


@pytest.mark.parametrize(
    ("subnet", "first", "length"),
    [("10.0.0.0/8", "10.0.0.2", 8), ("10.9.0.0/20", "10.9.0.2", 20), ("10.9.9.4/30", "10.9.9.6", 30)],
)
def test_the_largest_subnet_and_the_smallest(net: Net, subnet: str, first: str, length: int) -> None:
    net.ok("network", "create", "lab", "--subnet", subnet)
    assert address(net) == f"{first}/{length}"
    net.sleeping("aa", "--network", "lab")
    last = {8: "10.255.255.254", 20: "10.9.15.254", 30: first}[length]
    if length < 30:
        net.sleeping("bb", "--network", "lab", "--ip", last)
    else:
        assert "no address" in net.refused("run", "--rm", "--network", "lab", "test", "true")
    assert sum(path.stat().st_size for path in net.networks().iterdir()) < 3000, "bytes; not one for each address"


def test_subnets_that_cannot_be(net: Net, fresh: Fresh) -> None:
    net.ok("network", "create", "lab", "--subnet", "10.7.0.0/24")
    for subnet, why in {
        f"10.7.0.{4 * fresh.number(0, 60)}/30": "lab",
        "10.7.0.128/25": "lab",
        "10.0.0.0/8": "lab",
        "192.0.2.0/28": "route",
        "10.8.0.0": "/8 to /30",
        "10.8.0.0/31": "/8 to /30",
        "10.0.0.0/7": "/8 to /30",
        "10.8.0.1/24": "10.8.0.0/24",
        "10.8.0/24": "IPv4",
        "fd00::/64": "IPv4",
        "x": "IPv4",
    }.items():
        said = net.refused("network", "create", "new", "--subnet", subnet)
        assert subnet in said and why in said
    assert net.ok("network", "ls", "-q").count("\n") == 0


def test_the_subnet_of_the_loopback(net: Net) -> None:
    assert "overlaps with 127.0.0.0/8" in net.refused("network", "create", "lab", "--subnet", "127.9.0.0/16")


def test_a_subnet_is_chosen_that_nobody_uses(net: Net, fresh: Fresh) -> None:
    """Not even one behind a router; but the two halves of a default route, as a VPN sets them, use nothing up."""

    def chosen(name: str) -> str:
        net.ok("network", "create", name)
        subnet: str = json.loads(net.ok("network", "inspect", name))[0]["IPAM"]["Config"][0]["Subnet"]
        return subnet

    net.host.sh(f"for half in 0.0.0.0/1 128.0.0.0/1; do ip route add $half via {hostnet.THERE}; done")
    net.host.sh(f"ip route add 172.16.{fresh.number(1, 250)}.0/24 via {hostnet.THERE}")
    assert [chosen("one"), chosen("two")] == ["172.17.0.0/16", "172.18.0.0/16"]
    net.host.sh(f"ip route add 172.16.0.0/12 via {hostnet.THERE}")
    assert chosen("three") == "192.168.0.0/20"
    for rest in ("192.168.0.0/16", "10.0.0.0/8"):
        net.host.sh(f"ip route add {rest} via {hostnet.THERE}")
    assert "--subnet" in net.refused("network", "create", "four")


def test_what_looks_like_an_address_and_is_none(net: Net, tmp_path: Path) -> None:
    """In files that are searched for addresses of hosts."""
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n010.0.0.1 octal\n1.2.3.400 version\n172.16.1.1 router\n")
    hide = f'mount --bind {tmp_path}/hosts /etc/hosts; exec "$@"'
    assert net.call("network", "create", "lab", under=("unshare", "--mount", "sh", "-c", hide, "sh")).code == 0
    assert json.loads(net.ok("network", "inspect", "lab"))[0]["IPAM"]["Config"][0]["Subnet"] == "172.17.0.0/16"


@pytest.mark.parametrize("how", ["name server", "connection", "connection by IPv6", "gateway", "proxy"])
def test_a_subnet_covers_nothing_that_the_host_needs(net: Net, tmp_path: Path, how: str) -> None:
    """Though only the default route leads there: its name server, who is connected with it, a router."""
    under: tuple[str, ...] = ()
    env = {"https_proxy": "http://me@172.16.200.1:3128/"} if how == "proxy" else {}
    net.other.sh("ip addr add 172.16.200.1/32 dev eth0")
    with contextlib.ExitStack() as ends:
        if how == "name server":
            (tmp_path / "resolv.conf").write_text("nameserver 172.16.200.1\n")
            under = (
                "unshare",
                "--mount",
                "sh",
                "-c",
                f'mount --bind {tmp_path}/resolv.conf /etc/resolv.conf; exec "$@"',
                "sh",
            )
        elif how.startswith("connection"):
            ends.enter_context(net.other.listen(22))
            ends.enter_context(net.host.connect("172.16.200.1" if how == "connection" else "::ffff:172.16.200.1", 22))
        elif how == "gateway":
            net.host.sh("ip route add 198.51.100.0/24 via 172.16.200.1 dev world onlink")
        assert net.call("network", "create", "lab", under=under, env=env).code == 0
    assert json.loads(net.ok("network", "inspect", "lab"))[0]["IPAM"]["Config"][0]["Subnet"] == "172.17.0.0/16"


def struck(net: Net) -> Path:
    """A container on `lab` whose runtime is killed by SIGKILL. Its record."""
    started = net.start("sh", "-c", "echo ready; sleep 1000", options=["--network", "lab"])
    assert started.line() == "ready"
    (container,) = leases(net)["10.7.0.0/30"].values()
    started.kill()
    started.wait()
    host.wait_until(lambda: not host.contained(), "the container ends")
    return net.networks().parent / "containers" / container


def test_leases_of_the_dead_are_swept(net: Net) -> None:
    """Though no command has looked at the network since: the next to ask for an address does, and `network rm`."""
    net.ok("network", "create", "lab", "--subnet", "10.7.0.0/30")
    net.sleeping("aa", "--network", "lab")
    assert "no address" in net.refused("run", "--rm", "--network", "lab", "test", "true")
    net.ok("rm", "-f", "aa")
    struck(net)
    assert list(leases(net)["10.7.0.0/30"]) == ["10.7.0.2"]
    assert address(net) == "10.7.0.2/30"
    assert leases(net) == {"10.7.0.0/30": {}}
    struck(net)
    net.ok("network", "rm", "lab")


def test_leases_of_records_that_are_gone(net: Net) -> None:
    """Somebody has removed the directory of a damaged record, as he was told to."""
    net.ok("network", "create", "lab", "--subnet", "10.7.0.0/30")
    shutil.rmtree(struck(net))
    net.ok("network", "rm", "lab")
    net.ok("network", "create", "lab", "--subnet", "10.7.0.0/30")
    shutil.rmtree(struck(net))
    assert address(net) == "10.7.0.2/30"


@pytest.mark.timeout(300)
def test_never_the_same_address_twice(net: Net) -> None:
    """Many start at once, and make the network on the way. (MYDOCKER_TEST_FAULTS=all: a hundred.)"""
    started = [net.start("sh", "-c", "ip -4 -o addr show eth0; read _", options=["--network", "bridge", "-i"], stdin=-1)
               for _ in range(MANY)]  # fmt: skip
    got = [one.line().split()[3] for one in started]
    assert sorted(got) == sorted(f"172.16.0.{number}/16" for number in range(2, MANY + 2))
    for one in started:
        assert one.end(b"\n").code == 0
    assert json.loads(net.ok("network", "inspect", "bridge"))[0]["Containers"] == {}
