"""The report in a real browser: it works by mouse and keyboard, fetches nothing, obeys no name, and can be read."""

import base64
import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import lymphtune
from lymphtune.reporting.report import write_report
from lymphtune.runs.run import Run
from tests.reporting.hostile import hostile_page

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,900",
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium or chromedriver; `make browser` installs them"),
]

# the lowest contrast of text to what is behind it, WCAG 2.2, 1.4.3, over all elements outside drawings with text
CONTRAST = """
const parsed = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = (colour) => parsed(colour).slice(0, 3).map((one) => one / 255)
  .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
  .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
const behind = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const colour = getComputedStyle(one).backgroundColor;
    if ((parsed(colour)[3] ?? 1) > 0) return colour;
  }
  return "rgb(255, 255, 255)";
};
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const worded = [...element.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
  if (!worded || element.closest("svg, script") || !element.checkVisibility()) continue;
  const pair = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
  found.push([(pair[0] + 0.05) / (pair[1] + 0.05), element.tagName + "." + element.className]);
}
return found.sort((a, b) => a[0] - b[0])[0];
"""
NAMELESS = """
const named = (one) => one.getAttribute("aria-label") || one.getAttribute("alt") ||
  (one.getAttribute("aria-labelledby") && document.getElementById(one.getAttribute("aria-labelledby")).textContent);
return [...document.querySelectorAll("img, svg")]
  .filter((one) => !one.closest("[aria-hidden=true]") && !named(one) && one.getAttribute("alt") !== "")
  .map((one) => one.outerHTML.slice(0, 120));
"""
# whether a column of the leaderboard is in order, what is empty last
ORDERED = """
const [column, number, sign] = arguments;
const rows = [...document.querySelectorAll("#leaderboard-table tbody tr[data-trial]")];
const values = rows.map((row) => row.cells[column].dataset.value);
const full = values.filter((value) => value !== "");
const apart = (one, other) => (number ? Number(one) - Number(other) : one.localeCompare(other));
return values.slice(0, full.length)
  .every((value, at) => value !== "" && (!at || sign * apart(values[at - 1], value) <= 0));
"""
SHOWN = "return document.querySelectorAll('#leaderboard-table tbody tr[data-trial]:not([hidden])').length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(run: Run) -> Path:
    """The page of the run with an ensemble: it has a gallery of cells."""
    lymphtune.ensemble(run=run.path, top=2)
    return write_report(run)


@pytest.fixture
def shown(browser: Any, report: Path) -> Any:
    """The browser with the report of the run in it, wide and light."""
    emulate(browser)
    return opened(browser, report)


def opened(browser: Any, path: Path) -> Any:
    """Return the browser after it has loaded the file, its logs being of this page alone."""
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(path.as_uri())
    return browser


def emulate(browser: Any, scheme: str = "light", width: int = 1280) -> None:
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def complaints(browser: Any) -> list[str]:
    """Return what the console says: errors and what the content policy refused."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def fetched(browser: Any) -> set[str]:
    """Return all that the page has asked for since it was opened, data inside it left out."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return {url for url in urls if not url.startswith(("data:", "about:"))}


def elements(browser: Any, selector: str) -> list[Any]:
    return browser.find_elements("css selector", selector)


def test_it_fetches_nothing_and_complains_of_nothing(shown: Any, report: Path) -> None:
    for button in elements(shown, ".open")[:2]:
        button.click()
    assert fetched(shown) == {report.as_uri()} and complaints(shown) == []
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    shown.execute_cdp_cmd("Network.enable", {})
    shown.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    shown.refresh()
    assert elements(shown, "#leaderboard-table tbody tr") and complaints(shown) == []


def test_every_column_sorts_both_ways(shown: Any) -> None:
    for column, button in enumerate(elements(shown, "#leaderboard-table th button")):
        head, seen = button.find_element("xpath", ".."), set()
        number = "number" in head.get_attribute("class")
        for _ in range(2):
            button.click()
            way = head.get_attribute("aria-sort")
            assert shown.execute_script(ORDERED, column, number, 1 if way == "ascending" else -1), (column, way)
            seen.add(way)
        assert seen == {"ascending", "descending"}


