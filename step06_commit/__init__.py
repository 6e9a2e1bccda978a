"""Step 6 of Docker in nine steps: a container becomes an image."""
