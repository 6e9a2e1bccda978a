"""What `inspect` shows of a container or an image: its record, in Docker's form and with Docker's names."""

import time
from typing import Any

from .. import network, program
from ..images import catalog, settings
from ..lib import store
from ..volumes import Volume
from .record import Record


def view(record: Record) -> dict[str, Any]:
    """Return all that is known of a container."""
    config, state = record.config, record.state
    variables = {"PATH": program.PATH} | config.get("env", {})
    return {
        "Id": record.id,
        "Name": record.name,
        "Created": rfc3339(config["created"]),
        "Path": config["command"][0],
        "Args": config["command"][1:],
        "State": {
            "Status": record.status,
            "Running": record.running,
            "Pid": state.get("pid", 0) if record.running else 0,
            "ExitCode": state.get("exit_code", 0),
            "StartedAt": rfc3339(state.get("started")),
            "FinishedAt": rfc3339(state.get("finished")),
        },
        "Image": config["image_id"],
        "LogPath": str(record.directory / "log"),
        "HostConfig": host_config(config),
        "NetworkSettings": network_settings(record.id),
        "Mounts": [mount(Volume(**each)) for each in config["volumes"]],
        "Config": {"Cmd": config["command"]}
        | settings.read(record.directory)
        | {
            "Hostname": config["hostname"],
            "User": config.get("user", "0"),
            "Tty": config["tty"],
            "OpenStdin": config["interactive"],
            "Env": [f"{name}={value}" for name, value in variables.items()],
            "Image": config["image"],
            "WorkingDir": config.get("workdir", "/"),
        },
    }


def view_image(reference: str) -> dict[str, Any]:
    """Return all that is known of an image. Raises ContainerError if there is none."""
    from ..images.layers import RUNS_HERE  # here and not above: it imports a lot

    image = catalog.find(reference)
    facts = store.read_json(catalog.directory(image) / "image.json")
    return {
        "Id": image,
        "RepoTags": [name for name, owner in catalog.names().items() if owner == image],
        "Created": rfc3339(facts.get("created")),
        "Architecture": RUNS_HERE[0],
        "Os": "linux",
        "Size": facts.get("size", 0),
        "Config": settings.read(catalog.directory(image)),
    }


def host_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return what the container gets from the host: limits as numbers, 0 for no limit."""
    limits = config["limits"]
    return {
        "AutoRemove": config["remove"],
        "NetworkMode": config.get("networks", ["none"])[0],
        "Memory": limits["memory"] or 0,
        "NanoCpus": round((limits["cpus"] or 0) * 1e9),
        "CpuShares": limits["cpu_shares"] or 0,
        "CpusetCpus": limits["cpuset_cpus"] or "",
        "PidsLimit": limits["pids"] or 0,
    }


def network_settings(container: str) -> dict[str, Any]:
    """Return the networks that a container is on at the moment, and the ports that are published there."""
    networks = network.networks_of(container)
    ports: dict[str, list[dict[str, str]]] = {}
    for port in network.published(container):
        published = {"HostIp": port.address, "HostPort": str(port.host)}
        ports.setdefault(f"{port.container}/{port.protocol}", []).append(published)
    return {
        "Ports": ports,
        "Networks": {
            each.name: {
                "NetworkID": each.id,
                "IPAddress": each.endpoints[container].ip,
                "IPPrefixLen": each.addresses.prefixlen,
                "Gateway": each.gateway,
                "MacAddress": each.endpoints[container].mac,
            }
            for each in networks
        },
    }


def mount(volume: Volume) -> dict[str, Any]:
    """Return how Docker describes a volume, or a directory or file of the host."""
    kind: dict[str, Any] = {"Type": "volume", "Name": volume.source} if volume.named else {"Type": "bind"}
    mode = "ro" if volume.read_only else ""
    return kind | {
        "Source": str(volume.path),
        "Destination": volume.target,
        "Mode": mode,
        "RW": not volume.read_only,
    }


def rfc3339(seconds: float | None) -> str:
    """Return a time in UTC. For None, which means not yet, return Docker's zero time."""
    return "0001-01-01T00:00:00Z" if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
