"""What a container has to know of its network in files: /etc/hosts, /etc/hostname, /etc/resolv.conf.

They lie in the container's directory and are mounted like volumes. They are rewritten in place, since what is mounted
is this one file and no other that could be renamed over it.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..volumes import Volume
from .model import DEFAULT, Network

if TYPE_CHECKING:
    from ..config import Config

LOCAL = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
"""
# Where systemd-resolved keeps the real servers, when /etc/resolv.conf names only its stub at 127.0.0.53.
RESOLVED = Path("/run/systemd/resolve/resolv.conf")


def make(directory: Path, config: "Config") -> list[Volume]:
    """Make the files in a container's directory; return them as volumes, but for those the user has his own at."""
    mode, taken = config.network, [volume.target for volume in config.volumes]
    (directory / "hostname").write_text(f"{config.hostname}\n")
    (directory / "hosts").write_text(text_of("/etc/hosts") if mode == "host" else LOCAL)
    (directory / "resolv.conf").write_text("" if mode == "none" else resolver(mode))
    for name in ("hostname", "hosts", "resolv.conf"):
        (directory / name).chmod(0o644)
    found = [Volume(str(directory / name), f"/etc/{name}", False) for name in ("hostname", "hosts", "resolv.conf")]
    return [volume for volume in found if volume.target not in taken]


def resolver(mode: str) -> str:
    """The host's resolv.conf(5), without servers at 127.0.0.0/8: in the container that would be the container."""
    text = text_of("/etc/resolv.conf")
    if mode == "host":
        return text
    if not servers(text):
        text = text_of(RESOLVED) or text
    return "".join(line for line in text.splitlines(keepends=True) if line.split()[1:2] not in local(text))


def servers(text: str) -> list[str]:
    """The name servers that a container can reach."""
    return [line.split()[1] for line in text.splitlines() if line.startswith("nameserver ") and not is_local(line)]


def local(text: str) -> list[list[str]]:
    """The second words of the lines that name a server of this machine alone."""
    return [line.split()[1:2] for line in text.splitlines() if line.startswith("nameserver ") and is_local(line)]


def is_local(line: str) -> bool:
    """Whether a line names a server that only this machine can reach."""
    return line.split()[1].startswith("127.") or line.split()[1] == "::1"


def text_of(path: str | Path) -> str:
    """A file's text; none if it cannot be read."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def write_hosts(directory: Path, networks: list[Network]) -> None:
    """Write the names that a container knows: its own, and on networks that users have made all others'."""
    lines = []
    for network in networks:
        for container, endpoint in network.endpoints.items():
            own = container == directory.name
            if own or network.name != DEFAULT:
                names = [(directory / "hostname").read_text().strip()] if own else []
                names += [endpoint.name, container] if network.name != DEFAULT else []
                lines.append(f"{endpoint.ip}\t{' '.join(dict.fromkeys(names))}\n")
    rewrite(directory / "hosts", LOCAL + "".join(lines))


def rewrite(path: Path, text: str) -> None:
    """Put a new text into a file, which stays the same file; a reader meets no empty one."""
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        os.ftruncate(fd, os.pwrite(fd, text.encode(), 0))
    finally:
        os.close(fd)
