"""Images in the formats of `docker save`, `podman save` and registries: layers, and JSON that lists them in order.

    manifest.json            names the image's configuration and its layers, the lowest first (docker-archive); or
    oci-layout, index.json   name a manifest. It names the configuration and the layers too, each by its SHA-256
    blobs/sha256/DIGEST      a file that is named by its SHA-256 (image-layout.md in opencontainers/image-spec)

These files are in a directory, or in a tar archive, which we unpack first. Each layer is a tar archive of changes. A
file .wh.NAME deletes NAME of the layers below; .wh..wh..opq deletes all that they have in its directory (layer.md).
"""

import hashlib
import io
import json
import os
import re
import stat
import tarfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

from .. import child
from ..lib import linux, store
from ..lib.errors import ContainerError
from . import copy, pack, settings, unpack

LARGEST_JSON = 2**22  # bytes of JSON
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
LAYER = re.compile(r"application/vnd\.(oci\.image\.layer\.v1|docker\.image\.rootfs\.diff)\.tar([.+](gzip|zstd))?")
MACHINES = {"x86_64": ["amd64", "386"], "i686": ["386"], "aarch64": ["arm64"], "armv7l": ["arm"]}
RUNS_HERE = MACHINES.get(os.uname().machine, [os.uname().machine])  # what this machine can run, as images name it
SEVERAL = "there are several images in it: save only the one that you want"


def from_archive(file: int, show: Callable[[], object], root: Path) -> int:
    """Fill `root` from a tar archive of files or layers; call `show` now and then. Returns the files' size in bytes."""
    size = child.run(partial(unpack.confined, file, root), show)
    if not has_layers(root):
        return size
    folder = root.with_name("layers")
    linux.rename(root, folder)
    root.mkdir()
    root.chmod(0o755)
    size = unpack_layers(folder, root)
    store.remove(folder)
    return size


def from_directory(source: Path, root: Path) -> int:
    """Fill `root` from a directory of files or of layers. Returns the files' size in bytes."""
    return unpack_layers(source, root) if has_layers(source) else copy.copy(root, partial(pack.pack, source))


def has_layers(folder: Path) -> bool:
    """Return whether a directory has an image in layers. Web sites have a manifest.json too, but Docker's is a list."""
    if not os.path.isfile(folder / "manifest.json"):
        return os.path.lexists(folder / "oci-layout")
    with opened(folder, "manifest.json") as file:
        if b'"schemaVersion"' in (start := file.read(200)):
            raise ContainerError("this is an image in the format of 'skopeo copy … dir:FOLDER': use oci:FOLDER there")
        return start.startswith(b"[") or os.path.lexists(folder / "oci-layout")


def unpack_layers(folder: Path, root: Path) -> int:
    """Unpack an image's layers into `root`, the lowest first. Write the image's settings beside `root`."""
    try:
        config, names = oci(folder) if os.path.lexists(folder / "oci-layout") else docker(folder)
        for_this_machine([{"platform": config}])
        layers = list(zip(names, map(hexadecimal, config["rootfs"]["diff_ids"]), strict=True))
        settings.write(root.parent, settings.checked(config.get("config") or {}))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ContainerError(f"the image is damaged: its description makes no sense ({error!r})") from None
    return sum(unpack_layer(folder, name, digest, root) for name, digest in layers)


# ---- which layers ----


def oci(folder: Path) -> tuple[Any, list[str]]:
    """Return the configuration in an OCI layout, and the names of its layers' files."""
    manifest = document(folder, "index.json")
    while "manifests" in manifest:  # it is an index, perhaps of indexes
        manifest = document(folder, blob(for_this_machine(manifest["manifests"])))
    for layer in manifest["layers"]:
        if not LAYER.fullmatch(layer["mediaType"]):
            raise ContainerError(f"the image has a layer of an unknown kind: {layer['mediaType']!r}")
    return document(folder, blob(manifest["config"])), [blob(layer) for layer in manifest["layers"]]


def docker(folder: Path) -> tuple[Any, list[str]]:
    """Return the configuration in a docker-archive, and the names of its layers' files."""
    image, *more = document(folder, "manifest.json")
    if more:
        raise ContainerError(SEVERAL)
    return document(folder, str(image["Config"])), [str(name) for name in image["Layers"]]


def blob(descriptor: Any) -> str:
    """Return the path of the file whose digest a descriptor gives."""
    return f"blobs/sha256/{hexadecimal(descriptor['digest'])}"


def hexadecimal(digest: str) -> str:
    """Return a digest without its prefix `sha256:`. Raises ValueError if it has another form."""
    if not re.fullmatch("sha256:[0-9a-f]{64}", digest):
        raise ValueError(f"{digest!r} is no SHA-256")
    return digest.removeprefix("sha256:")


