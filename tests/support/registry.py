"""A real registry on this machine (docker-registry, filled by skopeo), and a server in front of it that can fail."""

import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from tests.support import host
from tests.support.layers import Files, as_folder, sha256
from tests.support.runtime import Missing


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class Registry:
    """A running registry: its port, and the folder in which it keeps images."""

    port: int
    folder: Path

    def push(self, files: Files, name: str, *options: str) -> None:
        """Push an OCI layout with skopeo."""
        source = self.folder / f"source-{time.monotonic_ns()}"
        as_folder(files, source)
        words = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", *options]
        target = f"docker://127.0.0.1:{self.port}/{name}"
        done = subprocess.run([*words, f"oci:{source}", target], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        shutil.rmtree(source)

    def ask(self, how: str, path: str, body: bytes = b"", **headers: str) -> tuple[bytes, Any]:
        """Send one request. Returns the answer's body and its headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(how, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status < 300, (path, answer.status, text)
        return text, answer.headers

    def put(self, name: str, tag: str, manifest: Any) -> str:
        """Upload a manifest as it is, for an image that skopeo would not make. Returns its digest."""
        text = json.dumps(manifest).encode()
        self.ask("PUT", f"/v2/{name}/manifests/{tag}", text, Content_Type=manifest["mediaType"])
        return f"sha256:{sha256(text)}"

    def manifest(self, name: str, tag: str) -> tuple[dict[str, Any], bytes]:
        kinds = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
        text, _ = self.ask("GET", f"/v2/{name}/manifests/{tag}", Accept=kinds)
        return json.loads(text), text


@contextmanager
def serving(folder: Path) -> Iterator[Registry]:
    """Run a registry that keeps its images in a folder."""
    for program in ("docker-registry", "skopeo"):
        if not shutil.which(program):
            raise Missing(f"there is no {program} here: CONTRIBUTING.md tells why")
    registry = Registry(free_port(), folder)
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "images")}},
        "http": {"addr": f"127.0.0.1:{registry.port}"},
    }
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(["docker-registry", "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        host.wait_until(lambda: answers(registry), f"the registry answers: {(folder / 'log').read_text()}")
        yield registry
    finally:
        running.kill()
        running.wait()


def answers(registry: Registry) -> bool:
    with suppress(OSError):
        registry.ask("GET", "/v2/")
        return True
    return False


# ---- one that can fail -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """One request, and how often the same path has been requested, this time included."""

    path: str
    headers: Any
    count: int

    @property
    def blob(self) -> bool:
        return "/blobs/" in self.path


@dataclass
class Answer:
    """One answer. `claimed` is the length in its header. If it `stalls`, nothing follows for a long time."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    claimed: int | None = None
    stalls: bool = False


Fault = Callable[[Request], Answer | None]


class Front:
    """A server in front of the registry: it passes on each request that `fault` does not answer."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.fault: Fault = lambda request: None
        self.requests: list[Request] = []
        self.over = Event()
        lock = Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # `self` is the front
                with lock:
                    count = 1 + sum(request.path == handler.path for request in self.requests)
                    request = Request(handler.path, handler.headers, count)
                    self.requests.append(request)
                with suppress(OSError):  # who asked may have gone
                    self.send(handler, self.fault(request) or self.passed_on(request))

            def log_message(handler, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.host = f"127.0.0.1:{self.port}"
        self.thread = Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def passed_on(self, request: Request) -> Answer:
        """Return the registry's own answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.registry.port, timeout=10)
        kept = {name: request.headers[name] for name in ("Accept", "Range") if name in request.headers}
        connection.request("GET", request.path, headers=kept)
        answer = connection.getresponse()
        names = ("Content-Type", "Content-Range", "Docker-Content-Digest")
        headers = {name: answer.headers[name] for name in names if name in answer.headers}
        body = answer.read()
        connection.close()
        return Answer(answer.status, headers, body)

    def send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        handler.send_response(answer.status)
        length = len(answer.body) if answer.claimed is None else answer.claimed
        for name, value in {"Content-Length": str(length), **answer.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(answer.body)
        if answer.stalls:
            self.over.wait(30)

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
