"""`python -m` starts here."""

import gc

gc.disable()  # while modules load: the collector would look through all that is new again and again, and find nothing
try:
    from .cli import main
except KeyboardInterrupt:  # Ctrl-C while modules are still loading
    raise SystemExit(130) from None
gc.freeze()  # nor is anything of it garbage later
gc.enable()

main()
