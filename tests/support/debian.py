"""Make a small system of this machine's distribution (Debian, Ubuntu) from apt's packages, with mmdebstrap(1)."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.support import own_host
from tests.support.runtime import Missing


def make(archive: Path, *options: str) -> None:
    """Write its tar archive: the packages that every Debian has, and those that mmdebstrap's `options` add."""
    if not shutil.which("mmdebstrap"):
        raise Missing("mmdebstrap is not installed")
    lists = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    sources = [each for each in lists if each.suffix in (".list", ".sources") and each.is_file()]
    release = re.search(r"VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text())
    words = ["mmdebstrap", "--quiet", "--variant=essential", *options, release[1] if release else "stable", archive]
    words = [*own_host.on_the_machines_network(), *words, *sources]
    done = subprocess.run(words, capture_output=True, text=True, timeout=250)
    if done.returncode:
        raise Missing(f"mmdebstrap can make no Debian here: {done.stderr.strip().splitlines()[-1]}")
