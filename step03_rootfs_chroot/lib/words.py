"""What users of Docker may type: switches with a value (`--rm=true`), and commands that this step lacks."""

import re

from .errors import PROGRAM

SWITCH = re.compile(r"(-[itd]+|--(?:interactive|tty|detach|rm|explain))(?:=(true|false))?")

BROUGHT_BY = {
    5: "volume",
    6: "import images rmi commit",
    7: "ps logs stop kill rm wait",
    8: "exec inspect stats",
    9: "network",
}
INSTEAD = {
    "start restart create": "a container runs once: use 'run', and 'commit' to keep its files",
    "build": "use 'run', make the changes inside, then 'commit'",
    "pull push load": "'make pull IMAGE=…' fetches one from a registry, 'import' takes what 'docker save' writes",
    "save export": "use 'commit CONTAINER IMAGE -o FILE', or without IMAGE for its files alone",
    "cp": "use -v to share a directory with the container",
    "attach": "use 'logs -f', or 'exec -it CONTAINER sh'",
    "top port": "use 'exec CONTAINER ps', and 'ps'",
}


def advice(command: str = "") -> str:
    """Return one sentence about a command that this step lacks, or "" for a command that we do not know."""
    for step, names in BROUGHT_BY.items():
        if command in names.split() and "step01" <= PROGRAM < f"step{step:02}":
            return f"{command!r} comes with step {step}: this is {PROGRAM}"
    for names, sentence in INSTEAD.items():
        if command in names.split():
            return f"there is no {command!r} as in Docker: {sentence}"
    return ""


def plain_switches(words: list[str]) -> list[str]:
    """Return the words with `--rm=true` as `--rm` and without `--rm=false`. Words after the options do not change."""
    options = words[:1]
    for place, word in enumerate(words[1:], start=1):
        switch = SWITCH.fullmatch(word)
        is_value = options[-1].startswith("-") and "=" not in options[-1] and not SWITCH.fullmatch(options[-1])
        if not word.startswith("-") and not is_value:
            return options + words[place:]
        if not switch or is_value:
            options.append(word)
        elif switch[2] != "false":
            options.append(switch[1])
    return options
