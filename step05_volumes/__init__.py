"""Step 5 of Docker in nine steps: volumes, which outlive the container."""
