"""Fetch an image from a registry and give it to `import`: `make pull IMAGE=alpine:3.22`.

IMAGE is a name as in Docker, and means the same registry. REGISTRY is a mirror to ask instead. We use plain http only
with a registry on this machine: nobody may read a token or a password on the way.

    GET /v2/NAME/manifests/TAG     a manifest, or an index of them: we take the one for this machine's processor
    401, WWW-Authenticate: Bearer  where to get a token (a public image needs no password); then ask once more
    GET /v2/NAME/blobs/DIGEST      the configuration, then the layers, three at a time

(distribution-spec of the Open Container Initiative; distribution/docs/spec/auth/token.md.) We check the size and the
SHA-256 of all that comes. If a download breaks, we try again and go on from there. The blobs and an index.json are an
OCI layout, which `import` of a step can read.

The layout is in .cache/pull, and is removed at the end. It is kept only if the network broke or you typed Ctrl-C: then
the same command goes on from there. Two pulls of one image wait for each other.

Requests does the HTTP: proxies, redirects (no password goes to another host), certificates. `oras`, the library for
registries, does not check digests, cannot resume, and does not select a processor.
"""

import fcntl
import hashlib
import http.client
import ipaddress
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import requests
import typer
import urllib3
from requests.utils import parse_dict_header
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

PROJECT = Path(__file__).resolve().parent.parent
FIRST = 6  # the step that brings `import`
HUB = "docker.io"  # where Docker looks for a name without a registry
HUB_HOST = "registry-1.docker.io"  # the machine that answers for DOCKER_HUB

# As in Docker (distribution/reference), and in our catalog.
WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
HOST = re.compile(rf"(?:{WORD}|\[[0-9a-f:]+\])(?::[0-9]{{1,5}})?", re.ASCII)
DIGEST = r"sha256:[0-9a-f]{64}"
NAME = re.compile(rf"({WORD}(?:/{WORD})*)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?:@({DIGEST}))?", re.ASCII)

OCI, DOCKER = "application/vnd.oci.image.", "application/vnd.docker.distribution.manifest."
ACCEPT = f"{OCI}index.v1+json, {OCI}manifest.v1+json, {DOCKER}list.v2+json, {DOCKER}v2+json"

# What this machine can run, the best first, as images name it.
MACHINES = {
    "x86_64": ["amd64", "386"],
    "i686": ["386"],
    "aarch64": ["arm64"],
    "armv7l": ["arm/v7", "arm/v6", "arm/v5"],
    "armv6l": ["arm/v6", "arm/v5"],
}
HERE = MACHINES.get(platform.machine(), [platform.machine()])
UNSAID = {"arm": "v7", "arm64": "v8", "amd64": "v1"}  # the variant if none is named

MOST = 2**22  # bytes of JSON: what `import` reads
CHUNK = 2**16  # bytes: at most so much is lost if a connection breaks
AT_ONCE = 3  # layers
TRIES = 4  # in a row, without one more byte
PAUSE = 0.5  # seconds before the second try, then twice as long each time
LONGEST = 60  # seconds that a registry may ask us to wait

T = TypeVar("T")


class PullError(Exception):
    """One line for the user that says what is wrong. It may contain text from a registry that we do not trust."""

    def __init__(self, message: str) -> None:
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in message))


class Broken(PullError):
    """The network or the registry failed, but the next try may work.

    `wait`: the seconds that the registry asks us to wait. If `soon` is false, it has never worked, and will not work in
    a second either. If `keep` is false, what has come is of no use after the last try.
    """

    def __init__(self, message: str, wait: int | None = None, *, soon: bool = True, keep: bool = True) -> None:
        super().__init__(message)
        self.wait, self.soon, self.keep = wait, soon, keep


# ---- names -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """Which image, and where."""

    host: str  # host[:port] of the registry
    repository: str
    wanted: str  # a tag or a digest
    name: str  # what our store will call it


