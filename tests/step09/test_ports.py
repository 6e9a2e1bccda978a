"""Step 9: published ports. Who reaches them from where, what comes through, and who had them before."""

import contextlib
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import host, hostnet
from tests.support.fresh import Fresh
from tests.support.hostnet import HELLO, HERE, LOOPBACK, SERVER, THERE, Net
from tests.support.runtime import Runtime

pytestmark = [pytest.mark.as_root("ports are the host's")]
OURS = pytest.mark.ours_alone("Podman words it differently")


@pytest.fixture
def net(runtime: Runtime, tmp_path: Path) -> Iterator[Net]:
    with hostnet.standing_in(runtime, tmp_path) as made:
        yield made


@pytest.fixture
def python_net(runtime: Runtime, tmp_path: Path) -> Iterator[Net]:
    with hostnet.standing_in(runtime, tmp_path, python=True) as made:
        yield made


def shown(net: Net, name: str) -> list[str]:
    """The published ports of a container, as `inspect` and `ps` show them."""
    (found,) = json.loads(net.ok("inspect", name))
    ports = [
        f"{host['HostIp']}:{host['HostPort']}->{inside}"
        for inside, hosts in found["NetworkSettings"]["Ports"].items()
        for host in hosts
    ]
    row = net.ok("ps", "-f", f"name=^{name}$")
    assert all(port in row for port in ports)
    return ports


def test_a_published_port(python_net: Net, fresh: Fresh) -> None:
    """From the host by 127.0.0.1 and by its own address, from another host, from a container; over tcp and udp.

    Who asks from another host is seen as himself."""
    net, tcp, udp = python_net, fresh.number(1024, 30000), fresh.number(1024, 30000)
    options = ["--network", "bridge", "-p", f"{tcp}:80", "-p", f"{udp}:53/udp", "-p", "127.0.0.1:81:80"]
    server = net.start("python3", "-I", "-S", "-c", SERVER, options=options)
    assert server.line() == "ready"
    assert net.other.ask(HERE, tcp) == THERE.encode()
    assert net.other.ask_udp(HERE, udp, b"echo") == b"echo of " + THERE.encode()
    assert net.other.ask(HERE, 81, patience=0.5) == b"", "that one is for 127.0.0.1 alone"
    for place, port in ((HERE, tcp), (LOOPBACK, tcp), (LOOPBACK, 81)):
        assert re.fullmatch(rb"[\d.]+", net.host.ask(place, port)), (place, port)
    for place in (HERE, LOOPBACK):
        assert net.host.ask_udp(place, udp, b"echo").startswith(b"echo of ")
    asking = f"import socket; print(socket.create_connection(('{HERE}', {tcp}), 5).recv(99).decode())"
    other = net.output("python3", "-I", "-S", "-c", asking, options=["--network", "bridge"])
    assert re.fullmatch(r"[\d.]+", other), "from a container on the same network, by the host's address"
    server.kill()


def test_a_large_transfer(net: Net) -> None:
    """Twenty megabytes each way, checked by their sums, from another host."""
    data = os.urandom(1 << 20) * 20
    sums = [hashlib.sha256(data).hexdigest()] * 2
    script = "nc -l -p 80 > /tmp/got; sha256sum < /tmp/got; nc -l -p 80 < /tmp/got"
    started = net.start("sh", "-c", f"echo ready; {script}", options=["--network", "bridge", "-p", "8080:80"])
    assert started.line() == "ready"
    sent = False
    while not sent:  # until nc is there
        with contextlib.suppress(ConnectionRefusedError), net.other.connect(HERE, 8080) as connected:
            connected.sendall(data)
            sent = True
    assert started.line().split()[0] == sums[0]
    got = b""
    while not got:  # as above
        with contextlib.suppress(ConnectionRefusedError), net.other.connect(HERE, 8080) as connected:
            got = b"".join(iter(lambda: connected.recv(65536), b""))
    assert hashlib.sha256(got).hexdigest() == sums[1]
    assert started.end().code == 0


def test_a_client_that_is_too_early(net: Net) -> None:
    """It is refused until the container's server is there, and never kept waiting by whoever holds the port."""

    def knock() -> bytes:
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection((LOOPBACK, 8080), 10) as client:
                return client.recv(99)

    server = net.start("sh", "-c", "echo hello | nc -l -p 80", options=["--network", "bridge", "-p", "8080:80"])
    assert net.host.inside(knock) == b"hello\n"
    assert server.end().code == 0


@OURS
def test_several_networks_and_hairpins(net: Net, fresh: Fresh) -> None:
    """By the host's address a container reaches its own port, one on its network, and one on another network."""
    net.ok("network", "create", "two")
    ports = (fresh.number(2000, 5000), fresh.number(5001, 9000))
    net.httpd("aa", "-p", f"{ports[0]}:80")
    net.httpd("bb", "-p", f"{ports[1]}:80", "--network", "two")
    for name in ("aa", "bb"):
        for port in ports:
            request = f"printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {HERE} {port} | head -n 1"
            assert "200 OK" in net.inside(name, request), (name, port)


@OURS
def test_a_free_port(net: Net) -> None:
    """HOST left out: one that is free, told by ps and inspect, and held."""
    net.httpd("aa", "-p", "80", "-p", ":80", "-p", "127.0.0.1::81/udp")
    ports = shown(net, "aa")
    assert [re.sub(r":\d+-", ":N-", port) for port in ports] == ["0.0.0.0:N->80/tcp"] * 2 + ["127.0.0.1:N->81/udp"]
    for port in ports[:2]:
        number = int(re.findall(r":(\d+)-", port)[0])
        assert b"200 OK" in net.host.ask(LOOPBACK, number, HELLO)
        with pytest.raises(OSError, match="in use"):
            net.host.listen(number)
    net.ok("stop", "-t", "0", "aa")
    assert "->" not in net.ok("ps", "-a")
    net.host.listen(number).close()


