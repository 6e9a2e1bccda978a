"""Which containers `ps --filter KEY=VALUE` shows."""

import re
from collections import defaultdict
from collections.abc import Callable

from .. import network
from ..lib.errors import ContainerError
from ..records.record import Record


def has_name(record: Record, value: str) -> bool:
    """The value is a regular expression. It may begin with a slash, as the names do in Docker."""
    return any(re.search(value, name) for name in (record.name, f"/{record.name}"))


def has_image(record: Record, value: str) -> bool:
    """The value is the image's name, with or without its tag, or the image's id."""
    image = record.config["image"]
    return value in (image, f"{image}:latest", image.removesuffix(":latest"), record.config["image_id"])


def has_volume(record: Record, value: str) -> bool:
    """The value is a volume's name or a path, outside or inside the container."""
    return any(value in (one["source"], one["target"]) for one in record.config["volumes"])


def is_on_network(record: Record, value: str) -> bool:
    """The value is a network's name or id. For a container that has ended, the networks that it began on count."""
    on = network.networks_of(record.id)
    return any(value in (each.name, each.id) for each in on) or (not on and value in record.config.get("networks", []))


KEYS: dict[str, Callable[[Record, str], bool]] = {
    "name": has_name,
    "id": lambda record, value: record.id.startswith(value),
    "status": lambda record, value: record.status == value,
    "exited": lambda record, value: str(record.state.get("exit_code")) == value,
    "ancestor": has_image,
    "volume": has_volume,
    "network": is_on_network,
}
STATUSES = ("created", "running", "exited")


def parse(filters: list[str]) -> dict[str, list[str]]:
    """Return the values for each key. Raises ContainerError for an unknown key or a wrong value."""
    wanted = defaultdict(list)
    for text in filters:
        key, _, value = text.partition("=")
        if key not in KEYS or not value:
            raise ContainerError(f"--filter {text!r}: use KEY=VALUE; KEY is one of {', '.join(KEYS)}")
        if key == "status" and value not in STATUSES:
            raise ContainerError(f"--filter {text!r}: the status is one of {', '.join(STATUSES)}")
        if key == "exited" and not re.fullmatch(r"\d{1,3}", value, re.ASCII):
            raise ContainerError(f"--filter {text!r}: an exit code is a number")
        wanted[key].append(value)
    return wanted


def fits(record: Record, wanted: dict[str, list[str]]) -> bool:
    """Return whether a container passes the filters: of each key, one of the values must fit."""
    try:
        return all(any(KEYS[key](record, value) for value in values) for key, values in wanted.items())
    except re.error as error:
        raise ContainerError(f"--filter name: not a regular expression: {error}") from None