def test_filters_leave_what_was_asked_for(shown: Any, run: Run, failed: Any) -> None:
    leaderboard, search = run.leaderboard, elements(shown, "#leaderboard-search")[0]
    count = elements(shown, "#leaderboard-count")[0]

    def expect(number: int) -> None:
        assert shown.execute_script(SHOWN) == number and count.text == f"{number} of {len(leaderboard)} trials"

    expect(len(leaderboard))
    search.send_keys(failed["trial"][:6])
    expect(1)
    search.send_keys(" nothing-is-called-so")
    expect(0)
    search.clear()
    search.send_keys(" ")
    expect(len(leaderboard))
    for name, column in (("status", "status"), ("kind", "sees")):
        value = failed[column]
        select = elements(shown, f"#leaderboard-{name}")[0]
        select.find_element("xpath", f"option[.='{value}']").click()
        expect(int((leaderboard[column] == value).sum()))
        select.find_element("xpath", "option[.='all']").click()


def test_a_trial_opens_by_click_and_by_key(shown: Any, run: Run) -> None:
    from selenium.webdriver.common.keys import Keys

    first = elements(shown, ".open")[0]
    first.click()
    below = elements(shown, "tr.below")
    assert len(below) == 1 and first.get_attribute("aria-expanded") == "true"
    assert "model:" in below[0].text or "clinical:" in below[0].text
    assert below[0].find_elements("css selector", "svg polyline, svg circle")
    first.send_keys(Keys.ENTER)
    assert not elements(shown, "tr.below") and first.get_attribute("aria-expanded") == "false"
    first.send_keys(Keys.ENTER)
    assert len(elements(shown, "tr.below")) == 1
    elements(shown, "#leaderboard-search")[0].send_keys("nothing-is-called-so")
    assert not elements(shown, "tr.below")[0].is_displayed()


def test_what_is_folded_opens(shown: Any) -> None:
    folded = elements(shown, "details")
    assert len(folded) >= 2  # patients of the gallery
    for details in folded:
        was = details.get_attribute("open")
        details.find_element("css selector", "summary").click()
        assert details.get_attribute("open") != was
        opened_now = details.get_attribute("open") is not None
        pictures = details.find_elements("css selector", "img")
        assert pictures and all(picture.is_displayed() == opened_now for picture in pictures)


def test_no_text_is_obeyed(browser: Any, hostile_run: tuple[Run, Path], tmp_path: Path) -> None:
    page = tmp_path / "hostile.html"
    page.write_text(hostile_page(), encoding="utf-8")
    run, data = hostile_run
    for path in (page, write_report(run, data)):
        opened(browser, path)
        elements(browser, ".open")[0].click()
        assert browser.title not in ("harmed", "1") and not elements(browser, "img[src=x]")
        assert fetched(browser) == {path.as_uri()} and complaints(browser) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(scheme: str, shown: Any) -> None:
    emulate(shown, scheme)
    dark = shown.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches")
    assert dark == (scheme == "dark")
    elements(shown, ".open")[0].click()
    lowest, where = shown.execute_script(CONTRAST)
    assert lowest >= 4.5, where


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_no_wider_than_the_window(width: int, shown: Any) -> None:
    emulate(shown, width=width)
    elements(shown, ".open")[0].click()
    wide, room = shown.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= room == width


def test_headings_are_in_order_and_pictures_have_names(shown: Any) -> None:
    elements(shown, ".open")[0].click()
    levels = [int(heading.tag_name[1]) for heading in elements(shown, "h1, h2, h3, h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert shown.execute_script(NAMELESS) == []


def test_the_keyboard_reaches_filters_and_buttons(shown: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    reached, known = set(), len(elements(shown, "a, button, input, select, summary, [tabindex]"))
    for _ in range(known):
        shown.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(shown.execute_script("return document.activeElement.id || document.activeElement.className"))
    assert {"leaderboard-search", "leaderboard-status", "leaderboard-kind", "open", "skip"} <= reached
    hidden = shown.execute_script("return document.querySelectorAll('[tabindex=\"-1\"]').length")
    assert hidden == 0


def test_it_prints(shown: Any) -> None:
    printed = base64.b64decode(shown.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert printed.startswith(b"%PDF-") and len(printed) > 10_000
