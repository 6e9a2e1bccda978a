"""What the user asked for, in one place."""

from dataclasses import dataclass

from .cgroups.limits import Limits


@dataclass(frozen=True)
class Config:
    """One container, as `run` was told to make it.

    The book sends this to its init through a pipe, because its init is a new program. Ours is a clone of
    the runtime and finds it in its memory.
    """

    id: str
    image: str
    command: list[str]
    hostname: str
    interactive: bool
    tty: bool
    limits: Limits
