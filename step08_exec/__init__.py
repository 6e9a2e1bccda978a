"""Step 8 of Docker in nine steps: back into a running container."""
