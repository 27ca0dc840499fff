"""Put the menu of the docs in the order in which a person needs them. Read by mkdocs (see mkdocs.yml)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.nav import Navigation

ORDER = ("index", "quickstart", "tutorial", "howto", "reference", "explanation", "glossary", "design")


def on_nav(nav: Navigation, **_: Any) -> Navigation:
    """Sort the top of the menu: the known places in their order, whatever is new after them."""
    nav.items.sort(key=lambda item: _place(item.title if item.is_section else item.file.src_uri))
    return nav


def _place(name: str) -> tuple[int, str]:
    stem = name.lower().removesuffix(".md")
    return (ORDER.index(stem) if stem in ORDER else len(ORDER), stem)
