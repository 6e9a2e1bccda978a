"""A host for tests of networks: one network namespace takes the place of the host, a second one of another host.

    container ═ bridge ═ the host ═ world (192.0.2.1) ═══ eth0 (192.0.2.2), the other host

Links, rules and ip_forward belong to the namespace, so a runtime there changes nothing on the machine. Both namespaces
end with the processes that hold them.
"""

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tests.support import host, image, session
from tests.support.runtime import HOST_ENVIRONMENT, PATIENCE, Result, Runtime, Started, Word

HERE, THERE = "192.0.2.1", "192.0.2.2"
LOOPBACK = "127.0.0.1"
HELLO = b"GET /hostname HTTP/1.0\r\n\r\n"
# Tells who asks: over TCP to anybody, over UDP with what was said.
SERVER = """
import socket, selectors
tcp = socket.create_server(("", 80)); udp = socket.socket(type=socket.SOCK_DGRAM); udp.bind(("", 53))
waiting = selectors.DefaultSelector()
for each in (tcp, udp): waiting.register(each, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in waiting.select():
        if key.fileobj is tcp:
            client, address = tcp.accept()
            client.sendall(address[0].encode()); client.close()
        else:
            data, address = udp.recvfrom(65536)
            udp.sendto(data + b" of " + address[0].encode(), address)
"""
T = TypeVar("T")


