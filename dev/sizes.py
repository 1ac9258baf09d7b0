"""The table of docs/guides/sizing.md: what common models need, and the cards they fit."""

from pathlib import Path

from ollama_fleet.plan.catalogue import BUILT_IN, Offer
from ollama_fleet.plan.sizing import GIB, Load, amount

PAGE = Path(__file__).parent.parent / "docs" / "guides" / "sizing.md"
BEGIN, END = "<!-- table: make generate -->\n", "<!-- end -->\n"
CARDS = (4, 6, 8, 12, 16, 24, 48, 80)
"""What is written on them, in GB."""


def reported(card: int) -> int:
    """Bytes that Ollama may find on a card: of 16 GB it is 15.0 GiB."""
    return card * 15 * GIB // 16


def page() -> str:
    """The page with its table made anew."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def table() -> str:
    """Models by what they need at a context of 8192, one request at a time."""
    head = ["model", "download", "needs", *(f"{card} GB" for card in CARDS)]
    rows = sorted(BUILT_IN, key=lambda offer: offer.fit(Load()).need)
    lines = [head, ["---"] * len(head), *(_row(offer) for offer in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _row(offer: Offer) -> list[str]:
    cards = ["●" if offer.fit(Load(), reported(card)).fits else "" for card in CARDS]
    size = f"{offer.size / 1e9:.1f} GB" if offer.size >= 1e8 else f"{offer.size / 1e6:.0f} MB"
    return [f"`{offer.name}`", size, amount(offer.fit(Load()).need), *cards]
