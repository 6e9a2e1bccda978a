"""The limits that the user gave to `run`. They are checked before anything starts."""

import math
import os
import re
from dataclasses import dataclass

from ..lib.errors import ContainerError

SMALLEST_MEMORY = 6 * 2**20  # bytes, as in Docker: our init must fit in it until exec


@dataclass(frozen=True)
class Limits:
    """The limits of a container. None means no limit; so does 0, as in Docker.

    Raises ContainerError for a limit that makes no sense here.
    """

    memory: int | None = None  # bytes
    cpus: float | None = None  # 1.5 is the time of one and a half processors
    cpu_shares: int | None = None  # 2 to 262144: a weight; everybody else has 1024
    cpuset_cpus: str | None = None  # "0-2,7"
    pids: int | None = None  # processes and threads

    def __post_init__(self) -> None:
        processors = os.cpu_count() or 1
        if self.memory and not SMALLEST_MEMORY <= self.memory < 2**62:
            raise ContainerError("--memory: give from 6m (needed to start) to 4294967295g; 0 is no limit")
        if self.cpus and not 0.01 <= self.cpus <= processors:
            raise ContainerError(f"--cpus {self.cpus:g}: this machine has {processors}, so give 0.01 to {processors}")
        if self.cpu_shares and not 2 <= self.cpu_shares <= 262144:
            raise ContainerError(f"--cpu-shares {self.cpu_shares}: give from 2 to 262144; everybody else has 1024")
        if self.pids and not -1 <= self.pids <= 2**22:
            raise ContainerError(f"--pids-limit {self.pids}: give from 1 to {2**22}; 0 or -1 is no limit")


def parse_size(text: str | None) -> int | None:
    """Return the bytes that a number with one of Docker's units means: 64m, 1.5g, 4096b."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?)([bkmg]?)b?", text.lower(), re.ASCII)
    if not match:
        raise ContainerError(f"--memory {text!r}: give a number with b, k, m or g, such as 64m")
    return math.ceil(float(match[1]) * 2.0 ** (10 * "bkmg".index(match[2] or "b")))


def parse_list(text: str) -> set[int]:
    """Return the numbers of a list such as "0-2,7" (cpuset(7), "List format"), or none if it is not such a list.

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
