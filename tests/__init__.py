"""One suite for all nine steps, for Podman, and for any runtime of yours: see README.md."""
