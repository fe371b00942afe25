"""Draw the pictures that the documentation shows.

    python docs/make_images.py [cells] [report [--run FOLDER]]

report: the top of a report as a browser shows it, of the run in FOLDER, or of a made-up one; it needs chromium and
chromedriver (`make browser`).
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT = 1280, 900  # pixels of the window
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    f"--window-size={WIDTH},{HEIGHT}",
)


def cells() -> None:
    """Draw cells of the simulated cohort, one row a type."""
    from lymphtune.cohort.simulation.patients import contact_sheet

    contact_sheet(IMAGES / "simulated-cells.png")


def report(run: Path | None) -> None:
    """Photograph the top of a run's report, written anew in a copy of its folder."""
    from lymphtune.reporting.report import write_report
    from lymphtune.runs.run import Run

    with tempfile.TemporaryDirectory() as scratch:
        if run is None:
            sys.path.insert(0, str(ROOT))
            from benchmarks.report import made_up_run

            shown = made_up_run(Path(scratch), trials=24, patients=64, epochs=12, repeats=2, space="mixed", cells=5)
        else:
            shown = Run(Path(shutil.copytree(run, Path(scratch) / run.name)))
        photograph(write_report(shown), IMAGES / "report.png")


def photograph(page: Path, to: Path) -> None:
    """Write what a window of the browser shows of the page."""
    from selenium import webdriver

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        sys.exit("no chromium or chromedriver on the PATH: make browser")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
        try:
            size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            browser.get(page.as_uri())
            browser.save_screenshot(str(to))
        finally:
            browser.quit()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", choices=["cells", "report"], default=["cells", "report"])
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="run whose report is shown (a made-up one)")
    given = parser.parse_args()
    if "cells" in given.images:
        cells()
    if "report" in given.images:
        report(given.run)
