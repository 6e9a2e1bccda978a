"""Step 6: import takes images in layers, as `docker save`, `podman save` and registries hand them on: whole or not."""

import bz2
import io
import json
import lzma
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import host, layers, oracle
from tests.support.fresh import Fresh
from tests.support.image import Member, file, folder, hard, link
from tests.support.layers import (
    OCI,
    Files,
    archived,
    as_folder,
    blobs,
    configuration,
    described,
    docker,
    index,
    loaded,
    manifest_of,
    oci,
    sha256,
    tarred,
    zipped,
)
from tests.support.runtime import Missing, Result, Runtime
from tests.support.store import import_tiny, left, own_store, shell, sheltered
from tests.support.tree import seen

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.same("commands/image.py", "images/layers.py", "images/unpack.py", "child.py")

OURS = pytest.mark.ours_alone("Podman words it differently")
ENDS: list[Member] = [folder("t"), file("t/end", b"end")]


def every() -> bool:
    return os.environ.get("MYDOCKER_TEST_FAULTS") == "all"


def base() -> bytes:
    return tarred([*shell(), folder("t")])


def fifo(name: str) -> Member:
    info = tarfile.TarInfo(name)
    info.type = tarfile.FIFOTYPE
    return info, b""


def mark(name: str) -> Member:
    """A whiteout: it stands where the file was that it deletes."""
    place, slash, base = name.rpartition("/")
    return file(f"{place}{slash}.wh.{base}", b"")


def opaque(place: str) -> Member:
    return file(f"{place}/.wh..wh..opq", b"")


def found(runtime: Runtime) -> dict[str, str]:
    """What is in the tree `t`: the files' content by name, `/` for a directory, and where a link leads."""
    script = """
        cd /t; /bin/busybox find . | while read -r name; do
            if [ -L "$name" ]; then echo "$name -> $(/bin/busybox readlink "$name")"
            elif [ -d "$name" ]; then echo "$name /"; else echo "$name $(cat "$name")"; fi
        done
    """
    lines = (line.removeprefix("./").partition(" ") for line in runtime.output("sh", "-c", script).splitlines())
    return {name: what for name, _, what in lines if name != "."}


# ---- one upon the other ----------------------------------------------------------------------------------------------

LOWER = [
    *(file("t/gone", b"1"), file("t/kept", b"1"), file("t/changed", b"1"), link("t/link", "kept")),
    *(folder("t/away"), folder("t/away/in"), file("t/away/in/it", b"1"), hard("t/second-name", "t/kept")),
    *(folder("t/emptied"), file("t/emptied/old", b"1"), folder("t/emptied/old-folder"), link("t/emptied/l", "/t")),
    *(folder("t/becomes-file"), file("t/becomes-file/x", b"1"), file("t/becomes-folder", b"1")),
    *(link("t/becomes-real", "merged"), folder("t/merged"), file("t/merged/below", b"1"), link("t/dangling", "/no")),
    *(folder("t/again"), file("t/again/old", b"1"), file("t/back", b"1")),
]
MIDDLE = [
    folder("t"),
    *(mark("t/gone"), mark("t/away"), mark("t/link"), mark("t/dangling"), mark("t/never-was"), mark("t/back")),
    *(file("t/changed", b"2"), folder("t/emptied"), opaque("t/emptied"), file("t/emptied/new", b"2")),
    *(file("t/becomes-file", b"2"), folder("t/becomes-folder"), file("t/becomes-folder/in", b"2")),
    *(folder("t/becomes-real"), opaque("t/becomes-real"), file("t/becomes-real/x", b"2")),
    *(folder("t/merged"), file("t/merged/above", b"2"), folder("t/again"), opaque("t/again")),
]
UPPER = [
    folder("t"),
    *(file("t/back", b"3"), folder("t/again"), file("t/again/new", b"3"), mark("t/second-name")),
    *(folder("t/emptied"), mark("t/emptied/new"), folder("t/new"), link("t/new/link", "../kept")),
]
RESULT = {
    "kept": "1",
    "changed": "2",
    "emptied": "/",
    "becomes-file": "2",
    "becomes-folder": "/",
    "becomes-folder/in": "2",
    "becomes-real": "/",
    "becomes-real/x": "2",
    "merged": "/",
    "merged/below": "1",
    "merged/above": "2",
    "back": "3",
    "again": "/",
    "again/new": "3",
    "new": "/",
    "new/link": "-> ../kept",
}


