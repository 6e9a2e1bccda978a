"""Step 9: what those next to us may not do: containers to the host, neighbours of the host to both."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import host, hostnet
from tests.support.hostnet import HELLO, HERE, LOOPBACK, SERVER, THERE, Net
from tests.support.runtime import Runtime

pytestmark = [
    pytest.mark.step(9),
    pytest.mark.ours_alone("links and rules are looked at"),
    pytest.mark.as_root("networks are made on the host"),
]
# A router advertisement: "I am a router; addresses here begin with 2001:db8:66::".
ADVERTISE = """
import socket, time
prefix = bytes([3, 4, 64, 0xC0]) + (3600).to_bytes(4, "big") * 2 + bytes(4) + socket.inet_pton(10, "2001:db8:66::")
message = bytes([134, 0, 0, 0, 64, 0]) + (1800).to_bytes(2, "big") + bytes(8) + prefix
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    for _ in range(3):
        for attempt in range(50):
            try:
                raw.sendto(message, ("ff02::1", 0, 0, socket.if_nametoindex("eth0")))
                break
            except OSError:  # until it has an address to send from
                time.sleep(0.1)
        time.sleep(0.2)
"""


@pytest.fixture
def net(runtime: Runtime, tmp_path: Path) -> Iterator[Net]:
    with hostnet.standing_in(runtime, tmp_path) as made:
        yield made


@pytest.fixture
def third(net: Net) -> Iterator[hostnet.Holder]:
    """One more host, on another link."""
    made = hostnet.Holder()
    net.host.sh(f"ip link add lan type veth peer name eth0 netns {made.process.pid}")
    net.host.sh("ip addr add 198.51.100.1/24 dev lan; ip link set lan up")
    made.sh("ip addr add 198.51.100.2/24 dev eth0; ip link set eth0 up; ip route add default via 198.51.100.1")
    net.other.sh(f"ip route add default via {HERE}")
    yield made
    made.end()


def inside(net: Net, name: str) -> str:
    """The words that enter a container's network."""
    return f"nsenter --net=/proc/{json.loads(net.ok('inspect', name))[0]['State']['Pid']}/ns/net"


def test_cve_2020_13401_a_container_cannot_configure_the_host(net: Net, tmp_path: Path) -> None:
    """A container sent router advertisements, and the host took an address and a default route from it. On our bridges
    and their ports IPv6 is switched off; nor does the host listen to redirects from there."""
    net.sleeping("aa")
    (tmp_path / "advertise.py").write_text(ADVERTISE)
    net.host.sh(f"{inside(net, 'aa')} python3 {tmp_path}/advertise.py")
    time.sleep(0.5)
    assert "2001:db8:66" not in net.host.sh("ip -6 addr; ip -6 route")
    assert "ra " not in net.host.sh("ip -6 route")
    for device in net.links():
        assert net.host.sh(f"cat /proc/sys/net/ipv4/conf/{device}/accept_redirects") == "0\n", device
        assert "inet6" not in net.host.sh(f"ip -6 addr show dev {device}"), device


def test_cve_2020_8558_a_port_of_the_loopback_is_for_this_machine(net: Net) -> None:
    """With route_localnet set, a neighbour that addresses its frames to 127.0.0.1 reached what listens there alone.

    Ours sets it on its own bridges only, and the firewall drops what comes to a container from elsewhere."""
    net.httpd("aa", "-p", "127.0.0.1:8070:80", "-p", "192.0.2.1:8071:80")
    assert b"200 OK" in net.host.ask(LOOPBACK, 8070, HELLO)
    assert b"200 OK" in net.other.ask(HERE, 8071, HELLO)
    net.other.sh(
        f"ip addr flush dev lo; ip route flush table local type local 127.0.0.0/8;"
        f" ip route add 127.0.0.1 via {HERE} src {THERE}; ip route add 172.16.0.0/16 via {HERE};"
        f" echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet"
    )
    for address, port in ((LOOPBACK, 8070), (HERE, 8070), ("172.16.0.2", 80), ("172.16.0.1", 8071)):
        assert net.other.ask(address, port, HELLO, patience=0.5) == b"", (address, port)


def reaches(one: hostnet.Holder, address: str) -> bool:
    return "bytes from" in one.sh(f"busybox ping -c 1 -W 1 {address} || true")


