"""What the user asked for, in one place."""

from dataclasses import dataclass

from .cgroups.limits import Limits
from .network.model import PortMapping
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
    networks: list[str]  # their names; or only none, or only host
    ip: str  # on the first network
    ports: list[PortMapping]
    remove: bool  # remove the record when the container ends

    @property
    def network(self) -> str:
        """The first network, none or host."""
        return self.networks[0]
