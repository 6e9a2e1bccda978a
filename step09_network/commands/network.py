"""`network create`, `ls`, `inspect`, `rm`, `connect`, `disconnect`."""

import json
from typing import Annotated

import typer

from .. import namespaces, records
from .. import network as networks
from ..cli import app
from ..lib.errors import ContainerError
from ..lib.output import each, print_table
from ..network import model
from ..records import process
from .containers import AContainer

network = typer.Typer(help="Networks for containers.", rich_markup_mode=None)
app.add_typer(network, name="network")
Networks = Annotated[list[str], typer.Argument(metavar="NETWORK...", help="Names of networks.")]
ANetwork = Annotated[str, typer.Argument(metavar="NETWORK", help="The network's name.")]


@network.command("create")
def create_network(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    subnet: Annotated[str, typer.Option(metavar="CIDR", help="Its addresses.  [default: a range that is free]")] = "",
    driver: Annotated[str, typer.Option("-d", "--driver", help="What makes the network.")] = "bridge",
) -> None:
    """Make a network."""
    only_root()
    print(networks.create(name, subnet, driver).id)


@network.command("ls")
def list_networks(quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print only the ids.")] = False) -> None:
    """List the networks."""
    found = model.every()
    if quiet:
        print(*(one.id for one in found), sep="\n", end="\n" if found else "")
        return
    print_table(
        ["NETWORK ID", "NAME", "DRIVER", "SUBNET"], [[one.id, one.name, one.driver, one.subnet] for one in found]
    )


@network.command("inspect")
def inspect_networks(names: Networks) -> int:
    """Show all that is known of networks, as JSON."""
    found: list[object] = []
    failed = each(names, lambda name: found.append(networks.described(networks.get(name))))
    print(json.dumps(found, indent=4))
    return failed


@network.command("rm")
def remove_networks(
    names: Networks,
    force: Annotated[bool, typer.Option("-f", "--force", help="Do not fail if there is none.")] = False,
) -> int:
    """Remove networks that no container is on."""
    only_root()

    def remove(name: str) -> None:
        networks.remove(name)
        print(name)

    return each(names, remove, force)


@network.command("connect")
def connect(
    name: ANetwork,
    reference: AContainer,
    ip: Annotated[str, typer.Option(help="Its address there.  [default: the lowest that is free]")] = "",
) -> None:
    """Connect a running container to one more network."""
    only_root()
    found = records.get(reference)
    if process.send(found.state, 0):
        raise ContainerError(f"{found.name}: it is not running")
    if "host" in found.config.get("networks", []):
        raise ContainerError(f"{found.name}: it runs on the host's own network, so it cannot join another")
    with networks.namespace_of(found.state["pid"]) as namespace:
        networks.connect(name, found.id, found.name, namespace, ip)


@network.command("disconnect")
def disconnect(name: ANetwork, reference: AContainer) -> None:
    """Disconnect a running container from a network."""
    only_root()
    found = records.get(reference)
    networks.disconnect(name, found.id, found.name)


def only_root() -> None:
    """Raise ContainerError without root: networks are made on the host."""
    if namespaces.ROOTLESS:
        raise ContainerError("networks are made on the host, which only root may do: try it with sudo")