@pytest.mark.parametrize("make", [docker, oci], ids=["docker-archive", "OCI"])
def test_layers_are_applied_in_order(
    runtime: Runtime, tmp_path: Path, make: Callable[..., Files], fresh: Fresh
) -> None:
    """What a layer deletes is gone, what it replaces is new, and a directory that it hides begins empty."""
    upper = [*UPPER, file("t/word", (word := fresh.word()).encode())]
    own = loaded(runtime, tmp_path, make([base(), tarred(LOWER), tarred(MIDDLE), tarred(upper)]))
    assert found(own) == RESULT | {"word": word}


def test_both_at_once(runtime: Runtime, tmp_path: Path) -> None:
    """As Docker writes it since version 25: an OCI layout, with a manifest.json for older readers."""
    plain = [base(), tarred(LOWER), tarred(MIDDLE), tarred(UPPER)]
    own = configuration(plain)
    names = [*blobs(*plain)]
    manifest = json.dumps([{"Config": f"blobs/sha256/{sha256(own)}", "RepoTags": ["made:latest"], "Layers": names}])
    files = {**oci(plain), "manifest.json": manifest.encode()}
    assert found(loaded(runtime, tmp_path, files)) == RESULT
    del files["oci-layout"], files["index.json"]
    assert found(loaded(runtime, tmp_path, files)) == RESULT


@OURS
def test_a_folder(runtime: Runtime, tmp_path: Path) -> None:
    """It is the same as its archive, and left as it was."""
    for name, make in (("docker", docker), ("oci", oci)):
        place = as_folder(make([base(), tarred(LOWER), tarred(MIDDLE), tarred(UPPER)]), tmp_path / name)
        before = seen(place)
        assert found(loaded(runtime, tmp_path, place)) == RESULT
        assert seen(place) == before


@pytest.mark.ours_alone("Podman: whether a mark or its directory comes first decides; the standard says it does not")
def test_a_mark_deletes_only_what_is_below(runtime: Runtime, tmp_path: Path) -> None:
    """Wherever it stands in its layer; what comes with it stays, and what aufs keeps for itself is no file."""
    files = [file("t/x", b"2"), file("t/folder/new", b"2"), file("t/opaque/new", b"2")]
    marks = [
        mark("t/x"),
        mark("t/folder"),
        opaque("t/opaque"),
        file("t/.wh..wh.plnk", b""),
        file("t/.wh..wh.orph", b""),
    ]
    lower = [file("t/x", b"1"), file("t/folder/old", b"1"), file("t/opaque/old", b"1"), folder("t/opaque/sub")]
    there = {"x": "2", "folder": "/", "folder/new": "2", "opaque": "/", "opaque/new": "2"}
    for upper in ([*files, *marks], [*marks, *files]):
        assert found(loaded(runtime, tmp_path, docker([base(), tarred(lower), tarred(upper)]))) == there


@OURS
def test_a_mark_is_not_followed_through_a_link(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """The layer that has it has a directory in the link's place."""
    word = fresh.word()
    lower = [folder("t/real"), file("t/real/file", word.encode()), link("t/link", "real"), link("t/up", "..")]
    upper = [mark("t/link/file"), opaque("t/link"), opaque("t/up"), mark("t/up/t"), mark("t/loop/x"), folder("t/new")]
    own = loaded(runtime, tmp_path, docker([base(), tarred([*lower, link("t/loop", "loop")]), tarred(upper)]))
    there = found(own)
    assert there["real/file"] == word and there["new"] == "/" and there["link"] == "-> real"


def test_a_layer_without_files(runtime: Runtime, tmp_path: Path) -> None:
    """As Podman makes one for a change of the configuration alone."""
    assert found(loaded(runtime, tmp_path, docker([base(), bytes(1024), tarred(ENDS)]))) == {"end": "end"}


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": zipped,
    "zstd": zstd.compress,
    "bzip2": lambda data: bz2.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
}


