"""Images as people have them, of Debian's packages, built by Podman: tests/step09/servers has a folder for each.

What is fetched is kept in .cache/servers: a small Debian, and each image's packages. The rest needs no network.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support import debian, session
from tests.support.runtime import Missing, Runtime

PACKAGES = {"nginx": "nginx-light", "redis": "redis-server", "postgres": "postgresql", "python": "python3-pip"}
FETCHED = session.REPOSITORY / ".cache" / "servers"
CONTEXTS = session.REPOSITORY / "tests" / "step09" / "servers"
# What mmdebstrap does at the end, with its own apt: fetch a package, and all that the new Debian lacks for it.
FETCH = """
    set -e
    export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
    apt-get install --yes --no-install-recommends --download-only --option Dir::Cache::archives='{folder}' {package}
    rm -rf '{folder}/lock' '{folder}/partial'
"""


def fetch(folder: Path) -> None:
    """Fetch all that is needed, into a new folder. It gets its name when it is whole."""
    half = folder.with_name(f".{os.urandom(6).hex()}.part")
    try:
        hooks = []
        for name, package in PACKAGES.items():
            (half / name / "partial").mkdir(parents=True)
            hooks.append("--customize-hook=" + FETCH.format(folder=half / name, package=package))
        debian.make(half / "debian.tar", *hooks)
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def built(podman: Runtime, name: str, place: Path) -> None:
    """Have Podman build an image, in a new folder below `place`, which is removed again."""
    if not FETCHED.exists():
        session.once("servers", lambda _: fetch(FETCHED))
    if not asked(podman, "images", "-q", "localhost/debian"):
        asked(podman, "import", FETCHED / "debian.tar", "localhost/debian")
    context = place / f"context-{name}"
    shutil.copytree(CONTEXTS / name, context)
    shutil.copytree(FETCHED / name, context / "packages")
    asked(podman, "build", "--quiet", "--network", "none", "--tag", f"localhost/{name}", context)
    shutil.rmtree(context)


def saved(podman: Runtime, name: str, place: Path, form: str) -> Path:
    """Save it in the folder `place`. The form is one of Podman's archives; or `oci`, a folder that skopeo makes."""
    archive = place / f"{name}.tar"
    asked(podman, "save", "--quiet", "--output", archive, *(["--format", form] if form != "oci" else []), name)
    if form != "oci":
        return archive
    if not shutil.which("skopeo"):
        raise Missing("skopeo is not installed")
    words = ["skopeo", "--insecure-policy", "copy", "--quiet", f"docker-archive:{archive}", f"oci:{place / name}"]
    subprocess.run(words, check=True, timeout=100)
    return place / name


def asked(runtime: Runtime, *words: str | Path, under: Sequence[str] = ()) -> str:
    """What a command of a runtime's prints, for what may take longer than the tests' other commands."""
    command = [*under, *runtime.command, *map(str, words)]
    out, err = (started := runtime.popen(command)).communicate(timeout=200)
    assert started.returncode == 0, f"{command}: {err.decode()[-2000:]}"
    return str(out.decode().strip())
