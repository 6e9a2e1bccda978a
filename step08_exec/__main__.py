"""`python -m` starts here."""

import gc
import sys

if sys.version_info < (3, 11):  # noqa: UP036  an older Python can read this file, and no other
    found = ".".join(map(str, sys.version_info[:3]))
    print(f"{__package__}: Python {found} is too old: install 3.11 or newer, as python3.12", file=sys.stderr)
    sys.exit(125)
gc.disable()  # while modules load: the collector would look through all that is new again and again, and find nothing
try:
    from .cli import main

    gc.freeze()  # nor is anything of it garbage later
    gc.enable()
    main()
except KeyboardInterrupt:  # Ctrl-C before main has set its own handler
    raise SystemExit(130) from None
except ImportError as error:
    if not error.name or error.name.startswith(str(__package__)):  # then something of ours is broken
        raise
    remedy = "in a virtual environment: pip install 'typer>=0.26' rich (in the whole repository: make run)"
    print(f"{__package__}: this Python has no {error.name}, or one too old; {remedy}", file=sys.stderr)
    sys.exit(125)
