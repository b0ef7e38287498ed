"""The report as a reader sees it: headless Chromium, as wide as a phone and as a screen, and on paper."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from icd.results.report import write_report
from tests.e2e.devtools import Browser
from tests.reports import confirm, rich
from tests.support.needs import need

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# Whatever sticks out to the right, unless it lies in a box that scrolls.
STICKING_OUT = """[...document.querySelectorAll('body *')].filter(item =>
    item.getBoundingClientRect().right > innerWidth + 1 && !item.closest('.scroll, svg')).map(item => item.outerHTML)"""
SMALLEST = """Math.min(...[...document.querySelectorAll('p, td, th, figcaption, summary, svg text')]
    .filter(item => item.getClientRects().length)
    .map(item => parseFloat(getComputedStyle(item).fontSize) *
        (item.closest('svg') ? item.closest('svg').getBoundingClientRect().width / 360 : 1)))"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    study = rich(folder, 24)
    rich(folder, 3, name="small")
    pages = {name: folder / f"{name}.html" for name in ("searched", "small", "confirmed")}
    write_report(folder, "rich", pages["searched"])
    write_report(folder, "small", pages["small"])
    confirm(study)
    write_report(folder, "rich", pages["confirmed"])
    return pages


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    need("chromium", CHROMIUM is not None, "no chromium: apt-get install chromium")
    assert CHROMIUM is not None
    with Browser(CHROMIUM, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize("name", ["searched", "confirmed", "small"])
def test_a_page_fits_and_asks_for_nothing(
    name: str, width: int, dark: bool, pages: dict[str, Path], browser: Browser, tmp_path: Path
) -> None:
    browser.open(pages[name], width, dark=dark)
    assert browser.complaints == []
    assert browser.requests == [pages[name].as_uri()]
    browser.value("document.querySelectorAll('details').forEach(item => { item.open = true })")
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") == width
    assert browser.value(STICKING_OUT) == []
    assert browser.value(SMALLEST) >= 10.5
    browser.screenshot(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        corner = image.convert("L").getpixel((2, 2))
        assert image.width == width
    assert isinstance(corner, int)
    assert (corner < 64) == dark


def test_paper_is_white_and_holds_every_chart(pages: dict[str, Path], browser: Browser, tmp_path: Path) -> None:
    browser.open(pages["confirmed"], 794, dark=True, media="print")
    assert browser.value("document.documentElement.scrollWidth") == 794
    shown = "[...document.querySelectorAll('svg')].filter(item => !item.closest('details'))"
    charts = browser.value(f"{shown}.map(item => item.getBoundingClientRect().width)")
    assert len(charts) == 10
    assert min(charts) > 200
    browser.screenshot(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        assert image.convert("L").getpixel((2, 2)) == 255


def test_what_would_be_wrong_is_seen(browser: Browser, tmp_path: Path) -> None:
    """The checks above can fail."""
    (tmp_path / "bad.html").write_text(
        "<!DOCTYPE html><title>x</title><div style='width: 2000px'>wide</div>"
        "<img src='file:///nowhere.png' alt=''><script>console.error('no'); throw new Error('never')</script>"
    )
    browser.open(tmp_path / "bad.html", 390)
    assert len(browser.requests) == 2
    assert any("never" in complaint for complaint in browser.complaints)
    assert any("'no'" in complaint for complaint in browser.complaints)
    assert browser.value("document.documentElement.scrollWidth") > 390
    assert len(browser.value(STICKING_OUT)) == 1


@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize("name", ["searched", "confirmed"])
def test_the_verdict_stands_on_the_first_screen(
    name: str, width: int, pages: dict[str, Path], browser: Browser
) -> None:
    browser.open(pages[name], width, height=800)
    assert browser.value("document.querySelector('.finding').getBoundingClientRect().bottom") < 800
    boxes = "[...document.querySelectorAll('#finding .scroll[aria-label=Differences]')]"
    wider = browser.value(f"{boxes}.map(box => box.scrollWidth - box.clientWidth)")
    assert wider == ([0] if name == "confirmed" else []), "a phone shows the column of verdicts"


@pytest.mark.parametrize("name", ["searched", "confirmed"])
def test_a_whole_page_is_a_few_screens_of_a_desk(name: str, pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages[name], 1280)
    assert browser.value("document.documentElement.scrollHeight") < 4500
