"""The report: complete, self-contained, safe against hostile names, and alive in a real browser where there is one."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import DataError
from pipeline.reading import PhotoReading
from pipeline.report import write_report
from pipeline.sinks import write_picture, write_results
from tests.pipeline.factories import grey_image, make_face, make_reading

HOSTILE = "</script><script>alert(1)</script>.jpg"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    many = [make_face((x, 0, x + 20, 20), "sad") for x in range(0, 100, 20)]
    readings = [
        make_reading("b.jpg", [make_face(), make_face(emotion_name=None)], elapsed_ms=30.0),
        make_reading("a.jpg", many, elapsed_ms=10.0, fallback_reason="compact failed: <no>"),
        make_reading("sub/c.jpg", elapsed_ms=20.0),
        PhotoReading(HOSTILE, error="the file is <empty>"),
    ]
    write_results(readings, tmp_path / "results.jsonl")
    write_picture(readings[0], grey_image(200, 100), tmp_path / "annotated")
    (tmp_path / "run.json").write_text(json.dumps({"detector": "squares", "min_score": 0.25, "photos_sha256": "x"}))
    return tmp_path


class Links(HTMLParser):
    """Everything a page would load or lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]


def data_of(page: str) -> dict[str, list[dict[str, object]]]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)
    assert found is not None
    loaded: dict[str, list[dict[str, object]]] = json.loads(found[1])
    return loaded


def test_the_page_says_what_the_run_came_to(out: Path) -> None:
    page = write_report(out).read_text(encoding="utf-8")
    assert "<b>4</b><span>photos</span>" in page
    assert "<b>7</b><span>faces</span>" in page
    assert "<b>1</b><span>faces too small</span>" in page
    assert "the file is &lt;empty&gt;: 1 photo" in page
    assert "compact failed: &lt;no&gt;: 1 photo" in page
    assert "<dt>min_score</dt><dd>0.25</dd>" in page
    assert "brightness@0123456789ab" in page
    assert "5 (83%)" in page


def test_rows_hold_what_the_table_shows(out: Path) -> None:
    rows = data_of(write_report(out).read_text(encoding="utf-8"))["photos"]
    assert [row["name"] for row in rows] == ["b.jpg", "a.jpg", "sub/c.jpg", HOSTILE]
    assert rows[0]["emotions"] == {"happy": 1}
    assert (rows[1]["faces"], rows[1]["confidence"], rows[1]["ms"]) == (5, 0.7, 10.0)
    assert str(rows[0]["thumbnail"]).startswith("data:image/jpeg;base64,/9j/")
    assert rows[2]["thumbnail"] is None
    assert rows[3]["error"] == "the file is <empty>"


def test_the_page_needs_nothing_else_and_hostile_names_do_nothing(out: Path) -> None:
    page = write_report(out).read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert links.found == ["#photos"]
    assert links.tags.count("script") == 2
    assert "alert(1)</script>" not in page
    assert "default-src 'none'" in html.unescape(page)


def test_thumbnails_can_be_limited(out: Path) -> None:
    rows = data_of(write_report(out, max_thumbnails=0).read_text(encoding="utf-8"))["photos"]
    assert all(row["thumbnail"] is None for row in rows)


def test_an_empty_run(tmp_path: Path) -> None:
    write_results([], tmp_path / "results.jsonl")
    assert "<p>none</p>" in write_report(tmp_path).read_text(encoding="utf-8")


def test_what_is_no_run_is_refused(out: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no results\.jsonl"):
        write_report(tmp_path / "nothing")
    (out / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json: expected JSON"):
        write_report(out)


def test_the_command(out: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere/page.html"
    result = CliRunner().invoke(app, ["report", str(out), "--to", str(target)])
    assert (result.exit_code, result.stdout) == (0, f"{target}\n")
    assert target.exists()
    refused = CliRunner().invoke(app, ["report", str(tmp_path / "nothing")])
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: ")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_sorting_and_filtering_in_a_browser(out: Path, tmp_path: Path) -> None:
    page = write_report(out).read_text(encoding="utf-8")
    steps = """<script>
    const names = () => [...document.querySelectorAll("td.name")].map(td => td.firstChild.textContent), log = [names()];
    const press = key => document.querySelector(`[data-key=${key}]`).click();
    press("name"); log.push(names()); press("name"); log.push(names()); press("ms"); log.push(names());
    const type = (id, change) => { change(document.getElementById(id));
      document.getElementById(id).dispatchEvent(new Event("input", {bubbles: true})); log.push(names()); };
    type("f-emotion", e => e.value = "sad"); type("f-emotion", e => e.value = "");
    type("f-errors", e => e.checked = true);
    const focusable = [...document.querySelectorAll("a, button, input, select")].every(e => e.tabIndex === 0);
    const sorted = document.querySelector("[aria-sort=descending]").textContent;
    document.title = JSON.stringify({log, focusable, sorted});
    </script></body>"""
    (tmp_path / "page.html").write_text(page.replace("</body>", steps), encoding="utf-8")
    words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*words, "--dump-dom", (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    found = re.search(r"<title>(.*?)</title>", done.stdout, re.S)
    assert found is not None, done.stderr
    seen = json.loads(html.unescape(found[1]))
    first, rising, falling, slowest, sad, every, errors = seen["log"]
    assert first == ["b.jpg", "a.jpg", "sub/c.jpg", HOSTILE]
    assert set(rising) == set(first)
    assert falling == rising[::-1]
    assert slowest[:3] == every[:3] == ["b.jpg", "sub/c.jpg", "a.jpg"]
    assert sad == ["a.jpg"]
    assert errors == [HOSTILE]
    assert (seen["focusable"], seen["sorted"]) == (True, "ms")
