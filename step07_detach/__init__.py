"""Step 7 of Docker in nine steps: containers in the background, and on record."""