def parse(image: str, mirror: str = "") -> Reference:
    """Return what a name means in Docker. Raises PullError for a name that Docker refuses."""
    first, slash, rest = image.partition("/")
    if slash and (first == "localhost" or set(first) & set(".:")):  # otherwise it is a user of Docker Hub
        host, match = first.lower(), NAME.fullmatch(rest)
    else:
        host, match = HUB, NAME.fullmatch(image)
    if not match or not HOST.fullmatch(host):
        raise PullError(f"{image!r} is no image name: [registry/]name[:tag], in lower case, such as alpine:3.22")
    if mirror and not HOST.fullmatch(mirror.lower()):
        raise PullError(f"{mirror!r} is no registry: REGISTRY is a host, or host:port, without https://")
    path, tag, digest = match.groups()
    known = path
    if host in (HUB, f"index.{HUB}"):
        host, known = HUB_HOST, re.sub("^library/(?=[^/]+$)", "", path)
        path = path if "/" in path else f"library/{path}"
    elif ":" not in host:  # the store's names have no port
        known = f"{host}/{path}"
    if len(known) > 255:
        raise PullError(f"{image!r} is too long for a name: 255 characters are the most")
    name = f"{known}:{tag or (digest or 'latest').replace(':', '-')[:19]}"
    return Reference(mirror.lower() or host, path, digest or tag or "latest", name)


def is_loopback(host: str) -> bool:
    """Return whether host[:port] is this machine itself."""
    name = urlsplit(f"//{host}").hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost"


# ---- the registry ----------------------------------------------------------------------------------------------------


@dataclass
class Registry:
    """A registry, and how we are logged in there."""

    reference: Reference
    timeout: float  # seconds of silence until a connection counts as broken
    authorization: str = ""  # the header that the registry has accepted
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.max_redirects = 5
        self.session.headers["User-Agent"] = "docker-in-nine-steps"
        self.session.headers["Accept-Encoding"] = "identity"  # a digest is that of the bytes as they are kept

    @contextmanager
    def get(self, path: str, missing: str, headers: dict[str, str] | None = None) -> Iterator[requests.Response]:
        """Get something from the repository. `missing` is the message if there is no such thing.

        The answer has status 200, 206, or 416 if there is nothing after the place where `headers` begin to read.
        Raises Broken for what is worth another try, otherwise PullError.
        """
        host = self.reference.host
        scheme = "http" if is_loopback(host) else "https"
        url = f"{scheme}://{host}/v2/{self.reference.repository}/{path}"
        response = self.send(url, headers or {}, self.authorization)
        if response.status_code == 401:  # at the first request, and when the token has grown too old
            challenge = response.headers.get("WWW-Authenticate", "")
            response.close()
            self.authorization = self.log_in(challenge)
            response = self.send(url, headers or {}, self.authorization)
        with response, self.told():
            if response.status_code in (401, 403):
                raise PullError(self.refused())
            if response.status_code == 404:
                raise PullError(missing)
            check(response, host)
            yield response

    def send(self, url: str, headers: dict[str, str], authorization: str, **more: Any) -> requests.Response:
        """Send one request. An error of the network is raised with a message for the user."""

        def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if authorization:
                request.headers["Authorization"] = authorization
            return request

        with self.told(url):
            timeout = (min(self.timeout, 10), self.timeout)
            return self.session.get(url, headers=headers, auth=authorize, timeout=timeout, stream=True, **more)

    @contextmanager
    def told(self, url: str = "") -> Iterator[None]:
        """Turn the errors that Requests raises inside into PullError."""
        try:
            yield
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
            raise in_words(error, urlsplit(url).netloc or self.reference.host) from None

    def log_in(self, challenge: str) -> str:
        """Return the header that answers a WWW-Authenticate: a token, or the password. Raises PullError without one.

        We ask for a token even without a password: for public images everybody gets one.
        """
        host = self.reference.host
        kind, _, rest = challenge.partition(" ")
        password = own_password(host)
        if kind.lower() == "basic" and password:
            return f"Basic {password}"
        wants = parse_dict_header(rest)
        realm = str(wants.get("realm", ""))
        if kind.lower() != "bearer":
            raise PullError(self.refused())
        parts = urlsplit(realm)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.netloc)):
            raise PullError(f"{host} sends us to {realm!r} for a token, and that is no https address")
        query = {"service": wants.get("service"), "scope": f"repository:{self.reference.repository}:pull"}
        with self.send(realm, {}, f"Basic {password}" if password else "", params=query) as response, self.told(realm):
            if response.status_code in (401, 403, 404):
                raise PullError(self.refused())
            check(response, parts.netloc)
            with sensible(f"the answer of {parts.netloc}"):
                answer = json.loads(body(response))
                return f"Bearer {answer.get('token') or answer['access_token']}"

    def refused(self) -> str:
        """Return what the user can do if a registry does not let us in."""
        name, host = self.reference.name, self.reference.host
        if own_password(host):
            return f"{host} does not show {name} to you: no such image, or your password is not for it"
        hint = "`docker login` writes a password to ~/.docker/config.json, which is read here; a keyring is not"
        return f"there is no image {name} at {host}, or it is private ({hint})"


