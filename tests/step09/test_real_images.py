"""Step 9: servers in images as people have them, built by Podman, imported, and used by their own clients.

What holds here holds for Podman with the same images. It needs packages of Debian's, and two minutes: only with
MYDOCKER_TEST_IMAGES=all (make test-images).
"""

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import host, hostnet, oracle, servers
from tests.support.fresh import Fresh
from tests.support.hostnet import LOOPBACK, Net
from tests.support.runtime import Missing, Runtime
from tests.support.store import own_store

pytestmark = [
    pytest.mark.skipif(os.environ.get("MYDOCKER_TEST_IMAGES") != "all", reason="only with MYDOCKER_TEST_IMAGES=all"),
    pytest.mark.timeout(400),
]
root_only = pytest.mark.as_root("ports are the host's")
PASSWORD = "a word of ours"


@pytest.fixture
def net(runtime: Runtime, tmp_path: Path) -> Iterator[Net]:
    with hostnet.standing_in(runtime, tmp_path) as made:
        yield made


def needs(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")


def have(runtime: Runtime, tmp_path: Path, name: str, form: str, under: Sequence[str] = ()) -> None:
    """Have Podman build the image, and the runtime import it as it was saved. Podman itself has it now."""
    try:
        podman = oracle.podman(tmp_path / "here")
        servers.built(podman, name, tmp_path / "state")
        if not runtime.podman:
            source = servers.saved(podman, name, tmp_path / "state", form)
            servers.asked(runtime, "import", source, name, under=under)
    except Missing as missing:
        pytest.skip(str(missing))


def start(net: Net, name: str, port: int, *options: str, image: str = "", command: tuple[str, ...] = ()) -> None:
    """Run a server in the background, whose port is the host's on 127.0.0.1."""
    words = ["run", "-d", "--name", name, "-p", f"{LOOPBACK}:{port}:{port}", *options, image or name, *command]
    assert (result := net.call(*words)).code == 0, result.err.decode()


def end(net: Net, name: str, patience: float = 8) -> None:
    """Stop it: in good time, and of its own will. Its record goes, its volumes stay."""
    began = time.monotonic()
    net.ok("stop", name)
    assert time.monotonic() - began < patience, "stop had to kill it"
    assert net.ok("wait", name) == "0", net.call("logs", name).err.decode()
    net.ok("rm", name)


def answers(net: Net, script: str, wanted: str) -> None:
    """The client's script prints this, as soon as the server is ready for it."""
    host.wait_until(lambda: net.host.sh(f"{script} 2>&1 || true").strip() == wanted, wanted, 60)


def users(net: Net, name: str) -> set[str]:
    """The ids of those whose processes run in a container, but for the one that looks."""
    seen = net.inside(
        name, "for each in /proc/[0-9]*; do [ $each = /proc/$$ ] || cat $each/status 2>/dev/null; done; :"
    )
    return set(re.findall(r"^Uid:\t(\d+)", seen, re.MULTILINE))


@root_only
def test_nginx(net: Net, tmp_path: Path, fresh: Fresh) -> None:
    """Port 80, logs that are links to /dev/stdout and /dev/stderr, workers that are not root; and it ends in peace."""
    needs("curl")
    have(net.runtime, tmp_path, "nginx", "docker-archive", net.under)
    greeting = fresh.word()
    start(net, "nginx", 80, "-e", f"GREETING={greeting}", "-m", "64m")
    curl = f"curl --silent --show-error --noproxy '*' http://{LOOPBACK}"
    answers(net, curl, greeting)
    assert net.host.sh(f"{curl}/nothing -o /dev/null -w '%{{http_code}}'") == "404"
    assert users(net, "nginx") == {"0", "33"}
    net.inside("nginx", "mkdir /var/www/html/closed")
    assert "403 Forbidden" in net.host.sh(f"{curl}/closed/")
    logs = net.call("logs", "nginx")
    assert b"there is a page" in logs.out and b'"GET /nothing HTTP/1.1" 404' in logs.out
    assert b'"/var/www/html/closed/" is forbidden' in logs.err

    # The image's signal is SIGQUIT: who is being served gets it all. At SIGTERM nginx hangs up.
    size = 50_000_000
    net.inside("nginx", f"truncate -s {size} /var/www/html/large")
    with net.host.connect(LOOPBACK, 80) as client:
        client.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        got = len(client.recv(1000))
        stopping = threading.Thread(target=end, args=(net, "nginx"))
        stopping.start()
        host.wait_until(
            lambda: net.host.ask(LOOPBACK, 80, b"GET / HTTP/1.0\r\n\r\n") == b"", "it takes no more clients"
        )
        got += sum(len(piece) for piece in iter(lambda: client.recv(65536), b""))
        stopping.join()
    assert got > size
    assert net.ok("ps", "-aq") == ""


@root_only
def test_redis(net: Net, tmp_path: Path, fresh: Fresh) -> None:
    """An entrypoint that begins as root and becomes another user; and what is in the volume outlives the container."""
    needs("redis-cli", "redis-benchmark")
    have(net.runtime, tmp_path, "redis", "oci-archive", net.under)
    ask, key, value = f"redis-cli -h {LOOPBACK}", fresh.word(), fresh.word()
    start(net, "redis", 6379, "-v", "data:/data", "-m", "100m")
    answers(net, f"{ask} set {key} {value}", "OK")
    assert net.ok("exec", "redis", "redis-cli", "get", key) == value
    assert len(owner := users(net, "redis")) == 1 and "0" not in owner
    assert net.inside("redis", "stat -c %U /data") == "redis"
    end(net, "redis")
    start(net, "redis", 6379, "-v", "data:/data", command=("--protected-mode", "no", "--appendonly", "yes"))
    answers(net, f"{ask} get {key}", value)
    load = net.host.sh(f"redis-benchmark -h {LOOPBACK} -n 5000 -c 20 -q -t set,get")
    assert load.count("requests per second") == 2
    end(net, "redis")
    assert "Redis server" in net.ok("run", "--rm", "redis", "redis-server", "--version")


@root_only
def test_postgres(net: Net, tmp_path: Path, fresh: Fresh) -> None:
    """A database that is made at the first start, by a user who is not root; and that is whole after `stop`."""
    needs("psql")
    have(net.runtime, tmp_path, "postgres", "docker-archive", net.under)
    told = net.call("run", "--rm", "postgres")
    assert told.code == 1 and b"POSTGRES_PASSWORD" in told.err
    value = fresh.word()
    ask = f"PGPASSWORD='{PASSWORD}' psql -h {LOOPBACK} -U postgres -Atc"
    volume = ["-v", "data:/var/lib/postgresql/data"]
    start(net, "postgres", 5432, *volume, "-e", f"POSTGRES_PASSWORD={PASSWORD}")
    answers(net, f"{ask} 'SHOW lc_collate'", "en_US.UTF-8")
    net.host.sh(f"{ask} 'CREATE TABLE words (word text)'; {ask} \"INSERT INTO words VALUES ('{value}')\"")
    assert net.ok("exec", "-u", "postgres", "postgres", "psql", "-Atc", "SELECT word FROM words") == value
    wrong = net.host.sh(f"PGPASSWORD=wrong psql -h {LOOPBACK} -U postgres -c 'SELECT 1' 2>&1 || true")
    assert "password authentication failed" in wrong
    owner = users(net, "postgres")
    assert len(owner) == 1 and "0" not in owner

    # The image's signal is SIGINT: clients are sent away. At SIGTERM the server would wait for them, and be killed.
    guest = net.runtime.popen(["sh", "-c", f"{ask} 'SELECT pg_sleep(60)'"], under=net.under)
    answers(net, f"{ask} \"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%'\"", "2")
    end(net, "postgres")
    assert guest.end().code != 0
    start(net, "postgres", 5432, *volume)
    answers(net, f"{ask} 'SELECT word FROM words'", value)
    assert b"was interrupted" not in net.call("logs", "postgres").err
    end(net, "postgres")


@root_only
def test_python(net: Net, tmp_path: Path, fresh: Fresh) -> None:
    """An interpreter, its pip, and a web server whose threads wait for one another; a user without a name."""
    needs("curl")
    have(net.runtime, tmp_path, "python", "oci", net.under)
    one, other = fresh.number(1, 1000), fresh.number(1, 1000)
    assert net.ok("run", "--rm", "-i", "python", input=f"print({one} * {other})".encode()) == str(one * other)
    assert "pip" in net.ok("run", "--rm", "python", "python3", "-m", "pip", "--version")
    several = "import multiprocessing as m; print(m.Pool(2).map(abs, [-1, 2]))"
    assert net.ok("run", "--rm", "--entrypoint", "python3", "python", "-c", several) == "[1, 2]"
    greedy = ("run", "--rm", "-m", "64m", "python", "python3", "-c", "bytearray(10**9)")
    assert net.call(*greedy, cwd=tmp_path / "state").code == 137  # Podman leaves a file `oom` where it was called
    name = fresh.word()
    start(net, "app", 8000, "-e", f"NAME={name}", image="python", command=("python3", "app.py"))
    curl = f"curl --silent --noproxy '*' http://{LOOPBACK}:8000"
    seen = f'{{"uid": 1000, "workdir": "/app", "name": "{name}"}}'
    answers(net, curl, seen)
    assert net.host.sh(" & ".join([f"{curl}/together"] * 4) + " & wait") == seen * 4
    assert net.ok("exec", "-u", "0", "app", "id", "-u") == "0"
    net.ok("exec", "-u", "0", "app", "sh", "-c", "mkdir /mine && chown 1000 /mine")
    net.inside("app", f"echo {name} >/mine/name")
    assert net.call("commit", "-q", "app", "mine").code == 0
    net.ok("kill", "app")
    net.ok("wait", "app")
    net.ok("rm", "app")
    assert net.ok("run", "--rm", "mine", "cat", "/mine/name") == name
    assert net.ok("run", "--rm", "mine", "id", "-u") == "1000"


@pytest.mark.step(8)
@pytest.mark.as_user("root has networks")
def test_as_an_ordinary_user(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """redis and Python need no root: who is root inside is the caller."""
    own = own_store(runtime, tmp_path)
    have(own, tmp_path, "redis", "docker-archive")
    value = fresh.word()
    own.image = "redis"
    server = own.detach("--save", "", options=["--entrypoint", "redis-server"])
    ask = ("exec", server, "redis-cli")
    host.wait_until(lambda: own.call(*ask, "set", "key", value).text == "OK", "it answers", 30)
    assert own.says(*ask, "get", "key") == value
    assert own.says("stop", server) == server and own.says("wait", server) == "0"
    own.says("rm", server)
    have(own, tmp_path, "python", "docker-archive")
    own.image = "python"
    assert own.output("python3", "-c", "import os; print(os.getuid(), os.getcwd())") == "0 /app"