@OURS
def test_ranges_and_any_port(net: Net) -> None:
    net.httpd("aa", "-p", "8001-8003:80-82", "-p", "0:80", "-p", "90-91/udp")
    ports = shown(net, "aa")
    assert [re.sub(r":[1-9]\d{4}-", ":N-", port) for port in ports] == [
        "0.0.0.0:8001->80/tcp",
        "0.0.0.0:N->80/tcp",
        "0.0.0.0:8002->81/tcp",
        "0.0.0.0:8003->82/tcp",
        "0.0.0.0:N->90/udp",
        "0.0.0.0:N->91/udp",
    ]
    for port in (8001, int(re.findall(r":(\d+)-", ports[1])[0])):
        assert b"200 OK" in net.host.ask(LOOPBACK, port, HELLO)


@OURS
def test_a_port_of_a_server_that_has_just_stopped(net: Net) -> None:
    """Its connections are remembered for a minute (TIME_WAIT). Two containers still never get the same port."""
    with net.host.inside(lambda: socket.create_server((HERE, 8090))) as server, net.host.connect(HERE, 8090) as client:
        accepted, _ = server.accept()
        accepted.close()  # first
        client.recv(1)
    assert "TIME-WAIT" in net.host.sh("ss -tan 'sport = :8090'")
    net.httpd("aa", "-p", "8090:80")
    assert b"200 OK" in net.other.ask(HERE, 8090, HELLO)
    assert "container aa" in net.refused("run", "--rm", "-p", "8090:80", "test", "true")


@OURS
def test_a_port_that_is_taken(net: Net) -> None:
    """By another container, by any program, or twice in one command: told before the container begins."""
    net.httpd("aa", "-p", "8080:80", "-p", "127.0.0.1:8082:80", "-p", "8080:80/udp")
    started = net.start("sh", "-c", "echo ready; sleep 1000", options=["--network", "bridge", "-p", "8085:80"])
    assert started.line() == "ready"
    started.kill()
    started.wait()
    host.wait_until(lambda: len(host.contained()) == 1, "the container ends")
    both = net.host.inside(lambda: socket.create_server(("::", 8086), family=socket.AF_INET6, dualstack_ipv6=True))
    with net.host.listen(8081), net.host.listen(8081, socket.SOCK_DGRAM), net.host.listen(8085), both:
        me = f"process {os.getpid()}"
        for port, who in {
            "8080:80": "container aa",
            "127.0.0.1:8080:81": "container aa",
            "8082:80": "container aa",
            "8081:80": me,
            "127.0.0.1:8081:80": me,
            "8081:80/udp": me,
            "8080:81/udp": "container aa",
            "8085:80": me,
            "8086:80": me,
            "192.0.2.77:8083:80": "assign",
        }.items():
            said = net.refused("run", "--name", "bb", "-p", port, "test", "true")
            assert port.split(":")[-2] in said and who in said, (port, said)
    assert "twice" in net.refused("run", "-p", "8084:80", "-p", "8084:81", "test", "true")
    assert net.call("run", "--rm", "-p", "8082:80/udp", "-p", "8081:80", "-p", "8081:80/udp", "test", "true").code == 0
    apart = ["-p", f"{LOOPBACK}:8084:80", "-p", f"{HERE}:8084:81"]
    assert net.call("run", "--rm", *apart, "test", "true").code == 0, "one port of two addresses"
    assert len(net.ok("ps", "-aq").split()) == 1
    assert b"200 OK" in net.host.ask(LOOPBACK, 8080, HELLO)


@OURS
def test_ports_that_mean_nothing(net: Net) -> None:
    nonsense = "65536:80 80:0 80:65536 80-90:80-91 80-90:80 90-80:90-80 0-2:80-82 80-:80 65535-65536:1-2 a:80 80:b"
    nonsense += " -1:80 80:80:80:80 1.2.3:5:80 ::1:5:5 5:6/sctp 5:6/ 5:/tcp"
    for text in [*nonsense.split(), "", " 5:5", "5:5 ", "٣:80", "5:5\n"]:
        if text == "5:6/":  # the protocol left out
            continue
        assert "-p" in net.refused("run", "--rm", f"--publish={text}", "test", "true"), text


@OURS
def test_the_way_to_127_0_0_1_is_closed(net: Net) -> None:
    """route_localnet lets a container send to the host's own 127.0.0.1: the rule that drops it, and that it is it."""
    net.sleeping("aa")
    pid = json.loads(net.ok("inspect", "aa"))[0]["State"]["Pid"]
    (bridge,) = (name for name in net.links() if name.startswith("br-"))
    inside = f"nsenter --net=/proc/{pid}/ns/net"
    script = "ip addr flush dev lo; ip route flush table local type local 127.0.0.0/8;"
    script += " ip route add 127.0.0.1 via 172.16.0.1 src 172.16.0.2;"
    script += " echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet"
    net.host.sh(f"{inside} sh -ec '{script}'")
    with net.host.inside(lambda: socket.create_server((LOOPBACK, 9), backlog=5)) as secret:
        secret.settimeout(5)
        knock = f"{inside} python3 -c 'import socket; socket.create_connection((\"{LOOPBACK}\", 9), 0.5)' 2>&1 || true"
        assert "timed out" in net.host.sh(knock)
        net.host.sh(f"nft flush chain ip {bridge} raw")
        assert net.host.sh(knock) == "", "without the rule the door is open"
