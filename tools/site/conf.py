"""What Sphinx is told: the same for each edition. tools/book.py adds the language and the titles."""

import json
import os
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent

extensions = ["myst_parser"]
myst_heading_anchors = 4
# `…` stands in chapters for what is left out, and does not parse.
suppress_warnings = ["misc.highlighting_failure"]
highlight_language = "text"
smartquotes = False  # the pages stay as they are typed
show_warning_types = True

html_theme = "furo"
pygments_style = "default"
pygments_dark_style = "github-dark"
html_static_path = [str(HERE / "static"), os.environ["BOOK_MERMAID"]]
templates_path = [str(HERE / "templates")]
html_css_files = ["book.css"]
html_js_files = [("book.js", {"defer": "defer"})]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"source_view_link": "", "top_of_page_buttons": []}
html_sidebars = {
    "**": [
        f"sidebar/{part}.html" for part in ("brand", "search", "language", "scroll-start", "navigation", "scroll-end")
    ]
}
html_context = {"languages": json.loads(os.environ["BOOK_LANGUAGES"])}

jieba = import_module("jieba")  # cuts Chinese into words for the search
jieba.setLogLevel("WARNING")
jieba.dt.tmp_dir = os.environ["BOOK_CACHE"]
# What the reader types has to be cut likewise, which Sphinx leaves out; words of one character are not in its index.
import_module("sphinx.search.zh").SearchChinese.js_splitter_code = """
const segmenter = new Intl.Segmenter("zh", { granularity: "word" });
var splitQuery = (query) => query.split(/[^\\p{Letter}\\p{Number}_]+/u).flatMap((part) => {
  if (!/\\p{Script=Han}/u.test(part)) return part ? [part] : [];
  const words = [...segmenter.segment(part)].map(({ segment }) => segment).filter((word) => word.length > 1);
  return words.length ? words : [part];
});
"""
