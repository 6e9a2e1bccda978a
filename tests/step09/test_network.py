"""Step 9: a network. What a container sees of it, who reaches whom, and that the host gets everything back.

All of it happens on a host of the test's own: see hostnet.py.
"""

import fcntl
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import host, hostnet, image, strace
from tests.support.fresh import Fresh
from tests.support.hostnet import HERE, THERE, Net
from tests.support.image import folder, link
from tests.support.runtime import Missing, Runtime
from tests.support.store import shell

pytestmark = [
    pytest.mark.ours_alone("Podman has names by a DNS server of its own, and other words"),
    pytest.mark.as_root("networks are made on the host"),
]


@pytest.fixture
def net(runtime: Runtime, tmp_path: Path) -> Iterator[Net]:
    with hostnet.standing_in(runtime, tmp_path) as made:
        yield made


def addresses(net: Net, name: str) -> dict[str, str]:
    """What `inspect` says of a container: its address on each network."""
    (found,) = json.loads(net.ok("inspect", name))
    return {network: each["IPAddress"] for network, each in found["NetworkSettings"]["Networks"].items()}


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


# ---- what it looks like from inside ----------------------------------------------------------------------------------


def test_from_inside(net: Net) -> None:
    """Address, default route, lo, the three files; and the world, which sees the host's address."""
    script = "ip -4 -o addr; echo --; ip route; echo --; cat /etc/hostname; echo --; cat /etc/hosts; ls -l /etc"
    seen, route, hostname, hosts = net.output("sh", "-c", script).split("--\n")
    assert re.search(r"1: lo +inet 127\.0\.0\.1/8", seen)
    assert re.search(r"eth0 +inet 172\.16\.0\.2/16", seen)
    assert lines(route)[0][:3] == ["default", "via", "172.16.0.1"]
    assert re.fullmatch(r"[0-9a-f]{12}\n", hostname)
    assert ["127.0.0.1", "localhost"] in lines(hosts)
    assert ["172.16.0.2", hostname.strip(), "#", "on", "bridge"] in lines(hosts)
    with net.other.listen(7) as listening:
        asking = net.start("sh", "-c", f"echo hi | nc -w 5 {THERE} 7", options=["--network", "bridge"])
        connection, (client, _) = listening.accept()
        with connection:
            assert (connection.recv(10), client) == (b"hi\n", HERE)
        asking.end()
    assert net.output("hostname", options=["--network", "bridge", "--hostname", "box"]) == "box"


def test_forwarding_is_switched_on_as_needed(net: Net) -> None:
    switch = "cat /proc/sys/net/ipv4/ip_forward"
    assert net.output("cat", "/proc/sys/net/ipv4/ip_forward", options=["--network", "none"]) in "01"
    assert net.host.sh(switch) == "0\n"
    created = net.call("network", "create", "one")
    assert b"ip_forward" in created.err and created.err.count(b"\n") == 1
    two = net.call("network", "create", "two")
    assert two.err == b""
    assert net.host.sh(switch) == "1\n"
    assert net.host.sh("cat /proc/sys/net/ipv6/conf/all/forwarding") == "0\n"
    net.ok("network", "rm", "one")
    assert net.host.sh(switch) == "1\n"
    net.ok("network", "rm", two.text[:8])
    assert net.host.sh(switch) == "0\n"


@pytest.mark.parametrize(
    ("text", "real", "expected"),
    [
        ("nameserver 127.0.0.53\n", "nameserver ::1\n", ""),
        ("nameserver 192.0.2.N\nsearch é\n", "", "nameserver 192.0.2.N\nsearch é\n"),  # in Latin-1: no UTF-8
        ("nameserver 127.0.0.53\nsearch x\n", "nameserver 192.0.2.N\nsearch y\n", "nameserver 192.0.2.N\nsearch y\n"),
        ("nameserver\nnameserver\t192.0.2.N\nnameserver 127.0.0.1\n", "", "nameserver\nnameserver\t192.0.2.N\n"),
    ],
)  # fmt: skip
def test_resolv_conf(net: Net, tmp_path: Path, text: str, real: str, expected: str, fresh: Fresh) -> None:
    """A stub resolver of the host's would be nobody inside; the image's own file, here a dead link, does not matter."""
    last = f".{fresh.number(1, 254)}"
    text, real, expected = (each.replace(".N", last) for each in (text, real, expected))
    (tmp_path / "resolv.conf").write_text(text, "latin-1")
    (tmp_path / "real").write_text(real)
    image.write(tmp_path / "link.tar", [*shell(), folder("etc"), link("etc/resolv.conf", "../run/stub-resolv.conf")])
    net.ok("import", str(tmp_path / "link.tar"), "link")
    script = (
        f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && mount -t tmpfs none /run &&"
        f' mkdir -p /run/systemd/resolve && cp {tmp_path}/real /run/systemd/resolve/resolv.conf && exec "$@"'
    )
    under = ("unshare", "--mount", "sh", "-c", script, "sh")
    for name in ("test", "link"):
        result = net.call("run", "--rm", name, "cat", "/etc/resolv.conf", under=under)
        assert result.out.decode("latin-1") == expected
        assert (b"name server" in result.err) == (expected == ""), "nobody is left without a word"
    for network, seen in (("none", ""), ("host", text)):
        words = ["run", "--rm", "--network", network, "test", "cat", "/etc/resolv.conf"]
        assert net.call(*words, under=under).out.decode("latin-1") == seen


