"""What the user asked for, in one place."""

from dataclasses import dataclass

from .cgroups.limits import Limits


@dataclass(frozen=True)
class Config:
    """The settings of one container. Init gets them without a message: it is a clone, with a copy of our memory."""

    id: str
    image: str
    command: list[str]
    hostname: str
    interactive: bool
    tty: bool
    limits: Limits
