"""Quotes that are opened and never closed: found before they swallow the rest of a table."""

import re

STRAY = "\ufdd0"
"""Put in place of a quote that is not closed; a code point that no text has."""
MOST_LINES = 100
"""Line breaks that a quoted value may hold; one that goes on for longer was never meant to be quoted."""


class QuoteGuard:
    """Passes lines of separated values on, with `STRAY` for each quote that opens a value and never closes it.

    A quote is closed by one that a delimiter or the end of a line follows, at most `MOST_LINES` lines later.
    """

    def __init__(self, delimiter: str) -> None:
        d = re.escape(delimiter)
        # Only one way to match a line, so that one which does not match costs no backtracking.
        within = rf'(?:"[^"\n]*(?:""[^"\n]*)*"(?!")[^{d}\n]*|(?!")[^{d}\n]*)'
        self._line = re.compile(rf"{within}(?:{d}{within})*\n")
        self._quoted = re.compile(r'"[^"]*(?:""[^"]*)*"(?!")')
        self._rest = re.compile(rf"[^{d}\n]*")
        self._ends = re.compile(rf"{d}|\r?\n")
        self._held = ""

    def __call__(self, text: str, *, final: bool) -> str:
        """The text so far as far as its quotes are settled; what is not is kept for the next call, or the last one."""
        text = self._held + text
        if final and text and not text.endswith("\n"):
            text += "\n"
        start, end, passed = 0, text.rfind("\n") + 1, []
        if text.find('"', 0, end) < 0:
            passed, start = [text[:end]], end
        while start < end:
            stop = text.index("\n", start) + 1
            line = text[start:stop]
            if '"' not in line or self._line.fullmatch(line):
                passed.append(line)
                start = stop
                continue
            row = self._row(text[:end], start, final)
            if row is None:
                break
            passed.append(row[0])
            start = row[1]
        self._held = text[start:]
        return "".join(passed)

    def _row(self, text: str, at: int, final: bool) -> tuple[str, int] | None:
        """The row that begins at `at`, and where the next one does; nothing where its end is yet to come."""
        parts: list[str] = []
        while True:
            if text[at] == '"':
                quoted = self._quoted.match(text, at)
                if quoted is None and not final and text.count("\n", at) <= MOST_LINES:
                    return None
                if quoted is not None and self._is_closed(quoted):
                    parts.append(quoted[0])
                    at = quoted.end()
                else:
                    parts.append(STRAY)
                    at += 1
            rest = self._rest.match(text, at)
            end = at if rest is None else rest.end()
            parts.append(text[at : end + 1])
            at = end + 1
            if text[end] == "\n":
                return "".join(parts), at

    def _is_closed(self, quoted: re.Match[str]) -> bool:
        lines = quoted[0].count("\n")
        return not lines or (lines <= MOST_LINES and self._ends.match(quoted.string, quoted.end()) is not None)