@pytest.mark.step(8, until=8)
def test_there_was_nothing_but_lo(runtime: Runtime) -> None:
    assert runtime.refusal(runtime.run("true", options=["--network", "bridge"]))
    assert runtime.output("sh", "-c", "ip -o link | grep -v -e tunl -e sit -e gre -e ip6 -e ip_vti | wc -l") == "1"


def test_none_and_host(net: Net, fresh: Fresh) -> None:
    address = f"198.18.{fresh.number(1, 250)}.{fresh.number(1, 250)}"
    net.host.sh(f"ip addr add {address}/32 dev world")
    assert "eth0" not in net.output("ip", "-o", "link", options=["--network", "none"])
    assert address in net.output("ip", "-o", "addr", options=["--network", "host"])
    assert net.output("cat", "/etc/hosts", options=["--network", "host"]) == Path("/etc/hosts").read_text().rstrip("\n")
    assert net.links() == set(), "neither needs a bridge"
    net.sleeping("hosted", "--network", "host")
    assert HERE in net.inside("hosted", "ip -o addr")
    net.ok("network", "create", "one")
    assert "host" in net.refused("network", "connect", "one", "hosted")
    for network in ("none", "host"):
        assert "--ip" in net.refused("run", "--network", network, "--ip", "172.16.0.9", "test", "true")
        warned = net.call("run", "--rm", "--network", network, "-p", "8080:80", "test", "true")
        assert warned.code == 0 and warned.err.count(b"\n") == 1 and b"-p" in warned.err, warned.err
    assert "nonesuch" in net.refused("run", "--network", "nonesuch", "test", "true")
    assert len(net.ok("ps", "-aq").split()) == 1, "nothing was begun"