@pytest.mark.long
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressed_layers(runtime: Runtime, tmp_path: Path, compression: str) -> None:
    """Told by the first bytes, as Docker does: its type may be older than the compression."""
    plain, compress = [base(), tarred(ENDS)], COMPRESSIONS[compression]
    kind = f"{OCI}.layer.v1.tar+{'zstd' if compression == 'zstd' else 'gzip'}"
    own = loaded(runtime, tmp_path, oci(plain, packed=[compress(layer) for layer in plain], kind=kind))
    assert found(own) == {"end": "end"}


@OURS
def test_from_standard_input_compressed_as_a_whole(runtime: Runtime, tmp_path: Path) -> None:
    own = replace(own_store(runtime, tmp_path), image="own")
    assert own.call("import", "-", "own", input=zipped(archived(docker([base(), tarred(ENDS)])))).code == 0
    assert found(own) == {"end": "end"}


@OURS
@pytest.mark.as_root("Podman is asked as root")
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir"])
def test_what_podman_saves(runtime: Runtime, tmp_path: Path, form: str) -> None:
    try:
        podman = oracle.podman(runtime.directory)
    except Missing as missing:
        pytest.skip(str(missing))
    name, saved = f"saved-{os.urandom(4).hex()}", tmp_path / "state/saved"
    script = "mkdir /t; echo new > /t/new; rm /etc/group; rm -r /home; mkdir /home; echo again > /home/file"
    box = podman.call("create", "--network", "none", "-w", "/tmp", "-e", "A=b c", "test", "sh", "-c", script).text
    assert podman.call("start", "-a", box).code == 0
    assert podman.call("commit", "-q", "-c", 'ENTRYPOINT ["echo", "hi"]', box, name).code == 0
    podman.call("rm", box)
    assert podman.call("save", "-q", "--format", form, "-o", str(saved), name).code == 0
    podman.call("rmi", name)
    own = loaded(runtime, tmp_path, saved)
    assert own.output("you") == "hi you"
    ask = "cat /t/new /home/file; ls /home; cat /etc/group; python3 -c 'print(6 * 7)'; echo $A"
    result = own.run("-c", ask, options=["--entrypoint", "sh"])
    assert result.text == "new\nagain\nfile\n42\nb c"


# ---- which of several ------------------------------------------------------------------------------------------------


def for_platform(content: str, **platform: str) -> tuple[dict[str, Any], Files]:
    """An image with this in the file /t/end, and its descriptor for this platform."""
    facts = {key: value for key, value in platform.items() if key != "variant"}
    made = oci([base(), tarred([file("t/end", content.encode())])], facts=facts)
    return manifest_of(made) | {"platform": platform}, made


def choice(*images: tuple[dict[str, Any], Files]) -> Files:
    """An OCI layout with an index, which names an index, which names these."""
    files: Files = {}
    for _, made in images:
        files |= made
    inner = json.dumps({"schemaVersion": 2, "manifests": [named for named, _ in images]}).encode()
    return {**files, **blobs(inner), **index(described(inner, f"{OCI}.index.v1+json"))}


HERE = layers.ARCHITECTURE


def test_the_image_for_this_machine_is_taken(runtime: Runtime, tmp_path: Path) -> None:
    others = [
        for_platform("other", os="linux", architecture="s390x"),
        for_platform("windows", os="windows", architecture=HERE),
        for_platform("signature", os="unknown", architecture="unknown"),
    ]
    mine = for_platform("mine", os="linux", architecture=HERE)
    assert found(loaded(runtime, tmp_path, choice(*others, mine))) == {"end": "mine"}


@OURS
def test_which_variant(runtime: Runtime, tmp_path: Path) -> None:
    """The one that runs on all machines of this architecture."""
    some = [for_platform(name, os="linux", architecture=HERE, variant=name) for name in ("v3", "v1", "v2")]
    assert found(loaded(runtime, tmp_path, choice(*some))) == {"end": "v1"}


