"""Every section of the TAO reference that the sources cite exists in its page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tao-reference.md"
SOURCES = sorted(
    path
    for folder in ("src", "tests", "benchmarks", "examples", "docs")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".md") and path != Path(__file__)
)
GAP = r"(?:\s|#)+"
NUMBER = r"\d+(?:\.\d+)?"
CITATION = re.compile(
    rf"\bTAO{GAP}reference,{GAP}sections?{GAP}({NUMBER}(?:(?:,|{GAP}and|{GAP}to)*{GAP}{NUMBER})*)"
)


def cited_sections(text: str) -> list[str]:
    """Find the numbers of the cited sections, with those between the ends of a range."""
    sections = []
    for citation in CITATION.findall(text):
        sections += re.findall(NUMBER, citation)
        for first, last in re.findall(rf"({NUMBER}){GAP}to{GAP}({NUMBER})", citation):
            chapter, _, start = first.rpartition(".")
            end = last.rpartition(".")[2]
            numbers = range(int(start), int(end))
            sections += [f"{chapter}.{n}" if chapter else str(n) for n in numbers]
    return sections


def sections_of_page() -> list[str]:
    text = re.sub(r"(?ms)^```.*?^```", "", PAGE.read_text(encoding="utf-8"))
    return re.findall(rf"(?m)^##+ ({NUMBER}) \S", text)


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("(TAO reference, section 11.6)", {"11.6"}),
        ("TAO reference, sections 2.4 and 4 to 6", {"2.4", "4", "5", "6"}),
        ("(TAO\n    # reference, sections 2.4, 7 and 8)", {"2.4", "7", "8"}),
        ("(TAO reference, sections 11.5 to 11.7), 12 of them", {"11.5", "11.6", "11.7"}),
    ],
)
def test_citations_are_found(text, sections):
    assert set(cited_sections(text)) == sections


def test_cited_sections_exist():
    existing = set(sections_of_page())
    cited = {
        (path.relative_to(ROOT).as_posix(), section)
        for path in SOURCES
        for section in cited_sections(path.read_text(encoding="utf-8"))
    }
    assert cited
    assert not {(path, section) for path, section in cited if section not in existing}


def test_citations_have_one_form():
    citation = re.compile(rf"(\S+){GAP}\(?[Rr]eference,?{GAP}(?:sections?{GAP})?\d")
    for path in SOURCES:
        words = citation.findall(path.read_text(encoding="utf-8"))
        assert all(word.endswith("TAO") for word in words), path


def test_sections_are_numbered_in_order():
    numbers = [tuple(map(int, section.split("."))) for section in sections_of_page()]
    assert numbers == sorted(set(numbers))
    assert {number[0] for number in numbers} == set(range(1, 18))
