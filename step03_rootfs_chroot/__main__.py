"""`python -m` starts here."""

import gc
import sys

if sys.version_info < (3, 11):  # noqa: UP036  an older Python can read this file, but not the others
    found = ".".join(map(str, sys.version_info[:3]))
    print(f"{__package__}: Python {found} is too old: install 3.11 or newer, as python3.12", file=sys.stderr)
    sys.exit(125)
gc.disable()  # while modules load: the garbage collector would search all new objects again and again, and find nothing
try:
    from .cli import main

    gc.freeze()  # the collector never looks at these objects again: they stay until the end
    gc.enable()
    main()
except KeyboardInterrupt:  # Ctrl-C before main has set its own handler
    raise SystemExit(130) from None
except ImportError as error:
    if not error.name or error.name.startswith(str(__package__)):  # our own code is broken: show where
        raise
    remedy = "in a virtual environment: pip install 'typer>=0.26' rich (in the whole repository: make run)"
    print(f"{__package__}: this Python has no {error.name}, or one too old; {remedy}", file=sys.stderr)
    sys.exit(125)
