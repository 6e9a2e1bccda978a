"""Containers on record: what `ps` shows is read from files, as in the book, and no daemon has to be asked.

    containers/<id>/   config.json    what was asked for; never changes
                       state.json     its PID, when it began, when and how it ended (record.py)
                       log            what it has written (monitor.py, log.py)
                       upper …        its layer (overlay.py)

(The layers of steps 4 to 6 lie in `layers`, since those steps remove what nobody holds there.)
"""

from pathlib import Path

from ..lib import store
from ..lib.errors import ContainerError, NotFoundError, complain
from .record import Record, load, repair


def everything() -> list[Record]:
    """All records, each put right. A damaged one is told of, and left out."""
    found = []
    for directory in store.folder("containers").iterdir():
        try:
            record = load(directory)
            if "closed" not in record.state:
                repair(directory)
                record = load(directory)
            found.append(record)
        except FileNotFoundError:
            pass  # removed at this very moment
        except ContainerError as error:
            complain(str(error))
    return found


def listing(every: bool) -> list[Record]:
    """The running containers, or `every` one, the newest first."""
    chosen = [record for record in everything() if every or record.running]
    return sorted(chosen, key=lambda record: float(record.config["created"]), reverse=True)


def using(thing: str) -> list[str]:
    """The names of the containers, running or not, that use an image or a volume: "image:ID", "volume:NAME"."""
    return sorted(record.name for record in everything() if thing in record.config["uses"])


def find(reference: str) -> Path:
    """The directory of the container given by its name, its id or the beginning of its id.

    Raises ContainerError if there is none.
    """
    ids = {record.name: record.id for record in everything()}
    if reference and (found := ids.get(reference) or store.only_one(reference, [*ids.values()], "containers")):
        return store.folder("containers") / found
    import difflib  # not at the top: a start does not need it

    there = (difflib.get_close_matches(reference, ids) or sorted(ids))[:10]
    raise NotFoundError(f"{reference!r}: no such container; there are: {', '.join(there) or 'none'}")


def get(reference: str) -> Record:
    """The record of the container so given."""
    try:
        return load(find(reference))
    except FileNotFoundError:
        raise NotFoundError(f"{reference}: it has just been removed") from None
