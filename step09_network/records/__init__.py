"""Containers on record. `ps` reads what it shows from files, as in the book: no daemon is needed.

    containers/<id>/   config.json    what `run` was asked for; never changes
                       state.json     its PID, when it began, when and how it ended (record.py)
                       log            what it has written (monitor.py, log.py)
                       upper …        its layer (overlay.py)

(The layers of steps 4 to 6 are in `layers`, as these steps remove there what no process holds.)
"""

from pathlib import Path

from ..lib import store
from ..lib.errors import ContainerError, NotFoundError, complain
from .record import Record, load, repair


def everything() -> list[Record]:
    """Return all records, and repair them where needed. A damaged record is reported and left out."""
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
    """Return the running containers, or `every` container, the newest first."""
    chosen = [record for record in everything() if every or record.running]
    return sorted(chosen, key=lambda record: float(record.config["created"]), reverse=True)


def using(thing: str) -> list[str]:
    """Return the names of the containers, running or not, that use a thing: "image:ID" or "volume:NAME"."""
    return sorted(record.name for record in everything() if thing in record.config["uses"])


def find(reference: str) -> Path:
    """Return a container's directory, given its name, its id or the beginning of its id.

    Raises ContainerError if there is none.
    """
    ids = {record.name: record.id for record in everything()}
    if reference and (found := ids.get(reference) or store.only_one(reference, [*ids.values()], "containers")):
        return store.folder("containers") / found
    import difflib  # here and not above: few commands need it

    there = (difflib.get_close_matches(reference, ids) or sorted(ids))[:10]
    raise NotFoundError(f"{reference!r}: no such container; there are: {', '.join(there) or 'none'}")


def get(reference: str) -> Record:
    """Return a container's record, given its name or id as for `find`."""
    try:
        return load(find(reference))
    except FileNotFoundError:
        raise NotFoundError(f"{reference}: it has just been removed") from None