def test_the_host_becomes_no_router(net: Net, third: hostnet.Holder) -> None:
    """For its neighbours; containers reach them."""
    net.httpd("aa", "-p", "8080:80")
    assert not reaches(net.other, "198.51.100.2") and not reaches(third, THERE)
    for address in (THERE, "198.51.100.2"):
        assert "0% packet loss" in net.inside("aa", f"ping -c 1 -w 5 {address}")
    assert b"200 OK" in third.ask("198.51.100.1", 8080, HELLO)
    net.host.sh("nft flush ruleset")
    net.ok("network", "create", "one")
    assert not reaches(net.other, "198.51.100.2")


def test_a_router_stays_one(net: Net, third: hostnet.Holder) -> None:
    """Forwarding was on before us: nothing of the host's is changed."""
    net.host.sh("echo 1 > /proc/sys/net/ipv4/ip_forward")
    assert reaches(net.other, "198.51.100.2")
    net.sleeping("aa")
    assert reaches(net.other, "198.51.100.2") and "mydocker" not in net.rules()
    net.ok("rm", "-f", "aa")
    net.ok("network", "rm", "bridge")
    assert net.host.sh("cat /proc/sys/net/ipv4/ip_forward") == "1\n"


def test_a_router_since_the_last_reboot(net: Net, third: hostnet.Holder) -> None:
    """Before that, forwarding was on because of us. Now somebody else has switched it on, and it stays his."""
    net.call("network", "create", "one")
    (bridge,) = (name for name in net.links() if name.startswith("br-"))
    file = net.networks() / "forwarding.json"
    assert len(json.loads(file.read_text())) == 1
    file.write_text(json.dumps({"boot": "another"}))
    net.host.sh(f"ip link delete {bridge}; nft flush ruleset")
    assert net.output("true", options=["--network", "one"]) == ""
    assert reaches(net.other, "198.51.100.2")
    net.ok("network", "rm", "one")
    assert reaches(net.other, "198.51.100.2") and net.rules() == ""


def test_a_kernel_without_ipv6(net: Net) -> None:
    hide = 'mount -t tmpfs none /proc/sys/net/ipv6; exec "$@"'
    under = ("unshare", "--mount", "sh", "-c", hide, "sh")
    assert net.call("run", "--rm", "test", "true", under=under).code == 0


def test_clients_of_udp_reach_who_is_there_now(runtime: Runtime, tmp_path: Path) -> None:
    """Though their port, and with it what the kernel remembers of them, stays the same. Others are left alone."""
    with contextlib.ExitStack() as ends:
        net = ends.enter_context(hostnet.standing_in(runtime, tmp_path, python=True))
        net.call("network", "create", "lab")
        net.ok("network", "create", "bystander")
        clients = []
        for asking, port, place in (
            (net.other, 5355, (HERE, 5353)),
            (net.other, 5356, (HERE, 5353)),
            (net.host, 5357, ("127.0.0.9", 5353)),
            (net.other, 5358, (HERE, 5359)),
        ):
            client = ends.enter_context(asking.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
            client.bind(("", port))
            client.settimeout(5)
            client.connect(place)
            clients.append(client)
        for client in clients:
            with contextlib.suppress(ConnectionRefusedError):
                client.send(b"nobody")
                client.recv(100)
        bystander = ends.enter_context(net.host.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        bystander.sendto(b"nobody", (THERE, 5353))
        for ip in ("172.16.0.7", "172.16.0.8"):
            options = ["--network", "lab", "--ip", ip, "-p", "5353:53/udp", "-p", f"{HERE}:5359:53/udp"]
            server = net.start("python3", "-I", "-S", "-c", SERVER, options=options)
            assert server.line() == "ready"
            for client in clients:
                client.send(b"echo")
                assert client.recv(100).startswith(b"echo of "), (ip, client)
            server.kill()
            server.wait()
            host.wait_until(lambda: not host.contained(), "the container ends")
            assert net.ok("ps", "-q") == ""
        if Path("/proc/net/nf_conntrack").exists():  # a kernel may not show them
            flows = net.host.sh("cat /proc/net/nf_conntrack")
            assert f"dst={THERE}" in flows and not re.search("dst=(192.0.2.1|127.0.0.9) .*dport=53", flows)
