"""Values drawn anew for each test: what a runtime prints must come from what it did, not from what it knows."""

import random

# Syllables, so that a word can be read in a message. No consonant is a hexadecimal digit: no word looks like an id.
CONSONANTS, VOWELS = "gklmnprstvz", "aiou"


class Fresh:
    """The fixture `fresh`."""

    def __init__(self) -> None:
        self._dice = random.SystemRandom()
        self._given: set[str] = set()

    def word(self) -> str:
        """Ten small letters, another word each time: a name for anything."""
        while (word := self._syllables()) in self._given:
            pass
        self._given.add(word)
        return word

    def _syllables(self) -> str:
        return "".join(self._dice.choice(CONSONANTS) + self._dice.choice(VOWELS) for _ in range(5))

    def number(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return self._dice.randint(low, high)

    def bytes(self, count: int) -> bytes:
        return self._dice.randbytes(count)
