"""Make images in layers, in the forms of `docker save` and of registries: a dict of file names and contents."""

import gzip
import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.image import Member, file
from tests.support.runtime import Runtime
from tests.support.store import own_store, sheltered

Files = dict[str, bytes]
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
CREATED = "2026-01-02T03:04:05Z"
OCI = "application/vnd.oci.image"


def tarred(members: Iterable[Member]) -> bytes:
    """Return a layer: a tar archive of these members."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def configuration(layers: Sequence[bytes], config: Any = None, **facts: str) -> bytes:
    """Return an image's configuration. `layers` are uncompressed."""
    history = [
        {"created": CREATED, "created_by": "a test"} for _ in layers
    ]  # without it Podman commits nothing upon it
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{sha256(layer)}" for layer in layers]}
    facts = {"architecture": ARCHITECTURE, "os": "linux"} | facts
    return json.dumps(
        {"created": CREATED, **facts, "config": config or {}, "rootfs": rootfs, "history": history}
    ).encode()


def docker(
    layers: Sequence[bytes], config: Any = None, *, tag: str = "made:latest", facts: dict[str, str] | None = None
) -> Files:
    """Return a docker-archive. Its layers have names as in older Docker versions, which are not digests."""
    own = configuration(layers, config, **facts or {})
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": f"{sha256(own)}.json", "RepoTags": [tag], "Layers": names}]
    return {
        **dict(zip(names, layers, strict=True)),
        f"{sha256(own)}.json": own,
        "manifest.json": json.dumps(manifest).encode(),
    }


def described(data: bytes, kind: str, **more: Any) -> dict[str, Any]:
    """Return an OCI descriptor."""
    return {"mediaType": kind, "digest": f"sha256:{sha256(data)}", "size": len(data), **more}


def blobs(*contents: bytes) -> Files:
    return {f"blobs/sha256/{sha256(content)}": content for content in contents}


def oci(
    layers: Sequence[bytes],
    config: Any = None,
    *,
    packed: Sequence[bytes] = (),
    kind: str = f"{OCI}.layer.v1.tar",
    tag: str = "made:latest",
    facts: dict[str, str] | None = None,
) -> Files:
    """Return an OCI layout of one image. `packed` are the compressed layers, if it is to hold such."""
    own, packed = configuration(layers, config, **facts or {}), packed or layers
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": described(own, f"{OCI}.config.v1+json"),
        "layers": [described(layer, kind) for layer in packed],
    }
    text = json.dumps(manifest).encode()
    named = described(text, f"{OCI}.manifest.v1+json", annotations={"org.opencontainers.image.ref.name": tag})
    return {**blobs(*packed, own, text), **index(named)}


def index(*manifests: dict[str, Any]) -> Files:
    """Return the two files that every OCI layout has."""
    listed = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    return {"index.json": listed, "oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}


def manifest_of(files: Files) -> dict[str, Any]:
    """Return the descriptor of the image in an OCI layout."""
    found: dict[str, Any] = json.loads(files["index.json"])["manifests"][0]
    return found


def archived(files: Files, *more: Member) -> bytes:
    """Return a tar archive of the files, and of `more` members, such as links."""
    return tarred([*(file(name, data) for name, data in files.items()), *more])


def as_folder(files: Files, top: Path) -> Path:
    for name, data in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(data)
    return top


def zipped(data: bytes) -> bytes:
    return gzip.compress(data, 1)


def loaded(runtime: Runtime, tmp_path: Path, source: Files | Path) -> Runtime:
    """Return the runtime with this image, in a new store of its own. For Podman, use `load` instead of our `import`."""
    archive = source if isinstance(source, Path) else tmp_path / "layers.tar"
    if not isinstance(source, Path):
        archive.write_bytes(archived(source))
    name = f"own-{os.urandom(6).hex()}"
    if runtime.podman:
        result = runtime.call("load", "-q", "-i", str(archive))
        assert result.code == 0, result.err.decode()
        loaded_as = result.text.splitlines()[-1].partition(": ")[2]
        assert runtime.call("tag", loaded_as, name).code == 0
        return replace(runtime, image=name)
    own = replace(own_store(runtime, tmp_path), image=name)
    result = own.call("import", str(archive), name, under=sheltered(runtime, tmp_path))
    assert (result.code, result.err) == (0, b"")
    return own


def settings(runtime: Runtime, image: str) -> dict[str, Any]:
    """Return an image's settings for `run`."""
    if runtime.podman or runtime.step >= 8:
        found: dict[str, Any] = json.loads(runtime.says("inspect", image))[0]["Config"]
        return found
    names = json.loads(Path(runtime.environment["MYDOCKER_ROOT"], "images/names.json").read_text())
    kept = Path(runtime.environment["MYDOCKER_ROOT"], "images", names[f"{image}:latest"], "settings.json")
    read: dict[str, Any] = json.loads(kept.read_text())
    return read
