"""Texts whose parts, one after the other, must come to what they are as a whole."""

from __future__ import annotations

import random

TEXTS = (
    "One paragraph.",
    "# Title\n\nText *with* **marks** and `code`.\n\n## Second\nand text at once\n***\nmore",
    "Title\n===\n\nOther\n---\n\ntext\n-\n",
    "a\n#\n#hashtag\n# title\n#",
    "- a\n- b\n\n- c\n\n  still c\n\nafter\n1. x\n2. y\n   - z\n     - deep\n\n       deeper\n3. end",
    "- a\n+ b\n* c\n1) d\n2. e\n1.5 no item\n-no item\n",
    "> quote\nlazy\n> more\n\n> another\n>\n> - list\n> - in it\n>\n> ```js\n> let a = 1;\n> ```\n",
    "```python\ndef f():\n    return '<b>'\n\n\n```\nafter\n~~~\n```\n~~~\n\n    indented\n\n    code\n\ntext",
    "text\n```\nno end\n\n# still code",
    "text\n```js`x\nno fence\n\n``` a`b```\n",
    "- item\n\n  ```sh\n  ls -l\n  ```\n\n  | a | b |\n  |---|---|\n  | 1 | 2 |\n- next\n",
    "| a | b | c |\n|:--|:-:|--:|\n| 1 | `x|y` | 3 |\n| 4 |\n\nafter\na | b\n--- | ---\n1 | 2\n# no row",
    "text\na | b\n-|-\nc | d\n\nno | table\n-|x\n",
    "Prices: $5 and $10, US$3, $1.50-$2, and \\$x$.\nMaths $x^2$, $$y$$ and \\(z\\), \\[w\\].",
    "$$\na\n- b\n= c\n$$\nafter\n$$ x $$\n\n\\[\n\\frac{a}{b}\n\\]\n\n$$\nno end",
    "$$\nopen\n\nclosed by nothing\n$$\n",
    "text\n$$\nx\n\nno formula, see\n\n# title\n",
    "[a], [b][c], [d](http://x.test) <http://y.test> http://z.test/a_b\n\n[a]: http://a.test\n[c]: http://c.test\n",
    "[x]: http://x.test\n\nlater [x] and [y]\n\n- [x]\n- [y]\n\n[y]: http://y.test\n",
    "![i](http://x.test/i.png) ![j](data:image/png;base64,iVBORw0KGgo=)\n[![k](http://x.test/k.png)](http://k.test)",
    "line  \nbreak\\\nbreak\nsoft\r\nother\rold\n\n&amp; &copy; &#0; \\* \\_\n\n<b>no html</b>\n<div>\nnone\n</div>",
    "中文段落，**粗体**和`代码`。\n\n- 一\n- 二 😀👩‍👩‍👧\n\n> 引用\n",
    "a\n\n\n\n   b\n\t\n\tc\n\n  \n- \n\n-\n  x\n",
    "***bold and italic*** __a__ _b_ ~~gone~~ **open\n\nnext *open",
    "1. one\n\n   para\n1. two\n\n7. seven\n\n- [ ] task\n- [x] done\n",
)
# What these mean is known at their end only: a formula without one, a link that is defined below.
OPEN = ("no end", "no formula", "later [x]", "[a]: http")
PIECES = (
    *("a", "b c", "\n", "\n", "\n\n", "# ", "- ", "* ", "1. ", "> ", "```", "```py\n", "~~~", "    ", "  ", "\t"),
    *(
        "|",
        " | ",
        "|--|--|\n",
        "$",
        "$$",
        "\\(",
        "\\)",
        "\\[",
        "\\]",
        "*",
        "**",
        "_",
        "`",
        "[x]",
        "[x]: http://x.test\n",
    ),
    *("(http://y.test)", "![", "===", "---", "-", "+", "<b>", "&amp;", "\\", "\r\n", "~~", "x^2", "5", "é", "你"),
)


def invented(seed: int, length: int = 60) -> str:
    """A text of pieces that mean something to Markdown, in no order."""
    choice = random.Random(seed)
    return "".join(choice.choice(PIECES) for _ in range(length))
