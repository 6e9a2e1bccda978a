"""tools/pull.py, from outside: against a real registry, and a server before it that fails in every way that we know."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import host, session
from tests.support.image import file
from tests.support.layers import ARCHITECTURE, OCI, configuration, described, oci, sha256, tarred
from tests.support.registry import Answer, Front, Registry, Request, free_port, serving
from tests.support.runtime import HOST_ENVIRONMENT, Missing, Result, Started
from tests.support.store import shell
from tests.support.terminal import Terminal

tool = pytest.importorskip("tools.pull", reason="there is no Python package requests here")

PROGRAM = session.REPOSITORY / "tools" / "pull.py"
ZERO = f"sha256:{'0' * 64}"
LARGE = 3_000_000  # bytes that nothing compresses
NEWEST = max(path.parent.name for path in session.REPOSITORY.glob("step[0-9][0-9]_*/__main__.py"))


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """With one image: library/alpine:3.22, of which only the last of its three layers is large."""
    folder = session.worker() / "registry"
    folder.mkdir(exist_ok=True)
    members = [*shell(), file("etc/release", b"3.22\n")], [file("small", b"small")], [file("large", os.urandom(LARGE))]
    try:
        with serving(folder) as running:
            running.push(oci([*map(tarred, members)], {"Cmd": ["cat", "/etc/release"]}), "library/alpine:3.22")
            yield running
    except Missing as missing:
        pytest.skip(str(missing))
    finally:
        session.remove(folder)


@pytest.fixture
def front(registry: Registry) -> Iterator[Front]:
    made = Front(registry)
    yield made
    made.close()


class Puller:
    """tools/pull.py with a store, a cache and a home of the test's own."""

    def __init__(self, place: Path) -> None:
        self.place, self.cache, self.home = place, place / "cache", place / "home"
        self.home.mkdir()
        self.env = {**HOST_ENVIRONMENT, "HOME": str(self.home), "MYDOCKER_ROOT": str(place / "state")}

    def words(self, image: str, *options: str) -> list[str]:
        return [sys.executable, str(PROGRAM), "--cache", str(self.cache), *options, "--", image]

    def start(self, image: str, *options: str, under: tuple[str, ...] = ()) -> Started:
        words = [*under, *self.words(image, *options)]
        return Started(words, env=self.env, cwd=self.place, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __call__(self, image: str, *options: str, under: tuple[str, ...] = ()) -> Result:
        return self.start(image, *options, under=under).end()

    def refused(self, image: str, *options: str, **more: Any) -> str:
        """The one line that a pull ends with that must fail, and leave nothing."""
        line = self.broken(image, *options, **more)
        assert self.left() == []
        return line

    def broken(self, image: str, *options: str, **more: Any) -> str:
        """The same, where something may be left."""
        result = self(image, *options, **more)
        assert result.code == 1 and result.out == b"", result
        return self.last(result)

    def last(self, result: Result) -> str:
        lines = result.err.decode().splitlines()
        assert all(line.startswith("pull: ") for line in lines), lines
        assert not any(map(is_failure, lines[:-1])), "told once"
        return lines[-1]

    def step(self, *words: str) -> str:
        done = subprocess.run([sys.executable, "-m", NEWEST, *words], cwd=session.REPOSITORY, env=self.env, stdout=-1)
        assert done.returncode == 0
        return done.stdout.decode().strip()

    def images(self) -> list[str]:
        """What is in the store, each as name:tag."""
        known = self.place / "state/images/names.json"
        return [*json.loads(known.read_text())] if known.exists() else []

    def left(self) -> list[Path]:
        return [path for path in self.cache.rglob("*") if path.is_file()]


def is_failure(line: str) -> bool:
    return not re.search(r"trying again$| layers?, |layer \w+: [\d.]+ \w+$|waiting for it$", line)


@pytest.fixture
def pull(tmp_path: Path) -> Puller:
    return Puller(tmp_path)


def last_layer(registry: Registry) -> str:
    manifest, _ = registry.manifest("library/alpine", "3.22")
    return str(manifest["layers"][-1]["digest"])


def whole(pull: Puller, front: Front, image: str = "alpine:3.22", *options: str) -> Result:
    """A pull that must succeed, and leave nothing but the image."""
    result = pull(image, "--registry", front.host, *options)
    assert result.code == 0, result
    assert pull.left() == [] and pull.images() == ["alpine:3.22"]
    return result


# ---- what comes ------------------------------------------------------------------------------------------------------


def test_an_image_that_runs(registry: Registry, pull: Puller) -> None:
    """Its name, its files and its command are there, and a line says what to type."""
    result = pull(f"localhost:{registry.port}/library/alpine:3.22")
    assert result.code == 0, result
    name = "library/alpine:3.22"
    (image,) = pull.step("images", "-q").splitlines()
    assert result.text == f"{name} is here now ({image}): .venv/bin/python -m {NEWEST} run {name}"
    assert pull.images() == [name] and pull.left() == []
    assert pull.step("run", "--rm", "--network", "none", name) == "3.22"
    size = pull.step("run", "--rm", "--network", "none", name, "stat", "-c", "%s", "/large")
    assert int(size) == LARGE


@pytest.mark.parametrize(
    ("image", "host", "asked", "called"),
    [
        ("alpine", "registry-1.docker.io", "library/alpine latest", "alpine:latest"),
        ("alpine:3.21", "registry-1.docker.io", "library/alpine 3.21", "alpine:3.21"),
        ("docker.io/alpine", "registry-1.docker.io", "library/alpine latest", "alpine:latest"),
        ("index.docker.io/library/alpine", "registry-1.docker.io", "library/alpine latest", "alpine:latest"),
        ("library/a/b", "registry-1.docker.io", "library/a/b latest", "library/a/b:latest"),
        ("user/app:1.0-RC_1", "registry-1.docker.io", "user/app 1.0-RC_1", "user/app:1.0-RC_1"),
        ("quay.io/podman/hello", "quay.io", "podman/hello latest", "quay.io/podman/hello:latest"),
        ("Quay.io/a/b/c:d", "quay.io", "a/b/c d", "quay.io/a/b/c:d"),
        ("localhost/x", "localhost", "x latest", "localhost/x:latest"),
        ("localhost:5000/x:1", "localhost:5000", "x 1", "x:1"),
        ("[::1]:5000/x__y/z-1", "[::1]:5000", "x__y/z-1 latest", "x__y/z-1:latest"),
        (f"alpine@{ZERO}", "registry-1.docker.io", f"library/alpine {ZERO}", "alpine:sha256-000000000000"),
        (f"alpine:3.21@{ZERO}", "registry-1.docker.io", f"library/alpine {ZERO}", "alpine:3.21"),
    ],
)
def test_what_a_name_means(image: str, host: str, asked: str, called: str) -> None:
    """The same as to Docker, also at a mirror. Here it is called as it was typed, without a port and without Docker's
    own host, which our names do not have."""
    for mirror in ("", "mirror.example:5000"):
        found = tool.parse(image, mirror)
        assert found.host == (mirror or host)
        assert f"{found.repository} {found.wanted}" == asked and found.name == called


NONE = [
    *("", "Alpine", "alpine:", "alpine:a:b", "/alpine", "a//b", "a/", "alpine:-x", "../x", f"alpine:{'x' * 129}", "é"),
    *("alpine@sha256:12", f"alpine@sha256:{'A' * 64}", "https://quay.io/x", "quay.io/", "x:y/z", "a b", "alpine\n"),
    *("localhost:x/y", "[::1/x", "a" * 256, "alpine:3.22\x1b[31m", "-.x/y"),
]


def test_names_that_are_none(pull: Puller) -> None:
    for image in NONE:
        with pytest.raises(tool.PullError, match=r"is no image name|is too long") as raised:
            tool.parse(image)
        assert str(raised.value).isprintable()
    assert "'Alpine:3.22\\n' is no image name" in pull.refused("Alpine:3.22\n")


def test_mirrors_that_are_none(pull: Puller) -> None:
    for mirror in ("https://mirror.example", "mirror.example/x", "mirror:port", ":5000"):
        assert "REGISTRY is a host" in pull.refused("alpine", "--registry", mirror)


def test_by_digest(registry: Registry, front: Front, pull: Puller) -> None:
    """With a tag beside it, the tag stays; a manifest with another digest is refused."""
    _, text = registry.manifest("library/alpine", "3.22")
    digest = f"sha256:{sha256(text)}"
    assert pull(f"alpine@{digest}", "--registry", front.host).code == 0
    assert pull.images() == [f"alpine:sha256-{digest[7:19]}"]
    pull.step("rmi", pull.images()[0])
    whole(pull, front, f"alpine:3.22@{digest}")
    front.fault = lambda request: None if request.blob else Answer(body=text + b"\n")
    assert "a wrong manifest" in pull.refused(f"alpine@{digest}", "--registry", front.host)


def test_docker_manifests_and_a_layer_twice(registry: Registry, front: Front, pull: Puller) -> None:
    """As Docker pushes them; and the same layer may come twice."""
    layer = tarred([file("twice", b"2")])
    registry.push(oci([tarred(shell()), layer, layer]), "library/alpine:v2", "--format", "v2s2")
    manifest, _ = registry.manifest("library/alpine", "v2")
    assert "docker" in manifest["mediaType"]
    name = "quay.io/library/alpine:v2"
    assert pull(name, "--registry", front.host).code == 0
    assert pull.step("run", "--rm", "--network", "none", name, "cat", "/twice") == "2"
    assert max(request.count for request in front.requests if request.blob) == 1


def test_the_step_that_imports(front: Front, pull: Puller) -> None:
    whole(pull, front, "alpine:3.22", "--step", "6")
    assert b"step06_commit" in pull("alpine:3.22", "--registry", front.host, "--step", "6").out
    for step in (5, 10):
        assert "has no import" in pull.refused("alpine", "--step", str(step))


# ---- for which processor ---------------------------------------------------------------------------------------------


def put_index(registry: Registry, tag: str, *platforms: dict[str, str]) -> list[str]:
    """Push an index with an image for each. Returns the digests of their manifests."""
    listed: list[dict[str, Any]] = []
    for number, platform in enumerate(platforms):
        files = oci([tarred([*shell(), file("etc/release", f"{number}\n".encode())])], {"Cmd": ["cat"]}, facts=platform)
        registry.push(files, f"library/multi:{tag}-{number}")
        manifest, text = registry.manifest("library/multi", f"{tag}-{number}")
        listed.append(described(text, manifest["mediaType"], platform=platform))
    index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": listed}
    digest = registry.put("library/multi", tag, index)
    inner = described(json.dumps(index).encode(), f"{OCI}.index.v1+json")
    assert inner["digest"] == digest
    registry.put("library/multi", f"{tag}-outer", {**index, "manifests": [inner]})
    return [str(each["digest"]) for each in listed]


def test_the_image_for_this_machine(registry: Registry, front: Front, pull: Puller) -> None:
    """From an index, and from an index of indexes; what else is in it is not fetched."""
    here = {"os": "linux", "architecture": ARCHITECTURE}
    digests = put_index(
        registry,
        "all",
        {"os": "unknown", "architecture": "unknown"},
        {"os": "windows", "architecture": ARCHITECTURE},
        {"os": "linux", "architecture": "s390x"},
        {**here, "variant": "v99"},
        here,
    )
    for tag in ("all", "all-outer"):
        assert pull(f"multi:{tag}", "--registry", front.host).code == 0
        assert pull.step("run", "--rm", "--network", "none", f"multi:{tag}", "cat", "/etc/release") == "4"
    asked = "".join(request.path for request in front.requests)
    assert [digest in asked for digest in digests] == [False] * 4 + [True]


def test_none_for_this_machine(registry: Registry, front: Front, pull: Puller) -> None:
    """The line says which there are; of a single image no layer is fetched in vain."""
    other = {"os": "linux", "architecture": "arm", "variant": "v6"}
    put_index(registry, "other", other, {"os": "windows", "architecture": "amd64"}, {"os": "unknown"})
    line = pull.refused("multi:other", "--registry", front.host)
    assert line.endswith("multi:other is for linux/arm/v6, windows/amd64")
    assert f"this machine is linux/{ARCHITECTURE}" in line
    front.requests.clear()
    assert "is for linux/arm/v6" in pull.refused("multi:other-0", "--registry", front.host)
    assert sum(request.blob for request in front.requests) == 1


@pytest.mark.parametrize(
    ("architecture", "variant", "called"),
    [
        ("amd64", "v1", "amd64"),
        ("amd64", "v3", "amd64/v3"),
        ("arm64", "v8", "arm64"),
        ("arm", "", "arm/v7"),
        ("arm", "v6", "arm/v6"),
        ("riscv64", "", "riscv64"),
    ],
)
def test_processors(architecture: str, variant: str, called: str) -> None:
    """As Docker writes them: the usual variant is not named, but for arm, which has none."""
    of = {"os": "linux", "architecture": architecture, "variant": variant}
    assert tool.processor(of) == f"linux/{called}"


def test_the_best_for_an_older_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    """On ARM with 32 bits: its own variant, or the next that it can run."""
    kinds = [{"platform": {"os": "linux", "architecture": "arm", "variant": f"v{number}"}} for number in (5, 6, 7, 8)]
    monkeypatch.setattr(tool, "HERE", tool.MACHINES["armv7l"])
    assert tool.for_this_machine(kinds, "x") is kinds[2]
    assert tool.for_this_machine(kinds[:2], "x") is kinds[1]
    monkeypatch.setattr(tool, "HERE", tool.MACHINES["armv6l"])
    assert tool.for_this_machine(kinds, "x") is kinds[1]


# ---- let in ----------------------------------------------------------------------------------------------------------

TOKEN = "Bearer a-token"


def guarded(front: Front, password: str = "", **wrong: str) -> Callable[[Request], Answer | None]:
    """A registry that lets in who has a token, which it gives to those who have the password."""

    def fault(request: Request) -> Answer | None:
        given = request.headers.get("Authorization", "")
        if request.path.startswith("/token?"):
            if password and given != f"Basic {base64.b64encode(password.encode()).decode()}":
                return Answer(401)
            assert (
                "service=the+service" in request.path and "scope=repository%3Alibrary%2Falpine%3Apull" in request.path
            )
            name = "access_token" if password else "token"
            return Answer(body=json.dumps({name: TOKEN.removeprefix("Bearer ")}).encode())
        if given == TOKEN:
            return None
        realm = wrong.get("realm", f"http://{front.host}/token")
        return Answer(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="the service",scope="x,y"'})

    return fault


def test_a_token_for_anybody(front: Front, pull: Puller) -> None:
    """One is enough for the whole image."""
    front.fault = guarded(front)
    whole(pull, front)
    assert sum("/token?" in request.path for request in front.requests) == 1


def test_a_token_that_grows_too_old(front: Front, pull: Puller) -> None:
    """Then another is asked for."""
    valid, expired = list[str](), list[Request]()
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{front.host}/token"'}

    def fault(request: Request) -> Answer | None:
        if request.path.startswith("/token"):
            valid.append(f"token-{request.count}")
            return Answer(body=json.dumps({"token": valid[-1]}).encode())
        if request.blob and not expired:
            expired.append(request)
            valid.clear()
        return None if request.headers.get("Authorization", "")[7:] in valid else Answer(401, challenge)

    front.fault = fault
    whole(pull, front)


def log_in(pull: Puller, host: str, password: str, **more: str) -> None:
    config = pull.home / ".docker/config.json"
    config.parent.mkdir()
    auth = base64.b64encode(password.encode()).decode()
    config.write_text(json.dumps({"auths": {host: {"auth": auth}}, **more}))


@pytest.mark.parametrize("kind", ["token", "basic"])
def test_a_private_image(front: Front, pull: Puller, kind: str) -> None:
    """With the password that `docker login` has written; without, or with a wrong one, the line says it."""
    password = "alice:secret"
    basic = f"Basic {base64.b64encode(password.encode()).decode()}"
    front.fault = guarded(front, password)
    if kind == "basic":
        front.fault = lambda request: (
            None
            if request.headers.get("Authorization") == basic
            else Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
        )
    assert "or it is private" in pull.refused("alpine:3.22", "--registry", front.host)
    log_in(pull, front.host, password)
    whole(pull, front)
    (pull.home / ".docker/config.json").write_text(json.dumps({"auths": {front.host: {"auth": "d3Jvbmc="}}}))
    assert "your password is not for it" in pull.refused("alpine:3.22", "--registry", front.host)
    (pull.home / ".docker/config.json").write_text("{no json")
    assert "config.json makes no sense" in pull.refused("alpine:3.22", "--registry", front.host)


def test_what_podman_login_has_written(front: Front, pull: Puller) -> None:
    front.fault = guarded(front, "alice:secret")
    log_in(pull, front.host, "alice:secret")
    (pull.home / "auth.json").write_text((pull.home / ".docker/config.json").read_text())
    (pull.home / ".docker/config.json").unlink()
    pull.env["REGISTRY_AUTH_FILE"] = str(pull.home / "auth.json")
    whole(pull, front)


def test_a_password_goes_nowhere_else(registry: Registry, front: Front, pull: Puller) -> None:
    """Not where the registry redirects us to, nor for a token over http to another machine."""
    other = Front(registry)
    usual = guarded(front, "alice:secret")
    front.fault = lambda request: (
        usual(request)
        or (Answer(307, {"Location": f"http://localhost:{other.port}{request.path}"}) if request.blob else None)
    )
    log_in(pull, front.host, "alice:secret")
    try:
        whole(pull, front)
    finally:
        other.close()
    assert len(other.requests) == 4 and not any("Authorization" in request.headers for request in other.requests)
    front.fault = guarded(front, realm="http://registry.example/token")
    assert "no https address" in pull.refused("alpine:3.22", "--registry", front.host)


def test_redirects_without_end(front: Front, pull: Puller) -> None:
    front.fault = lambda request: Answer(307, {"Location": request.path})
    assert "without end" in pull.refused("alpine:3.22", "--registry", front.host)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_no_such_image(front: Front, pull: Puller, status: int) -> None:
    """404 is what a registry says; Docker Hub does not tell it from what is private."""
    front.fault = lambda request: Answer(status)
    line = pull.refused("nothing:1", "--registry", front.host)
    assert line.startswith(f"pull: there is no image nothing:1 at {front.host}")
    assert ("private" in line) == (status != 404)


# ---- what breaks -----------------------------------------------------------------------------------------------------


def breaking(front: Front, registry: Registry, given: Callable[[int, int], int]) -> list[int]:
    """The large layer breaks off: of an answer, by its number and its length, so many bytes are given.

    Returns where each answer began.
    """
    digest, begun = last_layer(registry), list[int]()

    def fault(request: Request) -> Answer | None:
        if not request.path.endswith(digest):
            return None
        begun.append(int(re.sub(r"\D", "", request.headers.get("Range", "0"))))
        answer = front.passed_on(request)
        length = len(answer.body)
        return Answer(answer.status, answer.headers, answer.body[: given(request.count, length)], length)

    front.fault = fault
    return begun


def test_goes_on_where_it_broke(registry: Registry, front: Front, pull: Puller) -> None:
    """As long as it gains something, however often it breaks."""
    begun = breaking(front, registry, lambda number, length: length // 3 if number < 6 else length)
    result = whole(pull, front)
    assert len(begun) == 6 and begun == sorted({*begun}) and begun[0] == 0, begun
    assert b"the connection broke: trying again" in result.err


def test_the_network_is_gone(registry: Registry, front: Front, pull: Puller) -> None:
    """In the middle of a layer, for good: what has come is kept, which is told, and the next pull goes on there."""
    digest, gone = last_layer(registry), {"Location": f"http://127.0.0.1:{free_port()}/"}

    def fault(request: Request) -> Answer | None:
        if not request.path.endswith(digest):
            return None
        answer = front.passed_on(request)
        return Answer(body=answer.body[: LARGE // 3], claimed=LARGE) if request.count == 1 else Answer(307, gone)

    front.fault = fault
    line = pull.broken("alpine:3.22", "--registry", front.host)
    assert re.search(r"no connection: Connection refused; .* are kept, and the same command goes on from there", line)
    assert sum(request.path.endswith(digest) for request in front.requests) == 4, "tries"
    front.fault = lambda request: None
    front.requests.clear()
    whole(pull, front)
    (again,) = [request for request in front.requests if request.blob]
    begun = int(re.sub(r"\D", "", again.headers["Range"]))
    assert again.path.endswith(digest) and 0 < LARGE // 3 - begun < 2**16, "hardly anything was lost"


def interrupt(registry: Registry, front: Front, pull: Puller, number: signal.Signals) -> Path:
    """Half of the large layer comes, then nothing; then the signal. Returns the file with what came."""
    digest = last_layer(registry)

    def fault(request: Request) -> Answer | None:
        if not request.path.endswith(digest):
            return None
        answer = front.passed_on(request)
        return Answer(body=answer.body[: LARGE // 2], claimed=len(answer.body), stalls=True)

    def half() -> list[Path]:
        return [path for path in pull.left() if path.name in digest and path.stat().st_size > LARGE // 3]

    front.fault = fault
    started = pull.start("alpine:3.22", "--registry", front.host)
    host.wait_until(half, "half has come")
    started.send_signal(number)
    result = started.end()
    assert result.code == 128 + number and result.out == b""
    if number == signal.SIGINT:
        line = pull.last(result)
        assert re.fullmatch(r"pull: interrupted; .* MB are kept, and the same command goes on from there", line)
    front.fault = lambda request: None
    front.requests.clear()
    return half()[0]


@pytest.mark.parametrize("wrong", ["damaged", "longer"])
def test_what_was_kept_is_wrong(registry: Registry, front: Front, pull: Puller, wrong: str) -> None:
    """Then it is fetched again."""
    kept = interrupt(registry, front, pull, signal.SIGKILL)
    with kept.open("r+b") as damaged:
        damaged.write(b"damaged" if wrong == "damaged" else bytes(LARGE * 2))
    whole(pull, front)


def test_what_was_kept_is_of_an_older_image(registry: Registry, front: Front, pull: Puller) -> None:
    """The name means another image now: nothing of the old one stays."""
    kept = interrupt(registry, front, pull, signal.SIGKILL)
    old = kept.rename(kept.with_name("0" * 64))
    assert interrupt(registry, front, pull, signal.SIGINT) == kept and not old.exists()


@pytest.mark.parametrize(("second", "tries"), [("whole", 2), ("elsewhere", 3)])
def test_a_server_that_cannot_go_on(registry: Registry, front: Front, pull: Puller, second: str, tries: int) -> None:
    """It answers with all of it: taken from the beginning. Or with another part: the digest tells."""
    digest = last_layer(registry)

    def fault(request: Request) -> Answer | None:
        if not request.path.endswith(digest):
            return None
        del request.headers["Range"]
        answer = front.passed_on(request)
        if request.count == 1:
            return Answer(200, {}, answer.body[: LARGE // 2], len(answer.body))
        if request.count == 2 and second == "elsewhere":
            return Answer(206, {"Content-Range": f"bytes 5-{LARGE}/{LARGE}"}, answer.body[5:LARGE])
        return answer

    front.fault = fault
    whole(pull, front)
    assert sum(request.path.endswith(digest) for request in front.requests) == tries


def changed(front: Front, registry: Registry, change: Callable[[bytes], bytes]) -> None:
    """The large layer comes, but not as it should be."""
    digest = last_layer(registry)

    def fault(request: Request) -> Answer | None:
        if not request.path.endswith(digest):
            return None
        del request.headers["Range"]
        return Answer(body=change(front.passed_on(request).body))

    front.fault = fault


@pytest.mark.parametrize(
    "change",
    [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data + b"x", lambda data: bytes(len(data))],
    ids=["a bit", "longer", "all"],
)
def test_a_wrong_layer(registry: Registry, front: Front, pull: Puller, change: Callable[[bytes], bytes]) -> None:
    """The digest is the judge."""
    changed(front, registry, change)
    line = pull.refused("alpine:3.22", "--registry", front.host)
    assert f"sends a wrong layer: its size or its SHA-256 is not {last_layer(registry)[7:]}" in line
    assert pull.images() == []


def test_a_layer_that_is_cut_off(registry: Registry, pull: Puller) -> None:
    """In the registry itself, where nothing is behind it. After some tries the line says how much there is."""
    registry.push(oci([tarred([file("large", os.urandom(LARGE // 10))])]), "library/cut:1")
    manifest, _ = registry.manifest("library/cut", "1")
    (layer,) = manifest["layers"]
    (kept,) = (registry.folder / "images").rglob(f"{layer['digest'][7:]}/data")
    os.truncate(kept, 1000)
    line = pull.refused(f"127.0.0.1:{registry.port}/library/cut:1")
    assert f"ends after 1,000 of {layer['size']:,} bytes" in line and pull.images() == []


def test_a_layer_that_the_registry_has_lost(registry: Registry, front: Front, pull: Puller) -> None:
    front.fault = lambda request: Answer(404) if request.path.endswith(last_layer(registry)) else None
    assert "has lost a part of the image" in pull.refused("alpine:3.22", "--registry", front.host)


@pytest.mark.parametrize("status", [429, 503])
def test_busy_for_a_moment(front: Front, pull: Puller, status: int) -> None:
    """It is asked again, after the time that it names."""
    front.fault = lambda request: Answer(status, {"Retry-After": "0"}) if request.count < 4 else None
    assert whole(pull, front).err.count(b"trying again") >= 3


def test_busy_for_long(front: Front, pull: Puller) -> None:
    """Nobody waits for an hour; and not for ever with one that names no time."""
    front.fault = lambda request: Answer(429, {"Retry-After": "3600"})
    line = pull.refused("alpine", "--registry", front.host)
    assert "too many requests, and asks to wait 3600 s" in line and len(front.requests) == 1
    front.fault = lambda request: Answer(503, {"Retry-After": "soon"})
    assert "answers: 503 Service Unavailable" in pull.refused("alpine:1", "--registry", front.host)
    assert len(front.requests) == 1 + 4


def test_an_answer_that_means_nothing(front: Front, pull: Puller) -> None:
    front.fault = lambda request: Answer(418)
    assert "answers: 418" in pull.refused("alpine", "--registry", front.host)
    assert len(front.requests) == 1


def test_silence(front: Front, pull: Puller) -> None:
    """From a registry that says nothing more: it is tried again."""
    front.fault = lambda request: Answer(claimed=100, stalls=True) if request.count == 1 and request.blob else None
    assert b"does not answer: trying again" in whole(pull, front, "alpine:3.22", "--timeout", "0.3").err


def test_no_connection(pull: Puller) -> None:
    """Told at once."""
    address = f"127.0.0.1:{free_port()}"
    assert pull.refused(f"{address}/x") == f"pull: {address}: no connection: Connection refused"


def test_no_network(pull: Puller) -> None:
    under = ("unshare", "--net") if os.geteuid() == 0 else ("unshare", "--net", "--map-root-user")
    line = pull.refused("alpine", "--registry", "registry.invalid", under=under)
    assert line.startswith("pull: registry.invalid: this host is not found: is there a network")
    assert "registry-1.docker.io" in pull.refused("alpine", under=under)


@pytest.mark.skipif(os.geteuid() != 0, reason="without root, no other name for this machine can be made")
def test_http_with_this_machine_only(front: Front, pull: Puller, tmp_path: Path) -> None:
    """With all others https is spoken, and nothing else if they cannot."""
    (tmp_path / "hosts").write_text("127.0.0.1 registry.example\n")
    script = f'mount --bind {tmp_path}/hosts /etc/hosts && exec "$@"'
    under = ("unshare", "--mount", "sh", "-c", script, "sh")
    line = pull.refused("alpine:3.22", "--registry", f"registry.example:{front.port}", under=under)
    assert re.search(r"no secure connection: [\w ]+ \(REQUESTS_CA_BUNDLE=", line) and front.requests == []


def test_no_proxy_for_this_machine(front: Front, pull: Puller) -> None:
    pull.env |= {"http_proxy": f"http://127.0.0.1:{free_port()}", "https_proxy": f"http://127.0.0.1:{free_port()}"}
    whole(pull, front)
    assert "the proxy does not let us to quay.io" in pull.refused("quay.io/x")


# ---- what is no image ------------------------------------------------------------------------------------------------


def manifest(**changes: Any) -> dict[str, Any]:
    own, layer = configuration([]), tarred([])
    described_layer = described(layer, f"{OCI}.layer.v1.tar")
    return {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": described(own, f"{OCI}.config.v1+json"),
        "layers": [described_layer | changes],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "makes no sense"),
        (b"[]", "makes no sense"),
        (b"{}", "makes no sense"),
        (b"\xff", "makes no sense"),
        (b"[" * 100_000, "makes no sense"),
        (b" " * 2**23, "longer than any description"),
        (manifest(digest="sha256:../../../../etc/passwd"), "makes no sense"),
        (manifest(digest=f"sha256:{'0' * 63}/"), "makes no sense"),
        (manifest(digest="md5:" + "0" * 32), "makes no sense"),
        (manifest(digest=f"\x1b[31m\n{'0' * 64}"), "makes no sense"),
        (manifest(size=-1), "makes no sense"),
        (manifest(size="1"), "makes no sense"),
        (manifest(urls=["https://registry.example/layer"]), "does not hand out"),
        ({"schemaVersion": 1, "fsLayers": []}, "given up"),
        ({"schemaVersion": 2, "manifests": []}, "is for none"),
        ({"schemaVersion": 2, "manifests": [{"platform": {"os": "x\x1b[31m\n", "architecture": "y"}}]}, "is for x"),
        ({"schemaVersion": 2, "manifests": [described(b"", "x")]}, "a wrong manifest"),
    ],
)
def test_a_manifest_that_is_none(front: Front, pull: Puller, text: Any, said: str) -> None:
    front.fault = lambda request: Answer(body=text if isinstance(text, bytes) else json.dumps(text).encode())
    line = pull.refused("alpine", "--registry", front.host)
    assert said in line and line.isprintable()
    assert [*pull.place.glob("state/*/*")] == []


def test_an_index_of_itself(front: Front, pull: Puller) -> None:
    """Which cannot be, by its digest; but they may go deep."""
    texts = [b'{"schemaVersion": 2, "manifests": []}']
    for _ in range(9):
        texts.append(json.dumps({"schemaVersion": 2, "manifests": [described(texts[-1], "x")]}).encode())
    there = {f"sha256:{sha256(text)}": text for text in texts}
    front.fault = lambda request: Answer(body=there.get(request.path.rpartition("/")[2], texts[-1]))
    assert "an index of an index" in pull.refused("alpine", "--registry", front.host)
    assert len(front.requests) < 6


def test_import_refuses_it(registry: Registry, front: Front, pull: Puller) -> None:
    """Then its line is all that is said, and nothing is left of the image here either."""
    layer = tarred([file("x", b"x")])
    registry.push(oci([tarred([])], packed=[layer]), "library/wrong:1")
    result = pull("wrong:1", "--registry", front.host)
    assert (result.code, result.out, pull.left(), pull.images()) == (1, b"", [], [])
    said = result.err.decode().splitlines()[-1]
    assert said.startswith(f"{NEWEST}: a layer is damaged") and b"Traceback" not in result.err


# ---- no room, interrupted, two at once -------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="without root, no small file system can be mounted")
def test_the_disk_is_full(front: Front, pull: Puller) -> None:
    pull.cache.mkdir()
    script = 'mount -t tmpfs -o size=2m tmpfs "$0"; "$@"; code=$?; find "$0" -type f; exit $code'
    under = ("unshare", "--mount", "sh", "-c", script, str(pull.cache))
    assert pull.refused("alpine:3.22", "--registry", front.host, under=under).endswith("No space left on device")
    assert pull.images() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_is_somebody_elses(front: Front, pull: Puller) -> None:
    pull.cache.mkdir(0o555)
    assert "Permission denied" in pull.refused("alpine:3.22", "--registry", front.host)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(registry: Registry, front: Front, pull: Puller, number: signal.Signals) -> None:
    """At once, also where the network is waited for; the next pull goes on from there. Ctrl-C says so."""
    there = interrupt(registry, front, pull, number).stat().st_size
    whole(pull, front)
    (again,) = [request for request in front.requests if request.path.endswith(last_layer(registry))]
    assert again.headers["Range"] == f"bytes={there}-"


def test_control_c_before_anything_has_come(front: Front, pull: Puller) -> None:
    front.fault = lambda request: Answer(claimed=1, stalls=True)
    started = pull.start("alpine:3.22", "--registry", front.host)
    host.wait_until(lambda: front.requests, "it asks")
    started.send_signal(signal.SIGINT)
    result = started.end()
    assert (result.code, result.err, pull.left()) == (130, b"pull: interrupted\n", [])


def test_two_at_once(front: Front, pull: Puller) -> None:
    """One after the other, and both have it."""
    started = [pull.start("alpine:3.22", "--registry", front.host) for _ in range(2)]
    results = [each.end() for each in started]
    assert [result.code for result in results] == [0, 0], results
    assert any(b"waiting for it" in result.err for result in results)
    assert pull.left() == [] and pull.images() == ["alpine:3.22"]


def test_at_a_terminal(front: Front, pull: Puller) -> None:
    """A bar for each layer."""
    words = pull.words("alpine:3.22", "--registry", front.host)
    terminal = Terminal(words, env=pull.env, cwd=pull.place, columns=100)
    try:
        terminal.expect(r"alpine:3.22 from 127.0.0.1:\d+: 3 layers, \d.\d MB")
        terminal.expect(r"layer [0-9a-f]{12}.*━.*3\.0/3\.0 MB")
        terminal.expect("alpine:3.22 is here now")
        assert terminal.end() == 0
    finally:
        terminal.kill()
        terminal.wait()
