"""What to say of a command that is not here: that a later step brings it, or what to do instead."""

from .errors import PROGRAM

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
    "pull push login search load": "there is no registry here: use 'import' with what 'docker export' writes",
    "save export": "use 'commit CONTAINER -o FILE'",
    "cp": "use -v to share a directory with the container",
    "attach": "use 'logs -f', or 'exec -it CONTAINER sh'",
    "top": "use 'exec CONTAINER ps'",
    "port": "'ps' shows the ports",
    "tag": "use 'commit' or 'import' with the other name",
}


def advice(command: str = "") -> str:
    """One sentence about a command that this step lacks; "" if nothing is known of it."""
    for step, names in BROUGHT_BY.items():
        if command in names.split() and f"step{step:02}" > PROGRAM:
            return f"{command!r} comes with step {step}: this is {PROGRAM}"
    for names, sentence in INSTEAD.items():
        if command in names.split():
            return f"there is no {command!r} as in Docker: {sentence}"
    return ""