@OURS
def test_no_image_for_this_machine(runtime: Runtime, tmp_path: Path) -> None:
    other = for_platform("other", os="linux", architecture="s390x")
    windows = for_platform("other", os="windows", architecture=HERE)
    for files in (choice(other, windows), other[1], docker([base()], facts={"architecture": "s390x"})):
        said = refused(runtime, tmp_path, archived(files))
        assert "linux/s390x" in said and f"linux/{HERE}" in said
    assert "windows" in refused(runtime, tmp_path, archived(choice(other, windows)))
    assert "none" in refused(runtime, tmp_path, archived(choice()))


@OURS
def test_several_images(runtime: Runtime, tmp_path: Path) -> None:
    """Nobody can say which is meant. One image under two names is one."""
    one, other = docker([base()]), docker([base(), tarred(ENDS)])
    both = json.loads(one["manifest.json"]) + json.loads(other["manifest.json"])
    files = {**one, **other, "manifest.json": json.dumps(both).encode()}
    assert "several" in refused(runtime, tmp_path, archived(files))
    one, other = oci([base()]), oci([base(), tarred(ENDS)])
    files = {**one, **other, **index(manifest_of(one), manifest_of(other))}
    assert "several" in refused(runtime, tmp_path, archived(files))
    files = {**other, **index(manifest_of(other), manifest_of(other) | {"annotations": {"x": "y"}})}
    assert found(loaded(runtime, tmp_path, files)) == {"end": "end"}


@OURS
def test_skopeo_s_own_form(runtime: Runtime, tmp_path: Path) -> None:
    """`skopeo copy … dir:FOLDER`: not a root with odd files in it, but an image, to be had in a form known here."""
    layout = oci([base()])
    digest = str(manifest_of(layout)["digest"]).removeprefix("sha256:")
    files = {Path(name).name: data for name, data in layout.items() if name.startswith("blobs/")}
    files |= {"manifest.json": files.pop(digest), "version": b"Directory Transport Version: 1.1\n"}
    for source in (archived(files), as_folder(files, tmp_path / "state" / "folder")):
        assert "oci:FOLDER" in refused(runtime, tmp_path, source)


@OURS
def test_files_that_only_look_like_it(runtime: Runtime, tmp_path: Path) -> None:
    """A web site's manifest.json, and a folder of that name, are files of an image like others."""
    for odd in (file("manifest.json", b'{"name": "a web site"}'), folder("manifest.json"), file("manifest.json", b"")):
        own = loaded(runtime, tmp_path, as_tar(tmp_path, [*shell(), *ENDS, odd]))
        assert found(own) == {"end": "end"} and "manifest.json" in own.output("ls", "/")
    own = loaded(runtime, tmp_path, as_tar(tmp_path, [*shell(), folder("t"), file("t/.wh.end", b"x")]))
    assert found(own) == {".wh.end": "x"}


def as_tar(tmp_path: Path, members: list[Member]) -> Path:
    (tmp_path / "flat.tar").write_bytes(tarred(members))
    return tmp_path / "flat.tar"


# ---- damaged: one line, and nothing is left --------------------------------------------------------------------------


def refused(runtime: Runtime, tmp_path: Path, archive: bytes | Path) -> str:
    """What import says of an archive or a folder that it does not take."""
    own = own_store(runtime, tmp_path)
    before = {*left(tmp_path / "state")}
    given = archive if isinstance(archive, Path) else "-"
    data = b"" if isinstance(archive, Path) else archive
    result = own.call("import", str(given), "damaged", input=data, under=sheltered(runtime, tmp_path))
    assert result.out == b""
    assert {*left(tmp_path / "state")} == before
    return own.refusal(result)


