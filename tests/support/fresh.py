"""Random values, new for each test: a runtime can print the right ones only if it has really done its work."""

import random

# Syllables, so that a word can be read in a message. No consonant is a hexadecimal digit: no word looks like an id.
CONSONANTS, VOWELS = "gklmnprstvz", "aiou"


class Fresh:
    """The fixture `fresh`."""

    def __init__(self) -> None:
        self._dice = random.SystemRandom()
        self._given: set[str] = set()

    def word(self) -> str:
        """Return ten small letters, a new word each time: a name for anything."""
        while (word := self._syllables()) in self._given:
            pass
        self._given.add(word)
        return word

    def _syllables(self) -> str:
        return "".join(self._dice.choice(CONSONANTS) + self._dice.choice(VOWELS) for _ in range(5))

    def number(self, low: int, high: int) -> int:
        """Return a random whole number from `low` to `high`, both included."""
        return self._dice.randint(low, high)

    def bytes(self, count: int) -> bytes:
        return self._dice.randbytes(count)
