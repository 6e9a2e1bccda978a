"""Make a new record. The user gives its name, or we choose one at random."""

import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from ..config import Config
from ..lib import linux, store
from ..lib.errors import ContainerError
from . import everything
from .record import SIZE, close

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}", re.ASCII)  # as Docker
ADJECTIVES = """
    bold brave bright calm clever cosy curious eager early fair gentle glad happy honest jolly keen kind lively lucky
    merry modest noble patient plain proud quick quiet ready sharp shy silent sleepy smart steady sunny tidy warm wise
""".split()
NOUNS = """
    ant badger bear beaver bee bison camel crane crow deer dolphin duck eagle falcon ferret finch fox frog goose hare
    heron horse koala lark lion lynx mole moose otter owl panda puffin raven robin seal sparrow swan tiger turtle whale
""".split()


@contextmanager
def recorded(config: Config, image: str) -> Iterator[Path]:
    """Make a container's record, and hold the lock of its directory as long as we live.

    The record stays at the end, unless the command never ran or --rm was given.
    """
    directory = store.folder("containers") / config.id
    with linux.locked(directory.parent):  # one at a time, so that no name is given twice
        name = choose_name(config.name, {record.name: record.id for record in everything()})
        uses = [f"image:{image}", *(f"volume:{one.source}" for one in config.volumes if one.named)]
        facts = {"name": name, "uses": uses, "created": time.time(), "image_id": image}
        with store.owned("tmp", config.id) as work:
            store.write_json(work / "config.json", asdict(config) | facts)
            (work / "state.json").write_text("{}".ljust(SIZE))
            (work / "log").touch()
            linux.rename(work, directory)
            held = linux.lock(directory, shared=True)  # before `owned` releases its own lock on it
    try:
        yield directory
    finally:
        close(directory)
        os.close(held)


def check_name(name: str) -> str:
    """Return `name` if Docker allows it as a container's name. Raises ContainerError if not."""
    if not NAME.fullmatch(name):
        raise ContainerError(f"--name {name!r}: use two or more letters, digits, _ . -; begin with a letter or digit")
    return name


def choose_name(wanted: str, taken: dict[str, str]) -> str:
    """Return the `wanted` name, or two words if it is "". Raises ContainerError if it is in `taken` (name: id)."""
    if wanted in taken:
        raise ContainerError(f"--name {wanted}: container {taken[wanted]} has it: rm that, or take another name")
    name = wanted or f"{random.choice(ADJECTIVES)}_{random.choice(NOUNS)}"
    return f"{name}_{os.urandom(3).hex()}" if name in taken else name
