"""Pieces of HTML: paragraphs from the little Markdown that guides use, embedded images, parts that fold."""

from __future__ import annotations

import base64
import re
from html import escape


def embed(data: bytes, kind: str, alt: str) -> str:
    """Embed an image into the page."""
    return f'<img src="data:image/{kind};base64,{base64.b64encode(data).decode()}" alt="{escape(alt)}">'


def paragraphs(text: str) -> str:
    """Turn the little Markdown that the guides use into paragraphs and lists."""
    html = ""
    for part in text.split("\n\n"):
        if part.startswith("- "):
            items = "".join(f"<li>{inline(item.removeprefix('- '))}</li>" for item in part.splitlines())
            html += f"<ul>{items}</ul>"
        else:
            html += f"<p>{inline(part)}</p>"
    return html


def inline(text: str) -> str:
    """Turn bold, emphasis and code into tags."""
    html = escape(text)
    for pattern, tag in ((r"`(.+?)`", "code"), (r"\*\*(.+?)\*\*", "strong"), (r"\*(.+?)\*", "em")):
        html = re.sub(pattern, rf"<{tag}>\1</{tag}>", html, flags=re.DOTALL)
    return html


def folded(summary: str, body: str) -> str:
    """Fold something away under a line that opens it; nothing for nothing."""
    return f"<details><summary>{summary}</summary>{body}</details>" if body else ""


def identifier(heading: str) -> str:
    """Return the target of links to a heading."""
    return heading.lower().replace(" ", "-")
