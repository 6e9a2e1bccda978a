"""An image's settings for `run`: Cmd, Entrypoint, Env, WorkingDir, User (opencontainers/image-spec, config.md).

They are in the file `settings.json`, beside the image's rootfs. Beside a container's layer there is such a file too,
completed by the options of `run`. `commit` reads it.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import namespaces
from ..config import Config
from ..lib import store
from ..lib.errors import complain
from . import catalog

Settings = dict[str, Any]


def read(directory: Path) -> Settings:
    """Return the settings in this directory, or an empty dict if the image has none."""
    settings: Settings = store.read_json(directory / "settings.json")
    return settings


def write(directory: Path, settings: Settings) -> None:
    """Write the settings to this directory."""
    store.write_json(directory / "settings.json", settings)


def checked(settings: Settings) -> Settings:
    """Check the settings of a foreign image, and return them. Raises TypeError or ValueError if they are wrong."""
    lists = [settings.get(key) or [] for key in ("Entrypoint", "Cmd", "Env")]
    words = [word for each in lists for word in each] + [settings.get(key) or "" for key in ("WorkingDir", "User")]
    if not all(isinstance(each, list) for each in lists) or any(b"\0" in os.fsencode(word) for word in words):
        raise ValueError("a value in its config is of the wrong kind")
    return settings


def settled(config: Config, image: str) -> tuple[Config, Settings]:
    """Fill in from the image what the user did not give. Returns what init needs, and the container's own settings."""
    known = read(catalog.directory(image)) if image else {}
    entrypoint, command = known.get("Entrypoint") or [], config.command or known.get("Cmd") or []
    if config.entrypoint is not None:
        entrypoint, command = [config.entrypoint] if config.entrypoint else [], config.command
    if not entrypoint and not command:
        command = ["sh"]
    env = dict(text.split("=", 1) for text in known.get("Env") or [] if "=" in text) | config.env
    variables = [f"{name}={value}" for name, value in env.items()]
    user, folder = config.user or known.get("User") or "0", config.workdir or known.get("WorkingDir") or "/"
    own = {"Entrypoint": entrypoint, "Cmd": command, "Env": variables, "User": user, "WorkingDir": folder}
    if namespaces.ROOTLESS and not config.user and user.partition(":")[0] not in ("0", "root"):
        complain(f"the image names the user {user!r}: without root the container's only user is root (you)")
        user = "0"
    return replace(config, command=[*entrypoint, *command], env=env, user=user, workdir=folder), known | own
