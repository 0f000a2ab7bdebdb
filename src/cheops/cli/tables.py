"""Tables of text."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as what stands in them, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [zip(row, widths, strict=True) for row in (head, *rows)]
    return "\n".join("  ".join(text.ljust(width) for text, width in line).rstrip() for line in lines)