@pytest.mark.long
@OURS
@pytest.mark.parametrize("make", [docker, oci], ids=["docker-archive", "OCI"])
def test_a_bit_in_each_file(runtime: Runtime, tmp_path: Path, make: Callable[..., Files]) -> None:
    """Whatever a digest names is checked; each file missing, cut short, and with a bit that fell over."""
    dice = random.Random(f"{make.__name__} {runtime.step} {runtime.rootless}")
    files = make([base(), tarred(ENDS)], {"Cmd": ["true"]})
    for name, data in files.items():
        without = {other: content for other, content in files.items() if other != name}
        at = dice.randrange(len(data))
        flipped = data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]
        if name not in ("manifest.json", "index.json", "oci-layout"):  # which no digest names
            longer = data + bytes(512) if dice.random() < 0.5 else data[: len(data) // 2]
            for damaged in (flipped, longer):
                said = refused(runtime, tmp_path, archived({**without, name: damaged}))
                assert re.search("SHA-256|the archive is broken|ends too early", said), name
            assert "is incomplete" in refused(runtime, tmp_path, archived(without)), name
        elif name == "index.json":
            refused(runtime, tmp_path, archived(without))
            refused(runtime, tmp_path, archived({**without, name: data[:-1]}))


@OURS
def test_half_an_archive(runtime: Runtime, tmp_path: Path) -> None:
    whole = archived(docker([base(), tarred(ENDS)])).rstrip(b"\0")
    refused(runtime, tmp_path, whole[: len(whole) // 2])


@OURS
def test_a_compressed_layer_whose_end_is_wrong(runtime: Runtime, tmp_path: Path) -> None:
    """Its digest is right, but not what is in it."""
    plain = base()
    for packed in (zipped(plain)[:-4], zipped(plain) + b"more", zipped(plain + b"\1" * 512), zipped(tarred(ENDS))):
        refused(runtime, tmp_path, archived(oci([plain], packed=[packed])))


BROKEN: list[Any] = [None, [], [None], {}, "x", 7, "sha256:" + "0" * 63, "sha512:" + "0" * 128, [12345678], {"a": 1}]
LONG_NUMBER, DEEP = b"1" * 10_000, b"[" * 100_000


def variations() -> list[Files]:
    """Images whose JSON is JSON, but makes no sense: each value of each file replaced by what it cannot be."""
    made = []
    archive, layout = docker([base()]), oci([base()])
    for key in ("Config", "Layers"):
        for wrong in BROKEN:
            (listed,) = json.loads(archive["manifest.json"])
            made.append({**archive, "manifest.json": json.dumps([listed | {key: wrong}]).encode()})
    for wrong in (*BROKEN, [{"digest": "sha256:../../../../etc/passwd"}], [{"digest": 5}], [{"platform": 5}]):
        made.append({**layout, "index.json": json.dumps({"manifests": wrong}).encode()})
    for key in ("config", "layers"):
        for wrong in (*BROKEN, [{"mediaType": 5}]):
            (manifest,) = (json.loads(data) for data in layout.values() if b'"layers": [' in data[:2000])
            text = json.dumps(manifest | {key: wrong}).encode()
            made.append({**layout, **blobs(text), **index(described(text, "x"))})
    for key in ("rootfs", "config", "architecture", "os"):
        for wrong in BROKEN:
            if key == "config" and (not wrong or wrong == {"a": 1}):
                continue  # an image may say nothing, or what we do not know
            text = json.dumps(json.loads(configuration([base()])) | {key: wrong}).encode()
            (listed,) = json.loads(archive["manifest.json"])
            listed["Config"] = f"{sha256(text)}.json"
            made.append({**archive, listed["Config"]: text, "manifest.json": json.dumps([listed]).encode()})
    for odd in (b"[", b"[]", b"[1]", b"[[]]", b"[\xff]", LONG_NUMBER, DEEP, b"[" + LONG_NUMBER + b"]", b"[]" * 2**22):
        made.append({**layout, "index.json": odd})
        made.append({**archive, "manifest.json": b"[" + odd})
    return made


@OURS
@pytest.mark.as_root("as a user it takes the same way")
def test_json_that_makes_no_sense(runtime: Runtime, tmp_path: Path) -> None:
    """Twenty at random of some hundred; MYDOCKER_TEST_FAULTS=all tries every one."""
    tried = variations()
    for files in tried if every() else random.Random(runtime.step).sample(tried, 20):
        refused(runtime, tmp_path, as_folder(files, tmp_path / f"state/{os.urandom(4).hex()}"))


CONFIGS: list[dict[str, Any]] = [
    *({"Cmd": wrong} for wrong in ("sh", [1], [None], {"a": 1}, ["a\0b"], ["\ud800"], [["a"]])),
    *({"Entrypoint": wrong} for wrong in ("sh", [1])),
    *({"Env": wrong} for wrong in ("A=b", [1], {"A": "b"}, ["A=\0"])),
    *({"User": wrong} for wrong in (7, ["root"], "a\0b")),
    *({"WorkingDir": wrong} for wrong in (1, ["/"], "/\0")),
]


@OURS
@pytest.mark.as_root("as a user it takes the same way")
def test_settings_that_make_no_sense(runtime: Runtime, tmp_path: Path) -> None:
    for config in random.Random(runtime.step).sample(CONFIGS, 6):
        assert "damaged" in refused(runtime, tmp_path, archived(docker([base()], config))), config


@OURS
def test_a_layer_of_an_unknown_kind(runtime: Runtime, tmp_path: Path) -> None:
    for kind in (f"{OCI}.layer.v1.tar+encrypted", "application/vnd.cncf.helm.chart.content.v1.tar+gzip", ""):
        assert "unknown" in refused(runtime, tmp_path, archived(oci([base()], kind=kind)))


@OURS
def test_more_or_fewer_layers_than_digests(runtime: Runtime, tmp_path: Path) -> None:
    files = docker([base(), tarred(ENDS)])
    (listed,) = json.loads(files["manifest.json"])
    for names in (listed["Layers"][:1], listed["Layers"] * 2, listed["Layers"][::-1]):
        text = json.dumps([listed | {"Layers": names}]).encode()
        assert "damaged" in refused(runtime, tmp_path, archived({**files, "manifest.json": text}))


# ---- hostile: nothing gets out ---------------------------------------------------------------------------------------


def watched(tmp_path: Path, runtime: Runtime) -> Path:
    """A directory outside that no archive may read or change."""
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "file").write_text("secret of the host")
    (outside / "folder/file").write_text("x")
    (outside / "config.json").write_bytes(configuration([base()], {"Cmd": ["secret"]}))
    (outside / "layer.tar").write_bytes(base())
    if runtime.user is not None:
        for path in (outside, *outside.rglob("*")):
            os.chown(path, runtime.user, runtime.user)
    return outside


def ways_out(outside: Path) -> dict[str, list[Member]]:
    """Layers that try to delete what is outside, by what they try."""
    up = "../" * 40
    return {
        "an absolute path": [mark(f"{outside}/file"), opaque(f"{outside}/folder")],
        "up": [mark(f"{up}{outside}/file"), opaque(f"{up}{outside}/folder"), file(f"{up}{outside}/.wh.file", b"")],
        "the parent": [file(".wh...", b"")],
        "the parent of a directory": [folder("a/b"), file("a/b/.wh...", b"")],
        "itself": [folder("a"), file("a/.wh..", b"")],
        "nothing": [folder("a"), file("a/.wh.", b"")],
        "a path after the mark": [file(f".wh.{up}{outside}/file", b""), file(f".wh./{outside}/file", b"")],
        "through a link": [link("l", f"{outside}"), mark("l/file"), opaque("l"), opaque("l/folder"), file("l/x", b"")],
        "through a link to /": [link("l", "/"), mark(f"l{outside}/file"), link("m", f"{up}{outside}"), opaque("m")],
        "through a link below": [mark("door/file"), opaque("door"), opaque("root"), mark(f"root{outside}/file")],
        "a link that is deleted": [mark("door"), mark("root"), mark("hard")],
        "all": [file(".wh..wh..opq", b""), opaque(".."), opaque("."), opaque("/")],
        "a mark that is a folder": [folder("t/.wh.x"), file("t/.wh.x/../../../x", b""), folder(".wh..wh..opq")],
        "a mark that is a link": [link("t/.wh.x", f"{outside}/file"), link(".wh..wh..opq", f"{outside}")],
        "a mark that is a hard link": [hard("t/.wh.x", f"{outside}/file")],
    }


@OURS
def test_no_mark_deletes_outside(runtime: Runtime, tmp_path: Path) -> None:
    outside = watched(tmp_path, runtime)
    before, beside = seen(outside), sorted(tmp_path.parent.iterdir())
    own = own_store(runtime, tmp_path)
    lower = tarred([file("t/x", b"x"), link("door", str(outside)), link("root", "/"), link("hard", "t/x")])
    for attempt, members in ways_out(outside).items():
        (tmp_path / "evil.tar").write_bytes(archived(docker([lower, tarred(members)])))
        result = own.call("import", str(tmp_path / "evil.tar"), "evil", under=sheltered(runtime, tmp_path))
        whole_or_refused(own, result, tmp_path / "state")
        assert seen(outside) == before and sorted(tmp_path.parent.iterdir()) == beside, attempt


def whole_or_refused(runtime: Runtime, result: Result, state: Path) -> None:
    """Either an image and its id, or one line and nothing left."""
    if result.code == 0:
        assert re.fullmatch(rb"[0-9a-f]{12}\n", result.out) and result.err == b""
    else:
        assert result.out == b""
        runtime.refusal(result)
    assert [*state.glob("tmp/*")] == []


@OURS
def test_marks_of_nothing_that_has_a_name(runtime: Runtime, tmp_path: Path) -> None:
    """Of the directory above, or of their own: an image that has them is refused."""
    for name in ("t/.wh...", "t/.wh..", "t/.wh.", ".wh...", "t/.wh./", "./t/.wh.../"):
        assert "damaged" in refused(runtime, tmp_path, archived(docker([base(), tarred([file(name, b"")])]))), name


@OURS
def test_no_name_leads_outside(runtime: Runtime, tmp_path: Path) -> None:
    """Nor a link: in an archive or a folder, every file of an image is one of its own."""
    outside = watched(tmp_path, runtime)
    before = seen(outside)
    files = docker([base()])
    (listed,) = json.loads(files["manifest.json"])
    up, config = "../" * 40, next(name for name in files if len(name) > 64)
    attempts: list[tuple[Files, list[Member]]] = []
    for place in (str(outside), f"{up}{outside}", "door"):
        for wrong in ({"Config": f"{place}/config.json"}, {"Layers": [f"{place}/layer.tar"]}):
            text = json.dumps([listed | wrong]).encode()
            attempts.append(({**files, "manifest.json": text}, [link("door", str(outside))]))
    for name, target in ((config, "config.json"), ("0/layer.tar", "layer.tar")):
        for place in (str(outside), f"{up}{outside}"):
            rest = {other: data for other, data in files.items() if other != name}
            attempts.append((rest, [link(name, f"{place}/{target}")]))
    layout = oci([base()])
    rest = {name: data for name, data in layout.items() if not name.startswith("blobs")}
    attempts += [(rest, [link("blobs", str(outside))]), (rest, [link("blobs/sha256", str(outside))])]
    attempts += [({"oci-layout": b"", **blobs()}, [link("index.json", f"{outside}/config.json")])]
    attempts += [({}, [link("oci-layout", f"{outside}/file")]), ({"oci-layout": b""}, [fifo("index.json")])]
    for number, (given, more) in enumerate(attempts):
        if number % 2 or every():
            assert "secret" not in refused(runtime, tmp_path, archived(given, *more)), number
        unpacked = tmp_path / f"folder-{number}"
        with tarfile.open(fileobj=io.BytesIO(archived(given, *more))) as archive:
            archive.extractall(unpacked, filter="fully_trusted")
        assert "secret" not in refused(runtime, tmp_path, unpacked), number
    assert seen(outside) == before


def test_a_link_to_a_file_of_the_image(runtime: Runtime, tmp_path: Path) -> None:
    """As `docker save` has written a layer that comes twice."""
    files = docker([base(), tarred(ENDS), tarred(ENDS)])
    del files["2/layer.tar"]
    (tmp_path / "linked.tar").write_bytes(archived(files, link("2/layer.tar", "../1/layer.tar")))
    assert found(loaded(runtime, tmp_path, tmp_path / "linked.tar")) == {"end": "end"}


@OURS
def test_devices_in_layers_are_left_out(runtime: Runtime, tmp_path: Path) -> None:
    """The kernel's own way to say that a file is deleted, a device 0/0, means nothing in an archive."""
    device = tarfile.TarInfo("t/end")
    device.type = tarfile.CHRTYPE
    assert found(loaded(runtime, tmp_path, docker([base(), tarred(ENDS), tarred([(device, b"")])]))) == {"end": "end"}


# ---- interrupted, and no room ----------------------------------------------------------------------------------------


@pytest.mark.long
@OURS
def test_told_to_end_at_any_moment(runtime: Runtime, tmp_path: Path) -> None:
    """The next command sweeps what even a killed one has left."""
    many = [tarred(file(f"t/{number}/{each}", b"x" * 500) for each in range(300)) for number in range(4)]
    (tmp_path / "many.tar").write_bytes(archived(docker([base(), *many, tarred([opaque("t"), *ENDS])])))
    own = own_store(runtime, tmp_path)
    import_tiny(own, "one")
    for number, delay in (("INT", 0.05), ("TERM", 0.15), ("KILL", 0.1), ("KILL", 0.25)):
        started = own.popen([*own.command, "import", str(tmp_path / "many.tar"), "other"])
        host.wait_until(lambda: [*(tmp_path / "state/tmp").iterdir()], "the import begins")
        time.sleep(delay)
        started.send_signal(signal.Signals[f"SIG{number}"])
        result = started.end()
        assert (result.code == 0) == (result.out != b"") and result.err == b""
    own = loaded(runtime, tmp_path, tmp_path / "many.tar")
    assert [*(tmp_path / "state/tmp").iterdir()] == [] and found(own) == {"end": "end"}


@OURS
@pytest.mark.as_root("without root, no small file system can be mounted")
def test_the_disk_is_full(runtime: Runtime, tmp_path: Path) -> None:
    """There is room for the archive, but not for what is in it."""
    (tmp_path / "full.tar").write_bytes(
        archived(oci([plain := tarred([file("t/x", bytes(2**21))])], packed=[zipped(plain)]))
    )
    state = tmp_path / "state"
    script = f'mount -t tmpfs -o size=1m tmpfs {state}; "$@"; code=$?; find {state}/*/ -mindepth 1; exit $code'
    own = own_store(runtime, tmp_path)
    under = ("unshare", "--mount", "sh", "-c", script, "sh")
    result = own.call("import", str(tmp_path / "full.tar"), "full", under=under)
    assert "No space left" in own.refusal(result) and result.out == b""


# ---- written ---------------------------------------------------------------------------------------------------------


@OURS
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_podman_and_import_take_what_commit_writes(runtime: Runtime, tmp_path: Path, ending: str) -> None:
    """With the image's name in it, its files and its settings."""
    files = docker([base(), tarred(LOWER)], {"Cmd": ["ls", "/t"], "Env": ["A=b c"]})
    own = loaded(runtime, tmp_path, files)
    script = "rm /t/gone; echo 2 > /t/changed; echo $A; read _"
    started = own.start("sh", "-c", script, options=["-i", "-h", "x"], stdin=subprocess.PIPE)
    assert started.line() == "b c"
    (layer,) = (place for place in (tmp_path / "state" / runtime.layers).iterdir() if place.is_dir())
    archive, name = tmp_path / f"state/out.tar{ending}", f"lab/made-{os.urandom(4).hex()}:1.0"
    result = own.call("commit", layer.name, name, "-o", str(archive))
    assert result.code == 0 and re.fullmatch(rf"{re.escape(str(archive))} [\d.]+[kM]B", result.text)
    assert started.end(b"\n").code == 0
    again = loaded(runtime, tmp_path, archive)
    tree = found(again)
    assert "gone" not in tree and tree["changed"] == "2" and tree["away/in/it"] == "1"
    assert again.run().text == "b c", "its command is that of the container"
    if runtime.rootless or ending:  # Podman 4.3 cannot even read what it has saved itself, once gzip has compressed it
        return
    try:
        podman = oracle.podman(runtime.directory)
    except Missing as missing:
        pytest.skip(str(missing))
    result = podman.call("load", "-q", "-i", str(archive))
    assert result.code == 0 and result.text.endswith(f"/{name}"), result
    theirs = replace(podman, image=result.text.partition(": ")[2])
    assert found(theirs) == tree
    assert layers.settings(theirs, theirs.image or "")["Cmd"] == ["sh", "-c", script]
    podman.call("rmi", theirs.image or "")
