"""What this machine can do: one line for each fact, then for each of the nine steps whether it runs here.

    python3 tools/labs/doctor.py

It needs nothing but Python, and is written so that even an old Python comes as far as saying that it is too old. What
each check tries is in doctor_trials.py; nothing is left behind. Exit code: 0 if all nine steps run in full, else 1.
"""

import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036  it is the very question
    found = ".".join(map(str, sys.version_info[:3]))
    sys.exit(
        f"doctor: this is Python {found}, and the steps need 3.11 or newer. "
        "Install one (on Debian and Ubuntu: apt-get install python3.12), then: make doctor PYTHON=python3.12"
    )

sys.path[0] = str(Path(__file__).resolve().parents[2])

from tools.labs import doctor_checks as checks  # noqa: E402  which an old Python cannot read

TITLES = "namespaces cgroups rootfs overlay volumes commit detach exec network".split()


def main() -> int:
    """Check everything, and tell."""
    facts = checks.all_facts()
    print("This machine")
    for fact in facts:
        print(f"  {mark(fact)}  {fact.topic:<17} {fact.found}")
    who = "root" if checks.PLACE.root else "you, who are not root"
    print(f"\nThe nine steps, for {who}")
    for number, title in enumerate(TITLES, start=1):
        print(f"  {number}  {title:<12} {verdict(number, facts)}")
    return 0 if all(verdict(number, facts) == "runs here" for number in range(1, 10)) else 1


def mark(fact: checks.Fact) -> str:
    """How a fact is marked in the list."""
    if fact.stops:
        return "NO  "
    return "part" if fact.weakens else "ok  "


def verdict(step: int, facts: list[checks.Fact]) -> str:
    """What is to be said of a step: the first thing that stops it, else the first that leaves a part out."""
    for fact in facts:
        if step in fact.stops:
            return f"does not run here, because {fact.found}; do: {fact.remedy}"
    for fact in facts:
        if step in fact.weakens:
            return f"runs in part, because {fact.found}; do: {fact.remedy}"
    return "runs here"


if __name__ == "__main__":
    sys.exit(main())
