"""Reads a report's page back: its sections, their words and their tables."""

import html
import re


def sections(page: str) -> dict[str, str]:
    """Give what stands below each heading, as HTML."""
    return {
        html.unescape(heading): body
        for heading, body in re.findall(r"<section [^>]*>\s*<h2>(.*?)</h2>(.*?)</section>", page, re.DOTALL)
    }


def words(part: str) -> str:
    """Give the text outside drawings and tables, in one line."""
    text = re.sub(r"<(svg|table)\b.*?</\1>", " ", part, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def table(part: str, caption: str) -> list[list[str]]:
    """Give the cells of a table, its headers first."""
    found = next(t for t in re.findall(r"<table.*?</table>", part, re.DOTALL) if f">{caption}</caption>" in t)
    rows = re.findall(r"<tr>(.*?)</tr>", found, re.DOTALL)
    return [[html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows]


def drawings(part: str) -> list[str]:
    """Give the drawings."""
    return re.findall(r"<svg.*?</svg>", part, re.DOTALL)


def titles(part: str) -> list[str]:
    """Give the titles of figures."""
    return [html.unescape(title) for title in re.findall(r"<h3>(.*?)</h3>", part)]