class Holder:
    """A process that only keeps a network namespace open."""

    def __init__(self) -> None:
        script = "ip link set lo up && echo ready && exec sleep infinity"
        words = ["unshare", "--net", "--mount", "sh", "-c", script]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, env=HOST_ENVIRONMENT)
        assert self.process.stdout and self.process.stdout.readline() == b"ready\n"
        self.under = ("nsenter", f"--net={self.path}")

    @property
    def path(self) -> str:
        return f"/proc/{self.process.pid}/ns/net"

    def sh(self, script: str) -> str:
        """Return what a shell script prints there."""
        words = [*self.under, "sh", "-ec", script]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, env=HOST_ENVIRONMENT)
        assert done.returncode == 0, f"{script}: {done.stderr}"
        return done.stdout

    def inside(self, action: Callable[[], T]) -> T:
        """Call a Python function there, on a new thread, because setns(2) moves only one thread."""
        found: list[T] = []
        failed: list[BaseException] = []

        def enter() -> None:
            fd = os.open(self.path, os.O_RDONLY)
            try:
                _setns(fd)
                found.append(action())
            except BaseException as error:
                failed.append(error)
            finally:
                os.close(fd)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]

    def rules(self) -> str:
        return self.sh("nft list ruleset")

    def connect(self, address: str, port: int, patience: float = 5) -> socket.socket:
        return self.inside(lambda: socket.create_connection((address, port), timeout=patience))

    def listen(self, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET, kind)
            made.bind(("0.0.0.0", port))
            if kind == socket.SOCK_STREAM:
                made.listen()
            made.settimeout(5)
            return made

        return self.inside(make)

    def ask(self, address: str, port: int, words: bytes = b"", patience: float = 5) -> bytes:
        """Return what a server sends over TCP until it closes the connection; b"" if nobody answers."""
        try:
            with self.connect(address, port, patience) as connected:
                connected.sendall(words)
                connected.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: connected.recv(65536), b""))
        except OSError:
            return b""

    def ask_udp(self, address: str, port: int, words: bytes) -> bytes:
        with self.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as ours:
            ours.settimeout(5)
            ours.sendto(words, (address, port))
            return ours.recv(65536)

    def end(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def _setns(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@dataclass
class Net:
    """The runtime on that host, with its own store."""

    runtime: Runtime
    host: Holder
    other: Holder

    @property
    def under(self) -> tuple[str, ...]:
        return self.host.under

    def call(self, *words: Word, under: Sequence[str] = (), **more: Any) -> Result:
        return self.runtime.call(*words, under=(*self.under, *under), **more)

    def ok(self, *words: Word, **more: Any) -> str:
        """Return what a command prints. It must succeed, and write nothing to standard error."""
        result = self.call(*words, **more)
        assert result.code == 0 and not self.complaints(result), f"{words}: {result.err.decode()}"
        return result.text

    def complaints(self, result: Result) -> list[str]:
        """Return the lines on standard error, except the one that says that forwarding is on."""
        return [line for line in result.err.decode().splitlines() if "ip_forward" not in line]

    def refused(self, *words: Word, code: int = 125, **more: Any) -> str:
        return self.runtime.refusal(self.call(*words, **more), code)

    def output(self, *command: Word, options: Sequence[Word] = ("--network", "bridge"), **more: Any) -> str:
        return self.runtime.output(*command, options=options, under=self.under, **more)

    def detached(self, name: str, *command: Word, options: Sequence[Word] = ()) -> str:
        """Start a container with this name in the background. Returns its id."""
        assert self.runtime.image
        return self.ok("run", "-d", "--name", name, *options, self.runtime.image, *command)

    def sleeping(self, name: str, *options: Word) -> str:
        return self.detached(name, "sleep", "1000", options=options)

    def httpd(self, name: str, *options: Word) -> str:
        """Start a web server for /etc in the background, and wait until it answers. Returns its id."""
        id = self.detached(name, "httpd", "-f", "-h", "/etc", options=options)
        self.inside(name, "until nc 127.0.0.1 80 < /dev/null > /dev/null 2>&1; do sleep 0.1; done")
        return id

    def start(self, *command: Word, options: Sequence[Word] = (), **more: Any) -> Started:
        """Start a container in the foreground. It is connected as soon as it has printed its first line."""
        return self.runtime.start(*command, options=options, under=self.under, **more)

    def inside(self, name: str, script: str) -> str:
        """Return what a shell script prints in a running container."""
        return self.ok("exec", name, "sh", "-c", script)

    def networks(self) -> Path:
        return Path(self.runtime.environment["MYDOCKER_ROOT"], "networks")

    def links(self) -> set[str]:
        """Return the links there, without those that the fixture has made."""
        return {*re.findall(r"^\d+: ([^:@]+)", self.host.sh("ip -o link"), re.MULTILINE)} - {"lo", "world"}

    def rules(self) -> str:
        return self.host.rules()


@contextlib.contextmanager
def standing_in(runtime: Runtime, tmp_path: Path, python: bool = False) -> Iterator[Net]:
    """Make two hosts, and on the first a runtime whose own store has the test image."""
    with contextlib.ExitStack() as ends:
        here, there = Holder(), Holder()
        ends.callback(here.end)
        ends.callback(there.end)
        here.sh(f"ip link add world type veth peer name eth0 netns {there.process.pid}")
        here.sh(f"ip addr add {HERE}/24 dev world; ip link set world up; echo 0 > /proc/sys/net/ipv4/ip_forward")
        there.sh(f"ip addr add {THERE}/24 dev eth0; ip link set eth0 up")
        here.sh(f"ip route add default via {THERE}")
        own = runtime
        if runtime.podman:
            config = tmp_path / "networks"
            own = replace(runtime, command=(*runtime.command, "--network-config-dir", str(config)))
        else:
            own = replace(runtime, environment={**runtime.environment, "MYDOCKER_ROOT": str(tmp_path / "state/store")})
        net = Net(own, here, there)
        if not runtime.podman:
            net.ok("import", str(image.tar() if python else image.small_tar()), "test")
        try:
            yield net
        finally:
            for started in own.started:
                started.kill()
            if not runtime.podman:
                net.call("ps", "-a")  # which sweeps
                if left := net.call("ps", "-aq").text.split():
                    net.call("rm", "-f", *left)
                host.wait_until(lambda: not host.contained(), "the containers end", 20 * session.SLOWNESS)
