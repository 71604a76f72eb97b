"""The knowledge folder of a pack: Markdown and CSV files into question-and-answer entries."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec

from runtime._strict import Mistakes

__all__ = ["Entry", "read_knowledge"]


class Entry(msgspec.Struct, frozen=True):
    """A fact: the ways to ask for it (the first is the main one), the answer as it is spoken, further words to find it by."""

    questions: tuple[str, ...]
    answer: str
    keywords: tuple[str, ...] = ()
    topic: str = ""  # name of the file without its ending
    where: str = ""  # file and line, for messages


def read_knowledge(folder: Path, mistakes: Mistakes) -> tuple[Entry, ...]:
    """All entries of the folder's files, by file name; none when there is no folder."""
    entries: list[Entry] = []
    seen: dict[str, str] = {}
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        if path.suffix not in (".md", ".csv"):
            mistakes.add(f"knowledge/{path.name}", "", "is neither Markdown (.md) nor CSV (.csv)")
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            mistakes.add(f"knowledge/{path.name}", "", f"cannot be read as UTF-8 text: {error}")
            continue
        read = _markdown if path.suffix == ".md" else _csv
        for entry in read(text, f"knowledge/{path.name}", path.stem, mistakes):
            for question in entry.questions:
                asked = question.lower().strip(" ?")
                if asked in seen:
                    mistakes.add(*_place(entry.where), f"{question!r} is asked in {seen[asked]} already")
                seen[asked] = entry.where
            entries.append(entry)
    return tuple(entries)


def _place(where: str) -> tuple[str, str]:
    file, _, line = where.rpartition(":")
    return file, f"line {line}"


def _markdown(text: str, file: str, topic: str, mistakes: Mistakes) -> list[Entry]:
    """`## question`, lines `? other wording`, a line `keywords: a, b`, then the answer; text before the first heading is a comment."""
    entries: list[Entry] = []
    questions: list[str] = []
    keywords: tuple[str, ...] = ()
    answer: list[str] = []
    start = 0

    def close() -> None:
        if questions and not answer:
            mistakes.add(file, f"line {start}", f"{questions[0]!r} has no answer")
        elif questions:
            entries.append(Entry(tuple(questions), " ".join(answer), keywords, topic, f"{file}:{start}"))

    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("## "):
            close()
            questions, keywords, answer, start = [line[3:].strip(" :")], (), [], number
        elif line.startswith("? ") and questions:
            questions.append(line[2:].strip())
        elif line.lower().startswith("keywords:") and questions:
            keywords = _split(line.partition(":")[2], ",")
        elif line and not line.startswith("#") and questions:
            answer.append(line)
    close()
    return entries


def _csv(text: str, file: str, topic: str, mistakes: Mistakes) -> list[Entry]:
    """Columns question (wordings separated by |), answer, keywords (separated by commas, optional); other columns are mistakes."""
    rows = csv.reader(text.splitlines())
    header = [cell.strip().lower() for cell in next(rows, [])]
    if not {"question", "answer"} <= set(header):
        mistakes.add(file, "line 1", "needs the columns question and answer")
        return []
    for cell in header:
        if cell not in ("question", "answer", "keywords"):
            mistakes.add(file, "line 1", f"unknown column {cell!r} (question, answer and keywords are known)")
    entries = []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
        if len(row) > len(header):
            mistakes.add(file, f"line {rows.line_num}", f"{len(row)} cells for {len(header)} columns (a comma in a text needs quotes)")
        elif not cells.get("question") or not cells.get("answer"):
            mistakes.add(file, f"line {rows.line_num}", "has no question or no answer")
        else:
            where = f"{file}:{rows.line_num}"
            entries.append(Entry(_split(cells["question"], "|"), cells["answer"], _split(cells.get("keywords", ""), ","), topic, where))
    return entries


def _split(text: str, separator: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(separator) if part.strip())
