"""The files for places that we could not try can at least be read, and name what is here."""

import json
import re

from tests.support.session import REPOSITORY


def test_the_dev_container() -> None:
    """JSON with comments, each on a line of its own. What it runs is here, and needs no more than it installs."""
    text = (REPOSITORY / ".devcontainer/devcontainer.json").read_text()
    asked = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    assert asked["privileged"] is True
    assert [mount["target"] for mount in asked["mounts"]] == ["/var/lib/mydocker"]
    for script in re.findall(r"tools/\S+\.sh", asked["postCreateCommand"] + asked["postStartCommand"]):
        assert (REPOSITORY / script).stat().st_mode & 0o111


def test_lima() -> None:
    """Its keys; a parser of YAML is nothing that we need otherwise."""
    lines = (REPOSITORY / "tools/lima.yaml").read_text().splitlines()
    keys = {line.partition(":")[0] for line in lines if re.match(r"[a-z]\w*:", line)}
    assert keys == {"minimumLimaVersion", "base", "cpus", "memory", "disk", "containerd", "provision"}
    assert not any("\t" in line for line in lines)


def test_each_place_is_told_of() -> None:
    """Readers find what README names in the longer text too, with whether it was tried."""
    readme = (REPOSITORY / "README.md").read_text()
    places = (REPOSITORY / "tools/PLACES.md").read_text()
    table = readme.partition("## Where it runs")[2].partition("\n## ")[0]
    for name in ("Debian 12", "Ubuntu", "Docker", "Podman", "Codespaces", "WSL 2", "Lima", "make vm"):
        assert name in table and name in places
    for section in places.split("\n## ")[1:]:
        assert re.search(r"\b[Tt]ried\b", section), section.partition("\n")[0]
    prose = re.sub(r"```.*?```", "", readme, flags=re.DOTALL)
    assert len([word for word in prose.split() if re.search("[A-Za-z]", word)]) < 1000