def test_who_is_on_no_network_waits_for_nobody(net: Net) -> None:
    """Neither at the start nor at the end, while another command changes networks."""
    net.ok("network", "create", "lab")
    held = os.open(net.networks(), os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        assert net.output("echo", "hi", options=["--network", "none"]) == "hi"
    finally:
        os.close(held)


def test_a_monitor_that_is_killed_before_there_is_a_network(net: Net) -> None:
    """The command is not begun without one."""
    net.ok("network", "create", "lab")
    held = os.open(net.networks(), os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    words = [*net.runtime.command, "run", "-d", "--network", "lab", "test", "sleep", "1000"]
    slow = [found, "-f", "-qq", "-o", "/dev/null"] if (found := shutil.which("strace")) else []  # and ends with all
    started = net.runtime.popen(words, under=[*net.under, *slow])
    host.wait_until(host.contained, "it is born")
    parent = host.init().parent
    waiting = rf"-> FLOCK +ADVISORY +WRITE +{parent} "
    host.wait_until(lambda: re.search(waiting, Path("/proc/locks").read_text()), "it waits for its network")
    next(one for one in host.descendants() if one.pid == parent).signal(signal.SIGKILL)
    os.close(held)
    assert "killed" in net.runtime.refusal(started.end())
    host.wait_until(lambda: not host.contained(), "it ends too")


def test_a_network_after_none(net: Net) -> None:
    """The container is taken off it at its end, although it was not begun there."""
    net.ok("network", "create", "lab")
    started = net.start("sh", "-c", "echo ready; read _", options=["--name", "aa", "--network", "none", "-i"], stdin=-1)
    assert started.line() == "ready"
    net.ok("network", "connect", "lab", "aa")
    assert started.end(b"\n").code == 0
    (lab,) = json.loads(net.ok("network", "inspect", "lab"))
    assert lab["Containers"] == {}


def test_a_container_of_step_8(net: Net) -> None:
    """Its record says nothing of networks; it can come to one, and leave it."""
    container = net.sleeping("aa", "--network", "none")
    record = net.networks().parent / "containers" / container / "config.json"
    noted = json.loads(record.read_text())
    record.write_text(json.dumps({key: noted[key] for key in noted if key not in ("networks", "ip", "ports")}))
    net.ok("network", "create", "lab")
    net.ok("network", "connect", "lab", "aa")
    assert "172.16.0.2" in net.inside("aa", "ip -4 -o addr")
    assert "aa" in net.ok("ps", "--filter", "network=lab") and addresses(net, "aa") == {"lab": "172.16.0.2"}
    net.ok("network", "disconnect", "lab", "aa")
    net.ok("rm", "-f", "aa")


# ---- several containers, several networks ----------------------------------------------------------------------------


def test_names_come_and_go(net: Net, fresh: Fresh) -> None:
    net.ok("network", "create", "one")
    last = fresh.number(20, 250)
    net.sleeping("aa", "--network", "one")
    net.httpd("bb", "--network", "one")
    assert "172.16.0.3" in net.inside("aa", "ping -c 1 -w 5 bb")
    assert "PING aa" in net.inside("bb", "ping -c 1 -w 5 aa")
    fetch = "printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' | nc -w 5 bb 80 | tail -n 1"
    assert net.inside("aa", fetch) == net.inside("bb", "cat /etc/hostname")
    net.ok("rm", "-f", "bb")
    assert "bb" not in net.inside("aa", "cat /etc/hosts").split()
    net.sleeping("bb", "--network", "one", "--ip", f"172.16.0.{last}")
    assert f"(172.16.0.{last})" in net.inside("aa", "ping -c 1 -w 5 bb")
    net.sleeping("cc")
    net.sleeping("dd")
    assert "dd" not in net.inside("cc", "cat /etc/hosts").split(), "Docker's network `bridge` has no names"


def test_our_lines_in_hosts(net: Net) -> None:
    """No name is there twice; and who is on the network without names is not written to when somebody comes."""
    net.ok("network", "create", "one")
    for name in ("aa", "bb"):
        net.sleeping(name, "--network", "one")
    names = [line[1:-3] for line in lines(net.inside("aa", "cat /etc/hosts")) if "#" in line]
    assert [len(each) for each in names] == [len({*each}) for each in names] == [2, 2]
    net.sleeping("cc")
    before = net.inside("cc", "stat -c %y /etc/hosts")
    net.sleeping("dd")
    assert net.inside("cc", "stat -c %y /etc/hosts") == before


def test_lines_of_the_containers_own_in_hosts(net: Net, fresh: Fresh) -> None:
    """They stay, and what it has removed, when a neighbour comes and goes."""
    mine = fresh.word()
    net.ok("network", "create", "one")
    net.sleeping("aa", "--network", "one")
    net.inside("aa", "sed -i /ip6/d /etc/hosts 2>&- || grep -v ip6 /etc/hosts > /tmp/h; cat /tmp/h > /etc/hosts")
    net.inside("aa", f"echo 192.0.2.9 {mine} >> /etc/hosts")
    before = net.inside("aa", "cat /etc/hosts")
    assert mine in before and "ip6" not in before
    net.sleeping("bb", "--network", "one")
    assert {*lines(before)[0]} == {"127.0.0.1", "localhost"}
    during = net.inside("aa", "cat /etc/hosts")
    assert "\tbb " in during and sorted([*lines(before), lines(during)[-1]]) == sorted(lines(during))
    net.ok("rm", "-f", "bb")
    assert sorted(lines(net.inside("aa", "cat /etc/hosts"))) == sorted(lines(before))


def test_too_large_a_hosts_file(net: Net) -> None:
    """A container may write there what it likes; the runtime does not read without end, and leaves it as it is."""
    net.ok("network", "create", "one")
    net.sleeping("aa", "--network", "one")
    net.inside("aa", "head -c 2000000 /dev/zero >> /etc/hosts")
    before = net.inside("aa", "md5sum /etc/hosts")
    net.sleeping("bb", "--network", "one")
    assert net.inside("aa", "md5sum /etc/hosts") == before
    assert "\taa " in net.inside("bb", "cat /etc/hosts")


def test_files_of_the_users_own_in_etc(net: Net, tmp_path: Path, fresh: Fresh) -> None:
    """They go before ours; and ours can be read by every user, whatever the umask."""
    own, word, on = tmp_path / "own", fresh.word(), ["--network", "bridge"]
    own.write_text(word)
    assert net.output("cat", "/etc/hosts", options=[*on, "-v", f"{own}:/etc/hosts"]) == word
    script = "cat /etc/hosts /etc/hostname /etc/resolv.conf > /dev/null && echo read"
    assert net.output("sh", "-c", script, options=[*on, "-u", "1000"], umask=0o077) == "read"


def test_networks_do_not_reach_each_other(net: Net) -> None:
    for name in ("one", "two"):
        net.ok("network", "create", name)
        net.httpd(f"in-{name}", "--network", name)
    net.sleeping("beside", "--network", "two")
    (one,), (two,) = addresses(net, "in-one").values(), addresses(net, "in-two").values()
    assert net.inside("beside", f"ping -c 1 -w 5 {two}")
    for asking, asked in (("in-one", two), ("in-two", one)):
        assert "100% packet loss" in net.inside(asking, f"ping -c 1 -W 1 {asked} || true")
    # Nor does another host that guesses the way.
    net.other.sh(f"ip route add 172.16.0.0/12 via {HERE}")
    request = b"GET /hostname HTTP/1.0\r\n\r\n"
    assert b"200 OK" in net.host.ask(one, 80, request)
    assert net.other.ask(one, 80, request, patience=0.5) == b""


def test_on_several_networks(net: Net, fresh: Fresh) -> None:
    """The way out moves on when a container leaves the first; and it can come back."""
    ip = f"172.17.0.{fresh.number(9, 250)}"
    for name in ("one", "two"):
        net.ok("network", "create", name)
    net.sleeping("both", "--network", "one")
    net.sleeping("other", "--network", "two")
    net.ok("network", "connect", "two", "both", "--ip", ip)
    assert addresses(net, "both") == {"one": "172.16.0.2", "two": ip}
    assert f"({ip})" in net.inside("other", "ping -c 1 -w 5 both")
    assert "on two already" in net.refused("network", "connect", "two", "both")

    def way_out() -> str:
        return net.inside("both", f"ip route get {THERE} | head -n 1; ping -c 1 -w 5 {THERE} | tail -n 2").split()[2]

    net.other.sh("ip route add default via 192.0.2.1")
    assert way_out() == "172.16.0.1"
    net.ok("network", "disconnect", "one", "both")
    assert way_out() == "172.17.0.1"
    assert addresses(net, "both") == {"two": ip}
    assert "172.16.0.2" not in net.inside("both", "cat /etc/hosts").split()
    net.ok("network", "connect", "one", "both")
    assert way_out() == "172.16.0.1"
    assert {*re.findall(r"eth\d", net.inside("both", "ip -o addr"))} == {"eth0", "eth1"}
    for name in ("one", "two"):
        net.ok("network", "disconnect", name, "both")
    assert "eth" not in net.inside("both", "ip -o addr")
    assert "is not on one" in net.refused("network", "disconnect", "one", "both")
    for words in (["connect", "nonesuch", "both"], ["connect", "one", "nobody"], ["disconnect", "nonesuch", "both"]):
        assert "no such" in net.refused("network", *words)
    net.ok("stop", "-t", "0", "both")
    assert "not running" in net.refused("network", "connect", "one", "both")


def test_two_networks_from_the_start(net: Net, fresh: Fresh) -> None:
    ip = f"172.17.0.{fresh.number(9, 250)}"
    for name in ("one", "two"):
        net.ok("network", "create", name)
    look = "ip -4 -o addr; ip route"
    seen = net.output("sh", "-c", look, options=["--network", "two", "--network", "one", "--ip", ip])
    assert re.search(rf"eth0 +inet {re.escape(ip)}/16 brd 172\.17\.255\.255", seen)
    assert re.search(r"eth1 +inet 172\.16\.0\.2/16", seen) and "default via 172.17.0.1" in seen
    for words in (["one", "none"], ["host", "one"], ["one", "one"]):
        options = [f"--network={name}" for name in words]
        assert "--network" in net.refused("run", "--rm", *options, "test", "true")


def test_ports_follow_their_container(net: Net) -> None:
    """To another network, and back; what is shown is true meanwhile."""
    for name in ("one", "two"):
        net.ok("network", "create", name)
    options = ["--network", "one", "-p", "8080:80", "-p", "8081:80"]
    net.httpd("aa", *options)

    def answers() -> bool:
        seen = {b"200 OK" in net.host.ask(where, 8080, b"GET /hostname HTTP/1.0\r\n\r\n", 0.5)
                for where in (HERE, "127.0.0.1")} | {b"200 OK" in net.other.ask(
                    HERE, 8081, b"GET /hostname HTTP/1.0\r\n\r\n", 0.5)}  # fmt: skip
        shown = json.loads(net.ok("inspect", "aa"))[0]["NetworkSettings"]["Ports"]
        assert len(seen) == 1 and seen == {"0.0.0.0:8080->80/tcp" in net.ok("ps")} == {bool(shown)}
        return seen.pop()

    assert answers()
    for command, network, open_then in (
        ("disconnect", "one", False),
        ("connect", "one", True),
        ("connect", "two", True),
        ("disconnect", "one", True),
        ("connect", "one", True),
        ("disconnect", "two", True),
        ("disconnect", "one", False),
        ("connect", "two", True),
        ("connect", "one", True),
    ):
        net.ok("network", command, network, "aa")
        assert answers() == open_then, (command, network)
    assert net.rules().count("dnat to") == net.rules().count("dnat to 172.17.0.2") == 2, "to eth0"


def test_ordinary_users_may_ping_and_serve(runtime: Runtime, tmp_path: Path) -> None:
    """Ports below 1024 and sockets for ping are not root's alone in a container's own network."""
    script = """import socket
socket.create_server(("", 80))
socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)"""
    with hostnet.standing_in(runtime, tmp_path, python=True) as net:
        for network in ("bridge", "none"):
            options = ["--network", network, "-u", "1000"]
            assert net.output("python3", "-I", "-S", "-c", script, options=options) == ""


def test_a_connection_that_fails_leaves_nothing(net: Net) -> None:
    net.ok("network", "create", "one")
    net.sleeping("aa", "--network", "none")
    before = net.links()
    pid = json.loads(net.ok("inspect", "aa"))[0]["State"]["Pid"]
    host.wait_until(lambda: Path(f"/proc/{pid}/ns/net").exists(), "it runs")
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "link"]
    net.host.sh(" ".join([*inside, "add", "eth0", "type", "bridge"]))  # what we want to call ours
    assert "File exists" in net.refused("network", "connect", "one", "aa")
    assert (net.links(), addresses(net, "aa")) == (before, {})
    net.host.sh(" ".join([*inside, "delete", "eth0"]))
    net.ok("network", "connect", "one", "aa")
    assert addresses(net, "aa") == {"one": "172.16.0.2"}


def test_a_container_that_goes_takes_nobody_with_it(net: Net) -> None:
    """The bridge keeps its Ethernet address, which the others remember, whoever is plugged in."""
    net.sleeping("aa")
    (bridge,) = (name for name in net.links() if name.startswith("br-"))
    look = f"cat /proc/sys/net/ipv4/ip_forward; ip -o link show {bridge} | grep -o 'mtu [0-9]*\\|link/ether [0-9a-f:]*'"
    before = net.host.sh(look)
    net.sleeping("bb")
    net.ok("rm", "-f", "aa")
    assert net.host.sh(look) == before
    assert "0% packet loss" in net.inside("bb", f"ping -c 1 -w 5 {THERE}")
    net.ok("rm", "-f", "bb")
    assert net.host.sh(look) == before


# ---- create, ls, inspect, rm -----------------------------------------------------------------------------------------


def test_networks_are_listed_shown_and_removed(net: Net, fresh: Fresh) -> None:
    name, ten = fresh.word(), f"10.{fresh.number(1, 254)}.{fresh.number(1, 254)}"
    assert net.ok("network", "ls").split() == ["NETWORK", "ID", "NAME", "DRIVER", "SUBNET"]
    id = net.ok("network", "create", name, "--subnet", f"{ten}.0/24", "--driver", "bridge")
    assert lines(net.ok("network", "ls"))[1:] == [[id, name, "bridge", f"{ten}.0/24"]]
    assert net.ok("network", "ls", "-q") == id
    assert net.call("run", "--name", "bb", "--network", name, "test", "true").code == 0
    assert "bb" in net.ok("ps", "-a", "--filter", f"network={name}"), "though it has ended"
    container = net.sleeping("aa", "--network", name)
    (shown,) = json.loads(net.ok("network", "inspect", name))
    assert shown["IPAM"]["Config"] == [{"Subnet": f"{ten}.0/24", "Gateway": f"{ten}.1"}]
    assert shown["Containers"][container]["IPv4Address"] == f"{ten}.2/24"
    assert shown["Containers"][container]["MacAddress"] in net.inside("aa", "ip link show eth0")
    result = net.call("network", "rm", "nonesuch", name)
    assert result.code == 1 and all(part in result.err for part in (b"nonesuch", b"on it: aa"))
    net.ok("rm", "-f", "aa")
    assert net.call("network", "rm", "").code == 1, "nor is that the beginning of all ids"
    assert net.ok("network", "rm", name) == name
    assert net.links() == set() and net.rules() == ""


def test_the_file_of_a_network(net: Net) -> None:
    net.ok("network", "create", "lab", "--subnet", "10.7.0.0/24")
    assert json.loads((net.networks() / "lab.network.json").read_text())["subnet"] == "10.7.0.0/24"
    net.ok("network", "rm", "lab")
    assert [*net.networks().glob("*network.json")] == []


def test_the_default_network_before_its_first_use(net: Net) -> None:
    (shown,) = json.loads(net.call("network", "inspect", "bridge").out)
    assert (shown["Name"], shown["Containers"]) == ("bridge", {})
    net.sleeping("aa", "--network", "none")
    net.ok("network", "rm", "bridge")
    assert net.call("network", "connect", "bridge", "aa").code == 0


def test_networks_that_cannot_be(net: Net) -> None:
    net.ok("network", "create", "lab")
    for name in ("lab", "none", "host", "", "..", "a/b", "-x", "a" * 200, "ä"):
        assert "network" in net.refused("network", "create", "--", name)
    assert "bridge" in net.refused("network", "create", "x", "--driver", "macvlan")
    assert net.ok("network", "ls", "-q").count("\n") == 0


@pytest.mark.parametrize("place", ["/proc/sys", "/proc/sys/net/ipv4/ip_forward"])
def test_a_network_that_cannot_be_finished(net: Net, place: str) -> None:
    """What the kernel refuses at the end, as in a container of Docker's, is undone from the beginning."""
    script = f'mount --bind {place} {place}; mount -o remount,bind,ro {place}; exec "$@"'
    assert place in net.refused("network", "create", "lab", under=("unshare", "--mount", "sh", "-c", script, "sh"))
    assert net.links() == set() and net.ok("network", "ls", "-q") == ""
    assert net.call("network", "create", "lab").code == 0
    net.ok("network", "rm", "lab")
    assert net.rules() == ""


def test_the_library_for_rules_is_missing(net: Net) -> None:
    """One line says what to install; nothing is left, and what needs no network works."""
    hide = (
        'mount --bind /dev/null "$(ldconfig -p | sed -n "s/.*libnftables.so.1.*=> //p" | xargs readlink -f)"; exec "$@"'
    )
    under = ("unshare", "--mount", "sh", "-c", hide, "sh")
    assert "libnftables1" in net.refused("network", "create", "lab", under=under)
    assert "libnftables1" in net.refused("run", "--rm", "test", "true", under=under)
    assert net.call("run", "--rm", "--network", "none", "test", "true", under=under).code == 0
    assert net.links() == set() and net.ok("network", "ls", "-q") == ""


# ---- everything is given back ----------------------------------------------------------------------------------------


def given_back(net: Net) -> bool:
    """Nobody is on the network any more: only the bridge and its rules are left."""
    (shown,) = json.loads(net.ok("network", "inspect", "bridge"))
    return (
        shown["Containers"] == {}
        and not any(one.startswith("veth") for one in net.links())
        and "dnat to" not in net.rules()
    )


@pytest.mark.parametrize("end", ["exit", "failure", "stop", "kill", "rm"])
def test_the_end_gives_everything_back(net: Net, end: str) -> None:
    port = ["-p", "8080:80"]
    if end == "exit":
        assert net.call("run", *port, "test", "false").code == 1
    elif end == "failure":
        assert net.call("run", *port, "test", "nonesuch").code == 127
    else:
        net.sleeping("aa", *port)
        assert not given_back(net)
        words = {"stop": ["stop", "-t", "0"], "kill": ["kill"], "rm": ["rm", "-f"]}[end]
        net.ok(*words, "aa")
        net.call("wait", "aa")
    assert given_back(net)
    net.host.listen(8080).close()


def test_a_killed_monitor(net: Net) -> None:
    """The runtime in the foreground is struck by SIGKILL: the next command takes away what it has left."""
    started = net.start("sh", "-c", "echo ready; sleep 1000", options=["--network", "bridge", "-p", "8080:80"])
    assert started.line() == "ready"
    started.kill()
    started.wait()
    host.wait_until(lambda: not host.contained(), "the container ends")
    assert net.ok("ps", "-q") == ""
    assert given_back(net)


@pytest.mark.long
@pytest.mark.timeout(200)
def test_the_runtime_is_killed_at_any_call(net: Net, tmp_path: Path) -> None:
    """While the first network is made and a container connected. The next run finds it whole, and works."""
    try:
        strace.program()
    except Missing as missing:
        pytest.skip(str(missing))
    trace, words = tmp_path / "state/trace", ["run", "--rm", "-p", "8080:80", "test", "true"]
    assert net.call(*words, under=strace.recording(trace)).code == 0
    net.ok("network", "rm", "bridge")
    moments = [point for point in strace.points(trace) if not point.inside and point.call.name in ("sendto", "rename")]
    assert len(moments) > 20
    for point in moments[:: max(1, len(moments) // 8)]:
        assert net.call(*words, under=point.sabotage("signal=KILL")).code in (0, 137), point
        asked = "ip route | head -n 1; ping -c 1 -w 5 192.0.2.2"
        assert net.call("run", "--rm", "test", "sh", "-c", asked).code == 0, point
        rules = net.rules()
        net.ok("network", "rm", "bridge")
        assert net.links() == set() and net.rules() == "", point
        assert [path.name for path in net.networks().iterdir()] == [], point
        assert rules.count("masquerade") == 3 and rules.count(" drop\n") == 3, point


@pytest.mark.long
@pytest.mark.parametrize(("command", "call"), [("connect", "sendmsg"), ("disconnect", "sendto")])
def test_a_change_that_is_killed(net: Net, command: str, call: str) -> None:
    """What is shown of the ports is true as soon as somebody uses the network; and the end gives them back."""
    try:
        words = [strace.program(), "-f", "-qq", "-o", "/dev/null", "-e"]
    except Missing as missing:
        pytest.skip(str(missing))
    net.ok("network", "create", "one")
    for count in range(1, 5):
        net.httpd("aa", "--network", "one", "-p", "8080:80")
        if command == "connect":
            net.ok("network", "disconnect", "one", "aa")
        net.call("network", command, "one", "aa", under=[*words, f"inject={call}:signal=KILL:when={count}"])
        assert net.output("true", options=["--network", "one"]) == ""
        if command == "disconnect":
            net.call("network", command, "one", "aa")  # once more: it is on record until all is done
        answers = b"200 OK" in net.host.ask("127.0.0.1", 8080, b"GET /hostname HTTP/1.0\r\n\r\n", 0.5)
        assert answers == ("8080" in net.ok("ps")), count
        net.ok("rm", "-f", "aa")
        assert "dnat to" not in net.rules(), count


@pytest.mark.parametrize("broken", ["one", "two"])
def test_what_cannot_be_undone_stops_nothing_else(net: Net, broken: str) -> None:
    """A container ends, and its endpoint on one network cannot be taken away. That on the other is."""
    for name in ("one", "two"):
        net.ok("network", "create", name)
    net.sleeping("aa", "--network", "one", "--network", "two")
    record, other = (net.networks() / f"{name}.network.json" for name in sorted(["one", "two"], key=broken.__ne__))
    whole = record.read_text()
    record.write_text(whole.replace('"driver": "bridge"', '"driver": "vlan"'))
    net.call("stop", "-t", "0", "aa")
    host.wait_until(lambda: json.loads(other.read_text())["endpoints"] == {}, "it is off the other")
    record.write_text(whole)
    assert net.output("true", options=["--network", broken]) == ""
    assert json.loads(record.read_text())["endpoints"] == {}


def test_after_a_reboot(net: Net) -> None:
    """On disk there is a network, in the kernel nothing: its next use restores it."""
    net.ok("network", "create", "lab", "--subnet", "10.7.0.0/24")
    (bridge,), rules = net.links(), net.rules()
    net.host.sh(f"ip link delete {bridge}; nft flush ruleset; echo 0 > /proc/sys/net/ipv4/ip_forward")
    seen = net.output("sh", "-c", f"ip -4 -o addr; ping -c 1 -w 5 {THERE}", options=["--network", "lab"])
    assert "10.7.0.2/24" in seen
    assert net.links() == {bridge} and net.rules() == rules
    net.host.sh(f"ip link delete {bridge}; nft flush ruleset")
    net.ok("network", "rm", "lab")


def test_somebody_flushes_all_rules_and_deletes_the_bridge(net: Net) -> None:
    """The next container brings them back, with the ports and cables of the others."""
    net.httpd("aa", "-p", "8080:80")
    before = net.rules()
    (bridge,) = (name for name in net.links() if name.startswith("br-"))
    net.host.sh(f"nft flush ruleset; ip link delete {bridge}")
    assert net.output("true") == ""
    assert sorted(net.rules().split("table ")) == sorted(before.split("table "))
    assert b"200 OK" in net.host.ask("127.0.0.1", 8080, b"GET /hostname HTTP/1.0\r\n\r\n")
    net.ok("rm", "-f", "aa")
    net.host.sh(f"ip link set {bridge} down")
    assert "0% packet loss" in net.output("ping", "-c", "1", "-w", "5", THERE)
    net.host.sh("nft flush ruleset")
    net.ok("network", "rm", "bridge")
    assert net.host.sh("cat /proc/sys/net/ipv4/ip_forward") == "0\n"


def test_two_stores_on_one_host(net: Net, tmp_path: Path) -> None:
    """They do not know of each other, and get on: subnets, bridges, and who switches forwarding off."""
    other = {"MYDOCKER_ROOT": str(tmp_path / "state/other")}
    net.call("network", "create", "lab")
    assert net.call("network", "create", "lab", env=other).code == 0
    assert {row[3] for row in lines(net.ok("network", "ls"))[1:]} == {"172.16.0.0/16"}
    assert {row[3] for row in lines(net.ok("network", "ls", env=other))[1:]} == {"172.17.0.0/16"}
    net.ok("network", "rm", "lab")
    assert net.host.sh("cat /proc/sys/net/ipv4/ip_forward") == "1\n"
    assert len(net.links()) == 1
    net.ok("network", "rm", "lab", env=other)
    assert net.host.sh("cat /proc/sys/net/ipv4/ip_forward") == "0\n" and net.rules() == ""


# ---- other people's rules --------------------------------------------------------------------------------------------

DOCKERS = """
table ip filter {
    chain FORWARD {
        type filter hook forward priority 0; policy drop;
        iifname "docker0" accept comment "not ours"
        jump USER
    }
    chain USER {
        return
    }
}
table ip6 filter {
    chain FORWARD {
        type filter hook forward priority 0; policy drop;
    }
}
"""


def load(net: Net, tmp_path: Path, rules: str) -> str:
    (tmp_path / "rules").write_text(rules)
    net.host.sh(f"nft -f {tmp_path}/rules")
    return net.rules()


def test_where_docker_drops_what_is_forwarded(net: Net, tmp_path: Path) -> None:
    """Ours still works; two rules stand before the others as long as the network does, the others stay as they are."""
    before = load(net, tmp_path, DOCKERS)
    for _ in range(2):
        words = ["run", "--rm", "test", "ping", "-c", "1", "-w", "5", THERE]
        assert "0% packet loss" in net.ok(*words), "and nothing is said, of IPv6 neither"
    assert net.rules().count('comment "mydocker br-') == 2
    kept = [line for line in net.rules().splitlines() if "mydocker br-" not in line]
    assert "\n".join(kept).startswith(before.rstrip()), "untouched, in their order"
    net.httpd("aa", "-p", "8080:80")
    assert b"200 OK" in net.other.ask(HERE, 8080, b"GET /hostname HTTP/1.0\r\n\r\n")
    net.ok("rm", "-f", "aa")
    net.ok("network", "rm", "bridge")
    assert net.rules() == before


@pytest.mark.parametrize("how", ["policy drop;", "ct state established accept; counter reject;", "drop;"])
def test_where_another_firewall_drops_it(net: Net, tmp_path: Path, how: str) -> None:
    """A line says what blocks it: no rule of ours could help, as a packet must pass every chain. As firewalld."""
    ruleset = f"table inet fence {{\n chain gate {{\n type filter hook forward priority 10; {how}\n }}\n}}\n"
    before = load(net, tmp_path, ruleset)
    net.call("network", "create", "lab")
    result = net.call("run", "--rm", "--network", "lab", "test", "true")
    assert result.code == 0 and result.err.count(b"\n") == 1
    assert b"inet fence" in result.err and b"gate" in result.err and b"lab" in result.err
    net.call("network", "rm", "lab")
    counted = r"packets \d+ bytes \d+"
    assert re.sub(counted, "", net.rules()) == re.sub(counted, "", before)


def test_rules_of_the_older_iptables(net: Net) -> None:
    """Nobody sees them through nftables: a line says that they may be in the way, when the network is made."""
    if not shutil.which("iptables-legacy"):
        pytest.skip("iptables-legacy is not installed")
    net.host.sh("iptables-legacy -P FORWARD DROP")
    made = net.call("network", "create", "lab")
    assert b"iptables-legacy -I FORWARD" in made.err and b"lab" in made.err
    net.host.sh("iptables-legacy -P FORWARD ACCEPT")


# ---- --explain -------------------------------------------------------------------------------------------------------


def commands(told: str) -> list[str]:
    """What was told of links and rules, and of files below /proc/sys/net, as a shell takes it; not of their end."""
    lines = "".join(re.findall(r"^\[runtime\] (.*\n)", told, re.MULTILINE)).partition("ip link delete")[0]
    wanted = r"^((?:ip|nsenter) .*|echo \S+ > /proc/sys/net/.*|nft '.*|nft -f - <<'END'\n(?:.*\n)*?END)$"
    return re.findall(wanted, lines, re.MULTILINE)


def test_what_is_explained_makes_the_same_network(net: Net) -> None:
    """Typed on another host, the lines make the same bridge, cable and rules."""
    container = "sh", "-c", "ip -4 -o addr show eth0; read _"
    options = ["--explain", "--network", "bridge", "-i", "-p", "8080:80", "-p", "127.0.0.1:53:53/udp"]
    started = net.start(*container, options=options, stdin=-1)
    shown = started.line()
    look = "ip -4 -o addr | grep -o 'br-.*'; cat /proc/sys/net/ipv4/ip_forward"
    real = net.rules(), net.host.sh(look)
    told = started.end(b"\n").err.decode()
    given = commands(told)
    assert len(given) > 12
    again, inside = hostnet.Holder(), hostnet.Holder()
    try:
        again.sh("echo 0 > /proc/sys/net/ipv4/ip_forward")
        (pid,) = {*re.findall(r"netns /proc/(\d+)/", told)}
        again.sh("\n".join(given).replace(f"/proc/{pid}/", f"/proc/{inside.process.pid}/"))
        assert (again.rules(), again.sh(look)) == real
        same = inside.sh("ip -4 -o addr show eth0; ip route; ip link show eth0")
        assert "172.16.0.2/16" in same and "default via 172.16.0.1 dev eth0" in same
        assert "172.16.0.2/16" in shown and "02:42:ac:10:00:02" in same
    finally:
        again.end()
        inside.end()