def for_this_machine(manifests: Any) -> Any:
    """Return the manifest for Linux on this machine. Of several variants, such as v6 and v7, the first runs on all."""
    found: dict[Any, dict[str, Any]] = {}
    platforms = [{"os": "linux", "architecture": RUNS_HERE[0]} | (each.get("platform") or {}) for each in manifests]
    for each, platform in zip(manifests, platforms, strict=True):
        if platform["os"] == "linux" and platform["architecture"] in RUNS_HERE:
            rank = RUNS_HERE.index(platform["architecture"]), platform.get("variant", "")
            found.setdefault(rank, {})[each.get("digest")] = each
    if not found:
        there = sorted({f"{platform['os']}/{platform['architecture']}" for platform in platforms})
        raise ContainerError(f"this machine is linux/{RUNS_HERE[0]}, and the image is for {', '.join(there) or 'none'}")
    if len(best := found[min(found)]) > 1:
        raise ContainerError(SEVERAL)
    return next(iter(best.values()))


def document(folder: Path, name: str) -> Any:
    """Return the content of a JSON file."""
    with opened(folder, name) as file:
        if os.fstat(file.fileno()).st_size > LARGEST_JSON:
            raise ContainerError(f"the image is damaged: {name!r} is longer than any description of an image")
        return json.loads(file.read())


def opened(folder: Path, name: str) -> io.FileIO:
    """Open a file of the image. Links cannot lead out of the image. If the file's name is its digest, check it."""
    try:
        file = io.FileIO(linux.open_inside(folder, name))
    except OSError as error:
        raise ContainerError(f"the image is incomplete: {name!r}: {os.strerror(error.errno or 0)}") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise ContainerError(f"the image is damaged: {name!r} is not a file")
    digest = re.fullmatch(r"(?:blobs/sha256/|sha256:)?([0-9a-f]{64})(?:\.json)?", name)
    if digest and hashlib.file_digest(file, "sha256").hexdigest() != digest[1]:
        raise ContainerError(f"the image is damaged: {name!r} does not have this SHA-256")
    file.seek(0)
    return file


# ---- one layer ----


def unpack_layer(folder: Path, name: str, digest: str, root: Path) -> int:
    """Unpack a layer. `digest` is the SHA-256 of its uncompressed bytes. Returns the files' size in bytes.

    The layer is read twice. Its deletions come first: they apply to the layers below, not to the layer's own files.
    """
    with opened(folder, name) as file:
        child.run(partial(unpack.confined, file.fileno(), root, delete, digest))
        file.seek(0)
        unmarked = partial(unpack.unpack_all, left_out=lambda path: os.path.basename(path).startswith(WHITEOUT))
        return child.run(partial(unpack.confined, file.fileno(), root, unmarked))


def delete(archive: tarfile.TarFile) -> int:
    """Delete what a layer's marks name. Marks below a link are skipped: the layer replaces this link by a directory."""
    for member in iter(archive.next, None):
        archive.members.clear()  # type: ignore[attr-defined]  # as in unpack_all
        folder, name = os.path.split(os.path.normpath(f"/{member.name}"))
        if not name.startswith(WHITEOUT) or os.path.realpath(folder) != folder or not os.path.isdir(folder):
            continue
        gone = [name.removeprefix(WHITEOUT)]
        if name.startswith(WHITEOUT + WHITEOUT):  # all files, or a mark that only the file system aufs uses
            gone = os.listdir(folder) if name == OPAQUE else []
        if not {"", ".", ".."}.isdisjoint(gone):
            raise ContainerError(f"the image is damaged: {member.name!r} does not name what it deletes")
        for path in [os.path.join(folder, each) for each in gone]:
            if os.path.lexists(path):
                unpack.remove(path)
    return 0


# ---- written ----


def write(target: IO[bytes], layer: IO[bytes], name: str, own: settings.Settings) -> None:
    """Write the archive of an image that has this one layer, for `docker load`, `podman load` and `import`."""
    layer.seek(0)
    digest = hashlib.file_digest(layer, "sha256").hexdigest()  # type: ignore[arg-type]
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    facts = {"created": made, "architecture": RUNS_HERE[0], "os": "linux", "config": own, "rootfs": rootfs}
    config = json.dumps(facts | {"history": [{"created": made, "created_by": "commit"}]}).encode()
    names = [f"{digest}.tar", f"{hashlib.sha256(config).hexdigest()}.json", "manifest.json"]
    manifest = json.dumps([{"Config": names[1], "RepoTags": [name], "Layers": names[:1]}]).encode()
    with tarfile.open(fileobj=target, mode="w|") as archive:
        for path, file in zip(names, (layer, io.BytesIO(config), io.BytesIO(manifest)), strict=True):
            info = tarfile.TarInfo(path)
            info.size = file.seek(0, os.SEEK_END)
            file.seek(0)
            archive.addfile(info, file)
