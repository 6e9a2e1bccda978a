"""The files that tell a container about its network: /etc/hosts, /etc/hostname, /etc/resolv.conf.

They are in the container's directory and are mounted like volumes. We write them in place: the mount shows this one
file, and would not show a new file that we rename over it.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..lib import store
from ..lib.errors import complain
from ..lib.linux import read_file
from ..volumes import Volume
from .model import DEFAULT, Network, PortMapping

if TYPE_CHECKING:
    from ..config import Config

LOCAL = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
"""
OURS = re.compile(r"\t# on [a-zA-Z0-9_.-]+\n?$")
LARGEST = 1 << 20  # bytes; the container may write what it likes into its file
# Where systemd-resolved keeps the real servers, when /etc/resolv.conf names only its stub at 127.0.0.53.
RESOLVED = Path("/run/systemd/resolve/resolv.conf")
# Lines that name a server, and those whose server only this machine can reach.
SERVER = re.compile(r"^[ \t]*nameserver[ \t]+\S", re.MULTILINE)
LOCAL_SERVER = re.compile(r"^[ \t]*nameserver[ \t]+(127\.|::1\b).*\n?", re.MULTILINE)


def make(directory: Path, config: "Config") -> list[Volume]:
    """Make the files in a container's directory; return them as volumes, except where the user mounts something."""
    mode, taken = config.network, [volume.target for volume in config.volumes]
    texts = {
        "hostname": f"{config.hostname}\n",
        "hosts": read_file("/etc/hosts") if mode == "host" else LOCAL,
        "resolv.conf": "" if mode == "none" else resolver(mode),
    }
    for name, text in texts.items():
        (directory / name).write_bytes(os.fsencode(text))
        (directory / name).chmod(0o644)
    if any(volume.target == "/etc" and volume.read_only for volume in config.volumes):
        return []  # we cannot make mount points there
    return [Volume(str(directory / name), f"/etc/{name}", False) for name in texts if f"/etc/{name}" not in taken]


def ports_of(directory: Path) -> list[PortMapping]:
    """Return the published ports of a container, on whichever network it is."""
    return [PortMapping(**port) for port in store.read_json(directory / "config.json").get("ports", [])]


def resolver(mode: str) -> str:
    """Return the host's resolv.conf(5) without servers at 127.0.0.0/8: there a container would ask itself."""
    texts = [read_file("/etc/resolv.conf"), read_file(RESOLVED)]
    if mode == "host":
        return texts[0]
    for text in texts:
        reachable = LOCAL_SERVER.sub("", text)
        if SERVER.search(reachable):
            return reachable
    if any(map(LOCAL_SERVER.search, texts)):
        complain("this host's name servers are at 127.0.0.0/8, where no container reaches them: the container has none")
    return LOCAL_SERVER.sub("", texts[0])


def write_hosts(directory: Path, networks: list[Network]) -> None:
    """Write a container's /etc/hosts: its own name and, on networks that users have made, those of all others there.

    Our lines end in a comment, by which we find them again. All other lines are the container's own and stay.
    """
    if (directory / "hosts").stat().st_size > LARGEST:
        return
    lines = [line for line in read_file(directory / "hosts").splitlines(keepends=True) if not OURS.search(line)]
    for network in networks:
        for container, endpoint in network.endpoints.items():
            own = container == directory.name
            if own or network.name != DEFAULT:
                names = [(directory / "hostname").read_text().strip()] if own else []
                names += [endpoint.name, container] if network.name != DEFAULT else []
                lines.append(f"{endpoint.ip}\t{' '.join(dict.fromkeys(names))}\t# on {network.name}\n")
    rewrite(directory / "hosts", "".join(lines))


def rewrite(path: Path, text: str) -> None:
    """Write a new text to a file in place. A reader never sees an empty file."""
    with open(path, "r+b", buffering=0) as file:
        file.write(os.fsencode(text))
        file.truncate()
