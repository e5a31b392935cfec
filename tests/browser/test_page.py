"""The page in a real browser: silent, self-contained, sortable, narrow screens, dark."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dtr.config.checks import load_scale
from dtr.reporting.html import build_report
from dtr.reporting.published import results_frame
from tests.synthetic_results import write_everything, write_metrics

pytestmark = pytest.mark.browser

selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, root: Path) -> str:
    """Address of a page with measured, diverged, broken, pending and missing cells."""
    settings = yaml.safe_load((root / "workflow/config/digits.yaml").read_text(encoding="utf-8"))
    settings["results"] = str(tmp_path_factory.mktemp("results"))
    scale = load_scale(settings, source="digits.yaml")
    write_everything(scale)
    write_metrics(scale, "in256-l2-rtr", status="diverged", reason="loss is nan", metrics=[])
    write_metrics(scale, "ffhq256-b2-rtr").write_text("{", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:  # reference results change, and tests do not
        patch.setattr("dtr.records.reference.KEPT", tmp_path_factory.mktemp("kept"))
        return build_report(scale).as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator["selenium.Chrome"]:
    """A headless Chromium that logs its console and its requests."""
    if CHROMIUM is None or DRIVER is None:
        if os.environ.get("CI"):
            pytest.fail("chromium and chromedriver are required in CI")
        pytest.skip("chromium and chromedriver are not both installed")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    yield driver
    driver.quit()


def show(browser, page: str, *, width: int = 1400, dark: bool = False) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(page)


def test_console_is_silent_and_no_request_leaves_the_page(browser, page: str) -> None:
    show(browser, page)
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = {
        event["params"]["request"]["url"].split(",")[0]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert page in requested
    assert not {url for url in requested if not url.startswith(("file:", "data:"))}
    assert {url for url in requested if url.startswith("file:")} == {page}


def test_eight_tables_hold_every_published_table_value(browser, page: str) -> None:
    show(browser, page)
    texts = browser.execute_script(
        """return Object.fromEntries([...document.querySelectorAll('.paper-table')].map(
             (part) => [part.id, [...part.querySelectorAll('td .paper')].map(
               (span) => parseFloat(span.textContent.replaceAll(',', '')))]))"""
    )
    assert list(texts) == [f"table{number}" for number in range(1, 9)]
    frame = results_frame()
    frame = frame[frame["table"].str.startswith("table")]
    for table, part in frame.groupby(frame["table"].str.split("_").str[0]):
        missing = [value for value in part["value"] if value not in texts[table]]
        assert not missing, (table, missing)
    assert {6.06, 23.01, 23.02, 80.73, 3.72, 8.14} <= set(texts["table7"])


def sorted_column(browser, table: str, column: int, values: str) -> list[float]:
    return browser.execute_script(
        """const [table, column, name] = arguments;
           const rows = document.querySelectorAll(`#${table} tbody.rows-paper tr`);
           return [...rows].map((row) => row.cells[column].dataset[name])
             .filter((value) => value !== undefined).map(Number);""",
        table,
        column,
        values,
    )


@pytest.mark.parametrize(
    ("table", "column", "values"), [("table6", 2, "here"), ("table8", 1, "paper")]
)
def test_sorting_works_both_ways(browser, page: str, table: str, column: int, values: str) -> None:
    show(browser, page)
    head = browser.find_elements("css selector", f"#{table} thead tr:last-child th")[column]
    button = head.find_element("css selector", "button")
    for direction in ("ascending", "descending"):
        browser.execute_script("arguments[0].click()", button)
        assert head.get_attribute("aria-sort") == direction
        found = sorted_column(browser, table, column, values)
        assert len(found) > 1
        assert found == sorted(found, reverse=direction == "descending")
    last = browser.find_elements("css selector", "#table1 tbody:last-of-type tr")[-1]
    assert "untrained" in last.text


def test_sorting_works_with_the_keyboard(browser, page: str) -> None:
    show(browser, page)
    head = browser.find_elements("css selector", "#table8 thead tr:last-child th")[1]
    head.find_element("css selector", "button").send_keys("\n")
    assert head.get_attribute("aria-sort") == "ascending"


def test_every_picture_has_a_text(browser, page: str) -> None:
    show(browser, page)
    counts = browser.execute_script(
        """const images = [...document.images], drawings = [...document.querySelectorAll('svg')];
           return [images.length, images.filter((image) => !image.alt).length,
             images.filter((image) => !image.complete || !image.naturalWidth).length,
             drawings.length, drawings.filter((drawing) => drawing.getAttribute('role') !== 'img'
               || !drawing.getAttribute('aria-label')).length]"""
    )
    images, unnamed, undecoded, drawings, silent = counts
    assert (images, drawings) == (9, 7)  # three strips and the claims on the first screen
    assert (unnamed, undecoded, silent) == (0, 0, 0)


@pytest.mark.parametrize("width", [400, 768, 1400])
def test_the_page_never_scrolls_sideways(browser, page: str, width: int) -> None:
    show(browser, page, width=width)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
    wide = browser.execute_script(
        "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
    )
    assert wide[0] <= wide[1]
    assert browser.execute_script("return innerWidth") == width


def test_no_table_is_wider_than_its_box(browser, page: str) -> None:
    show(browser, page, width=1280)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
    widths = browser.execute_script(
        """return [...document.querySelectorAll('.paper-table .scroll, #measurements .scroll')].map(
             (box) => [box.closest('section').id, box.scrollWidth, box.clientWidth])"""
    )
    assert len(widths) == 10 + 2  # two tables of the paper stack two tiers; measured in two slots
    assert not [found for found in widths if found[1] > found[2]]


def test_dark_follows_the_system_and_keeps_contrast(browser, page: str) -> None:
    colours = {}
    for dark in (False, True):
        show(browser, page, dark=dark)
        colours[dark] = browser.execute_script(
            """const style = getComputedStyle(document.body);
               return [style.backgroundColor, style.color].map((colour) =>
                 colour.match(/[0-9.]+/g).slice(0, 3).map(Number).reduce((a, b) => a + b) / 3)"""
        )
    (light_page, light_ink), (dark_page, dark_ink) = colours[False], colours[True]
    assert light_page - light_ink > 150 and dark_ink - dark_page > 150


def test_hovering_a_measured_cell_tells_what_stands_behind_it(browser, page: str) -> None:
    show(browser, page)
    cell = browser.find_element("css selector", "#table1 td.measured")
    for word in ("fid@digits-cnn", "n = 1,000", "seed 0", "interval", "protocol n1000-"):
        assert word in cell.get_attribute("title")
