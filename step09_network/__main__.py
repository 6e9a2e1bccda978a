"""`python -m` starts here."""

try:
    from .cli import main
except KeyboardInterrupt:  # Ctrl-C while modules are still loading
    raise SystemExit(130) from None

main()
