"""What `run` was told to limit, checked before anything starts."""

import math
import os
import re
from dataclasses import dataclass

from ..lib.errors import ContainerError

SMALLEST_MEMORY = 6 * 2**20  # bytes, as in Docker: our init must fit in it until exec


@dataclass(frozen=True)
class Limits:
    """What `run` was told; None is no limit, and so is 0, as in Docker.

    Raises ContainerError for a limit that makes no sense here.
    """

    memory: int | None = None  # bytes
    cpus: float | None = None  # 1.5: one and a half processors' time
    cpu_shares: int | None = None  # 2 to 262144, weighed against 1024, everybody else's
    cpuset_cpus: str | None = None  # "0-2,7"
    pids: int | None = None  # processes and threads

    def __post_init__(self) -> None:
        processors = os.cpu_count() or 1
        if self.memory and not SMALLEST_MEMORY <= self.memory < 2**62:
            raise ContainerError("--memory: from 6m, which the container needs to start, to 4294967295g; 0 is no limit")
        if self.cpus and not 0.01 <= self.cpus <= processors:
            raise ContainerError(f"--cpus {self.cpus:g}: this machine has {processors}, so from 0.01 to {processors}")
        if self.cpu_shares and not 2 <= self.cpu_shares <= 262144:
            raise ContainerError(f"--cpu-shares {self.cpu_shares}: from 2 to 262144; everybody else has 1024")
        if self.pids and not -1 <= self.pids <= 2**22:
            raise ContainerError(f"--pids-limit {self.pids}: from 1 to {2**22}; 0 or -1 is no limit")


def parse_size(text: str | None) -> int | None:
    """Bytes, from a number with a unit as Docker writes it: 64m, 1.5g, 4096b."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?)([bkmg]?)b?", text.lower(), re.ASCII)
    if not match:
        raise ContainerError(f"--memory {text!r}: a number with b, k, m or g, such as 64m")
    return math.ceil(float(match[1]) * 2.0 ** (10 * "bkmg".index(match[2] or "b")))


def parse_list(text: str) -> set[int]:
    """The numbers of a list such as "0-2,7" (cpuset(7), "List format"); none if it is no such list.

    >>> sorted(parse_list("0-2,7")), parse_list("2-0"), parse_list("x")
    ([0, 1, 2, 7], set(), set())
    """
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if not re.fullmatch(r"\d{1,4}(-\d{1,4})?", part, re.ASCII):
            return set()
        ends = range(int(first), int(last or first) + 1)
        if not ends:
            return set()
        numbers.update(ends)
    return numbers