def check(response: requests.Response, host: str) -> None:
    """Raise an error for a status that is neither a success nor about our login."""
    status = response.status_code
    answer = f"{host} answers: {status} {http.client.responses.get(status, '')}"
    after = response.headers.get("Retry-After", "")
    wait = int(after) if re.fullmatch("[0-9]{1,9}", after) else None
    if status == 429:
        asks = f", and asks to wait {wait} s" if wait else ""
        raise Broken(f"{host} has had too many requests{asks}: log in, try later, or take a mirror: REGISTRY=…", wait)
    if status >= 500:
        raise Broken(answer, wait)
    if status not in (200, 206, 416):
        raise PullError(answer)


def in_words(error: Exception, host: str) -> PullError:
    """Return in words what went wrong in the network."""
    reason = error.args[0] if error.args else error
    reason = getattr(reason, "reason", reason)
    if isinstance(error, requests.exceptions.ProxyError):
        return Broken(f"the proxy does not let us to {host} (https_proxy names it): {ending(reason)}", soon=False)
    if isinstance(error, requests.exceptions.SSLError):
        hint = "REQUESTS_CA_BUNDLE=FILE names the certificates to trust"
        return Broken(f"{host}: no secure connection: {ending(reason)} ({hint})", soon=False)
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return PullError(f"{host} sends us from one address to the next, without end")
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        return Broken(f"{host}: this host is not found: is there a network, and is the name right?", soon=False)
    if isinstance(reason, urllib3.exceptions.NewConnectionError):
        return Broken(f"{host}: no connection: {ending(reason)}", soon=False)
    if isinstance(error, requests.Timeout) or isinstance(reason, urllib3.exceptions.TimeoutError):
        return Broken(f"{host} does not answer")
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return Broken(f"{host}: the connection broke")
    return PullError(f"{host}: {ending(error)}")


def ending(error: BaseException) -> str:
    """Return the end of a long message, where libraries say what happened, without errno and line numbers."""
    return re.sub(r"^\[?[\w -]*\] | \(_ssl\.c.*", "", str(error).rpartition(": ")[2].strip("()'\""))


