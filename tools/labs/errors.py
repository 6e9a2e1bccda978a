"""How a lab's tools refuse."""


class LabError(Exception):
    """One line: what is wrong, and what to do."""
