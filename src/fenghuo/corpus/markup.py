"""What Markdown and HTML leave inside lines, taken away, and the words kept."""

from __future__ import annotations

import re
from html import unescape

_MARKS = ("*", "`", "<", "[", "&", "\\", "~~")
_TAGS = (
    "a|abbr|b|big|blockquote|br|caption|center|cite|code|dd|del|details|div|dl|dt|em|figcaption|figure|font|h[1-6]|"
    "hr|i|img|ins|kbd|li|mark|ol|p|pre|q|rp|rt|ruby|s|small|span|strike|strong|sub|summary|sup|table|tbody|td|tfoot|"
    "th|thead|tr|tt|u|ul|var"
)
_HAN = "\u3400-\u9fff"
_FOUND = re.compile(
    # First what stands in backticks: it is code, and keeps its own marks. A fence leaves a blank line. (Nobody writes
    # more than twenty, and a line of nothing else, tried from each of them, would take time with its square.)
    r"(?P<fence>^[ \t]*`{3,}[^`]*$)"
    r"|(?P<ticks>`{1,20}+)(?P<code>[^`]+)(?P=ticks)"
    r"|!?\[(?P<label>[^\[\]]*)\](?:\([^()\s]*(?:\([^()\s]*\)[^()\s]*)?(?:\s+[\"'][^\"']*[\"'])?\)|\ ?\[\d{1,3}\])"
    r"|(?P<footnote>\[\^[^\[\]\s]{1,20}\]:?)"
    rf"|(?<=[{_HAN}”’）》」』。，、；：！？])(?P<number>[ ]?\[\d{{1,3}}\])"
    r"|(?P<open_ruby><rt>)|(?P<close_ruby></rt>)"
    rf"|(?P<tag></?(?:{_TAGS})(?:\s+[a-z][\w-]*(?:\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s<>\"']+))?)*\s*/?>)"
    r"|(?P<entity>&(?:[a-z]{2,8}\d?|\#\d{1,6}|\#x[0-9a-f]{1,5});)"
    r"|\\(?P<escaped>[\\`*_{}\[\]()#+.!|<>~-])"
    # Two stars open or close, so letters of a program do not stand on both sides (2**8).
    r"|(?P<strong>(?<![0-9a-z_)\]])\*{2,3}|\*{2,3}(?![0-9a-z_(\[]))"
    rf"|(?<![0-9a-z_*])\*(?P<emphasis>[^\s*][^*]{{0,200}}?(?<!\s))\*(?![0-9a-z_*])"
    r"|~~(?P<struck>[^~]+)~~",
    re.ASCII | re.IGNORECASE,
)


def without_markup(text: str) -> str:
    """The text without inline Markdown and HTML.

    Gone are backticks, `**`, `*…*`, `~~`, backslashes before marks, the addresses of links, footnote marks, numbers in
    brackets after Chinese, HTML's tags for text and tables; entities become their characters, and what stands in
    `<rt>` becomes a remark （…）. Code in backticks and other tags (`<script>`, `<name>`) stay as they are.
    """
    if not any(mark in text for mark in _MARKS):
        return text
    # Line by line, since most lines have no mark, and a search costs ten times as much as looking for one.
    return "\n".join(
        _FOUND.sub(_words, line) if any(mark in line for mark in _MARKS) else line
        for line in text.split("\n")
    )


def _words(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind in ("code", "label", "escaped", "struck"):
        return found[kind]
    if kind == "emphasis":
        return _FOUND.sub(_words, found[kind])
    if kind == "entity":
        return unescape(found[0])
    return {"open_ruby": "（", "close_ruby": "）"}.get(str(kind), "")
