"""Draw the pictures in the texts, as SVG.

    make picture

demo.svg, for the top of README, is what `make demo` prints: its output goes through Rich, which can write a console as
SVG. timeline.svg, for chapter 1, is the --explain of a container of step 1: see timeline.py.
"""

import io
import re
import subprocess
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from tools import timeline

TOOLS = Path(__file__).resolve().parent
PARTS = 3  # of the demo; more would not fit on the first screen of README
COLUMNS = 116
# Rich's own SVG loads a font from another site. Ours uses what is there.
NOTHING_FROM_ELSEWHERE = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def main() -> None:
    demo()
    container()


def container() -> None:
    words = [sys.executable, "-m", "step01_namespaces", "run", "--explain", "--hostname", "box", "true"]
    done = subprocess.run(words, cwd=TOOLS.parent, capture_output=True, text=True, check=True)
    picture = TOOLS / "timeline.svg"
    events = timeline.read(done.stderr.splitlines())
    picture.write_text(timeline.draw(events))
    print(f"{picture.relative_to(TOOLS.parent)}: the {len(events)} lines of `{' '.join(words[3:])}`")


def demo() -> None:
    done = subprocess.run([TOOLS / "demo.sh"], capture_output=True, text=True, check=True)
    parts = done.stdout.strip().split("\n\n")
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi("\n\n".join(parts[:PARTS])))
    picture = TOOLS / "demo.svg"
    console.save_svg(str(picture), title="make demo", code_format=NOTHING_FROM_ELSEWHERE)
    print(f"{picture.relative_to(TOOLS.parent)}: the first {PARTS} of {len(parts)} parts of the demo")


if __name__ == "__main__":
    main()