def own_password(host: str) -> str:
    """Return user and password for a registry, in base64, as `docker login` and `podman login` keep them; or ""."""
    keys = [host, f"https://{host}"]
    if host == HUB_HOST:
        keys = ["https://index.docker.io/v1/", HUB]
    files = [
        os.environ.get("REGISTRY_AUTH_FILE", ""),
        os.path.join(os.environ.get("XDG_RUNTIME_DIR") or "/run", "containers/auth.json"),
        os.path.join(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json"),
    ]
    for file in filter(os.path.isfile, files):
        with sensible(file), open(file, "rb") as opened:
            auths = json.load(opened).get("auths") or {}
            for key in keys:
                if password := (auths.get(key) or {}).get("auth"):
                    return str(password)
    return ""


@contextmanager
def sensible(what: str) -> Iterator[None]:
    """Raise a PullError if what is read inside is not JSON, or does not have the right form."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise PullError(f"{what} makes no sense ({error!r})") from None


def body(response: requests.Response) -> bytes:
    """Return the whole of an answer that is JSON."""
    data = b""
    for chunk in response.iter_content(CHUNK):
        data += chunk
        if len(data) > MOST:
            raise PullError(f"the answer of {urlsplit(response.url).netloc} is longer than any description of an image")
    return data


def patiently(attempt: Callable[[], T], say: Callable[[str], object], gained: Callable[[], int] = lambda: 0) -> T:
    """Try again while the error is Broken. There is no limit as long as each try gets more bytes (`gained`)."""
    most, failures = gained(), 0
    while True:
        try:
            return attempt()
        except Broken as error:
            failures = 1 if gained() > most else failures + 1
            most = max(most, gained())
            pause = PAUSE * 2 ** (failures - 1) if error.wait is None else error.wait
            if failures == TRIES or pause > LONGEST or not (error.soon or most):
                raise
            say(f"{error}: trying again")
            time.sleep(pause)


# ---- manifests -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blob:
    """What a manifest names: its digest (SHA-256), and its size in bytes."""

    digest: str
    size: int

    @property
    def hex(self) -> str:
        """The digest without its prefix `sha256:`."""
        return self.digest.removeprefix("sha256:")


@dataclass(frozen=True)
class Manifest:
    """An image: its configuration and its layers, the lowest first."""

    text: bytes
    kind: str
    config: Blob
    layers: list[Blob]


def find_manifest(registry: Registry, say: Callable[[str], object]) -> Manifest:
    """Return the image's manifest for this machine."""
    wanted = registry.reference.wanted
    for _ in range(4):  # an index may name another
        text, kind = patiently(partial(get_manifest, registry, wanted), say)
        with sensible("the manifest"):
            found = json.loads(text)
            if found.get("schemaVersion") == 1:
                raise PullError(f"{registry.reference.name} is in a form that was given up in 2016: no image for today")
            if "manifests" not in found:
                layers = found["layers"]
                if any(layer.get("urls") for layer in layers):
                    raise PullError(f"{registry.reference.name} has layers that its registry does not hand out")
                return Manifest(text, kind, blob(found["config"]), [blob(layer) for layer in layers])
            wanted = blob(for_this_machine(found["manifests"], registry.reference.name)).digest
    raise PullError("the manifest names an index of an index of an index: that is no image")


def get_manifest(registry: Registry, wanted: str) -> tuple[bytes, str]:
    """Get a manifest or an index, by tag or by digest. Returns it and its media type."""
    name, host = registry.reference.name, registry.reference.host
    missing = f"there is no image {name} at {host}: is the name right, and the tag?"
    with registry.get(f"manifests/{wanted}", missing, {"Accept": ACCEPT}) as response:
        text = body(response)
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        claimed = wanted if ":" in wanted else response.headers.get("Docker-Content-Digest", digest)
        if claimed.startswith("sha256:") and claimed != digest:
            raise PullError(f"{host} sends a wrong manifest: its SHA-256 is not {claimed.removeprefix('sha256:')!r}")
        return text, response.headers.get("Content-Type", "").partition(";")[0]


def blob(descriptor: Any) -> Blob:
    """Return the blob that a descriptor names. Raises ValueError if the name is not only a digest."""
    digest, size = descriptor["digest"], descriptor["size"]
    if not isinstance(size, int) or size < 0:
        raise ValueError(f"{size!r} is no size")
    if not re.fullmatch(DIGEST, digest, re.ASCII):
        raise ValueError(f"{digest!r} is no SHA-256")
    return Blob(digest, size)


def for_this_machine(manifests: Any, name: str) -> Any:
    """Return the best manifest for Linux on this machine."""
    there: dict[str, Any] = {}
    for each in manifests:
        there.setdefault(processor({"os": "linux", "architecture": HERE[0]} | (each.get("platform") or {})), each)
    for kind in HERE:
        if f"linux/{kind}" in there:
            return there[f"linux/{kind}"]
    kinds = sorted(kind for kind in there if "unknown" not in kind)  # which is what signatures are for
    raise PullError(f"this machine is linux/{HERE[0]}, and {name} is for {', '.join(kinds) or 'none'}")


def processor(of: Any) -> str:
    """Return the platform of an image as Docker writes it: linux/amd64, linux/arm/v7."""
    kind = str(of.get("architecture"))
    variant = of.get("variant") or UNSAID.get(kind, "")
    usual = kind != "arm" and variant == UNSAID.get(kind, "")
    return f"{of.get('os')}/{kind}" + ("" if usual else f"/{variant}")


# ---- blobs -----------------------------------------------------------------------------------------------------------


def fetch(
    registry: Registry, wanted: Blob, path: Path, show: Callable[[int], object], say: Callable[[str], object]
) -> None:
    """Fetch a blob into a file. Go on after the bytes that are in the file already. `show` gets the number of bytes."""
    patiently(partial(fetch_once, registry, wanted, path, show), say, lambda: path.stat().st_size)


def fetch_once(registry: Registry, wanted: Blob, path: Path, show: Callable[[int], object]) -> None:
    """Try once. Raises Broken if another try may work, otherwise PullError, and OSError if the disk is full."""
    with path.open("r+b") as file:
        sha256 = hashlib.file_digest(file, "sha256")
        begun = file.seek(0, os.SEEK_END)
        show(begun)
        if begun < wanted.size:
            headers = {"Range": f"bytes={begun}-"} if begun else {}
            missing = f"{registry.reference.host} has lost a part of the image: {wanted.digest}"
            with registry.get(f"blobs/{wanted.digest}", missing, headers) as response:
                if response.status_code == 416:
                    file.truncate(0)
                    raise too_short(wanted, begun)
                if response.status_code != 206:  # not every server can go on in the middle
                    begun = file.seek(0)
                    file.truncate()
                    sha256 = hashlib.sha256()
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    sha256.update(chunk)
                    if file.tell() > wanted.size:
                        break
                    show(file.tell())
        size = file.tell()
        whole = size == wanted.size and sha256.hexdigest() == wanted.hex
        if size < wanted.size:
            raise too_short(wanted, size)
        if not whole and begun:  # perhaps it is what came earlier, or the server has not gone on where we asked it to
            file.truncate(0)
            raise Broken(f"layer {wanted.hex[:12]}: what was here is damaged")
    if not whole:
        raise PullError(f"{registry.reference.host} sends a wrong layer: its size or its SHA-256 is not {wanted.hex}")


def too_short(wanted: Blob, size: int) -> Broken:
    """Return the error for a blob that ends too early: the server may have failed, or the registry has no more."""
    return Broken(f"layer {wanted.hex[:12]} ends after {size:,} of {wanted.size:,} bytes", keep=False)


def in_parallel(jobs: Sequence[Callable[[], None]]) -> None:
    """Do all of this, a few at once. Raises the error of the first that fails.

    After an error or Ctrl-C we do not wait for the others: they may wait for the network, and end with the program.
    """
    waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
    results: SimpleQueue[BaseException | None] = SimpleQueue()
    for job in jobs:
        waiting.put(job)

    def work() -> None:
        with suppress(Empty):
            while True:
                job = waiting.get_nowait()
                try:
                    results.put(job())
                except BaseException as error:
                    results.put(error)

    for _ in range(AT_ONCE):
        Thread(target=work, daemon=True).start()
    for _ in jobs:
        if error := results.get():
            raise error


# ---- the layout ------------------------------------------------------------------------------------------------------


@contextmanager
def layout(folder: Path, say: Callable[[str], object]) -> Iterator[Path]:
    """Yield a folder of our own. It is removed at the end, but kept after a pull that was interrupted."""
    lock, keep = held(folder, say), False
    try:
        (folder / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        yield folder
    except (Broken, KeyboardInterrupt) as error:
        size = sum(file.stat().st_size for file in folder.glob("blobs/sha256/*"))
        keep = size > 0 and getattr(error, "keep", True)
        if not keep:
            raise
        message = f"{str(error) or 'interrupted'}; {decimal(size)} are kept, and the same command goes on from there"
        raise type(error)(message) from None
    finally:
        if not keep:
            shutil.rmtree(folder)
        os.close(lock)


def held(folder: Path, say: Callable[[str], object]) -> int:
    """Make a folder, and wait for its lock. Returns the lock's descriptor."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another pull fetches this image: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), folder.stat()):
                return lock
        os.close(lock)  # the last holder has removed the folder


def fill(folder: Path, manifest: Manifest, registry: Registry, bars: Progress, say: Callable[[str], object]) -> None:
    """Fetch an image into a folder, and write the files that make the folder an OCI layout."""
    place = folder / "blobs/sha256"
    named = {each.hex for each in (manifest.config, *manifest.layers)}
    for old in place.iterdir():  # of the image that had this name before
        if old.name not in named:
            old.unlink()
    for name in named:
        (place / name).touch()

    def job(wanted: Blob) -> Callable[[], None]:
        bar = bars.add_task(wanted.hex[:12], total=wanted.size)

        def run() -> None:
            fetch(registry, wanted, place / wanted.hex, lambda size: bars.update(bar, completed=size), say)
            if bars.disable:
                say(f"layer {wanted.hex[:12]}: {decimal(wanted.size)}")

        return run

    if manifest.config.size > MOST:
        raise PullError("the image's configuration is longer than any description of an image")
    fetch(registry, manifest.config, place / manifest.config.hex, lambda size: None, say)
    with sensible("the image's configuration"):
        own = json.loads((place / manifest.config.hex).read_bytes())
        for_this_machine([{"platform": own}], registry.reference.name)
    in_parallel([job(layer) for layer in dict.fromkeys(manifest.layers)])

    digest = hashlib.sha256(manifest.text).hexdigest()
    (place / digest).write_bytes(manifest.text)
    entry = {"mediaType": manifest.kind, "digest": f"sha256:{digest}", "size": len(manifest.text)}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def hand_over(folder: Path, name: str, package: str) -> str:
    """Let a step import a layout. Returns the image's id. Raises Exit if the step has printed what is wrong."""
    words = [sys.executable, "-m", package, "import", str(folder), name]
    done = subprocess.run(words, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    if done.returncode < 0:
        raise PullError(f"import was ended by signal {-done.returncode}")
    if done.returncode:
        raise typer.Exit(1)
    return done.stdout.strip()


# ---- the command -----------------------------------------------------------------------------------------------------


def step_package(number: int | None) -> str:
    """Return the package of a step, or of the newest step."""
    packages = {int(path.parent.name[4:6]): path.parent.name for path in PROJECT.glob("step[0-9][0-9]_*/__main__.py")}
    number = max(packages) if number is None else number
    if number < FIRST or number not in packages:
        raise PullError(f"step {number} has no import: STEP={FIRST} to {max(packages)} have one")
    return packages[number]


def pull(image: str, mirror: str, step: int | None, timeout: float, cache: Path) -> str:
    """Fetch and import an image. Returns the line to print at the end."""
    package = step_package(step)
    reference = parse(image, mirror)
    registry = Registry(reference, timeout)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    bars = Progress("layer {task.description}", *columns, console=console, disable=not console.is_terminal)

    def say(line: str) -> None:
        console.print(f"pull: {line}")

    manifest = find_manifest(registry, say)
    layers = dict.fromkeys(manifest.layers)
    many = "1 layer" if len(layers) == 1 else f"{len(layers)} layers"
    say(f"{reference.name} from {reference.host}: {many}, {decimal(sum(each.size for each in layers))}")
    key = hashlib.sha256(f"{reference.host}/{reference.repository} {reference.wanted}".encode()).hexdigest()[:12]
    with layout(cache / key, say) as folder:
        try:
            with bars:
                fill(folder, manifest, registry, bars, say)
        finally:
            console.quiet = True  # after the end no thread has the last word
        made = hand_over(folder, reference.name, package)
    sudo = "sudo " if "SUDO_UID" in os.environ else ""
    return f"{reference.name} is here now ({made}): {sudo}.venv/bin/python -m {package} run {reference.name}"


def main(
    image: Annotated[str, typer.Argument(help="Its name, as Docker takes it: alpine:3.22, quay.io/podman/hello.")],
    registry: Annotated[str, typer.Option(metavar="HOST", help="A mirror to fetch from.")] = "",
    step: Annotated[int | None, typer.Option(help="The step that imports it; otherwise the newest.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds of silence until a connection is broken.")] = 30,
    cache: Annotated[Path, typer.Option(help="Where the layers are on their way.")] = PROJECT / ".cache" / "pull",
) -> None:
    """Fetch an image from a registry and import it."""
    # As with Docker, a proxy is never asked for this machine itself.
    never = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    os.environ["no_proxy"] = ",".join(filter(None, [never, "localhost,127.0.0.0/8,::1"]))
    try:
        print(pull(image, registry, step, timeout, cache.absolute()))
    except PullError as error:
        sys.exit(f"pull: {error}")
    except KeyboardInterrupt as interrupt:
        print(f"pull: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        sys.exit(f"pull: {error.filename or cache}: {error.strerror or error}")


if __name__ == "__main__":
    typer.run(main)
