"""What the user asked for, in one place."""

from dataclasses import dataclass

from .cgroups.limits import Limits
from .volumes import Volume


@dataclass(frozen=True)
class Config:
    """The settings of one container. Init gets them without a message: it is a clone, with a copy of our memory."""

    id: str
    image: str
    entrypoint: str | None  # None: the image's
    command: list[str]
    hostname: str
    interactive: bool
    tty: bool
    limits: Limits
    workdir: str
    user: str
    env: dict[str, str]
    volumes: list[Volume]
    name: str  # "": two random words
    remove: bool  # remove the record when the container ends
