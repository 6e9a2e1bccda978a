"""The classroom: what tools/lab.py is made of."""
