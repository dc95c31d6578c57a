"""The page in a real browser: it draws, sorts, fits a phone, prints, and asks for nothing."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blis_sim.report.html.source import page_of
from tests.report.studies import HOSTILE, make_plan, make_sweep, plan_answer

pytest.importorskip("jinja2")
pytest.importorskip("plotly")
webdriver = pytest.importorskip("selenium.webdriver")

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OWN = ("file:", "data:", "blob:")
_DESK, _PHONE = 1280, 360


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with an empty profile of its own."""
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Chromium and chromedriver, which are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    profile = tmp_path_factory.mktemp("profile")
    for flag in (
        *_FLAGS,
        f"--user-data-dir={profile}",
        f"--window-size={_DESK},900",
        "about:blank",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(driver)
    try:
        started = webdriver.Chrome(options=options, service=service)
    except Exception as error:  # whatever keeps a browser from starting here
        service.stop()
        pytest.skip(f"Chromium does not start: {str(error).splitlines()[0]}")
    try:
        yield started
    finally:
        started.quit()


def hostile_answer() -> dict[str, Any]:
    """Return the answer of a plan with a name that would be a program."""
    answer = plan_answer(sentence=HOSTILE)
    answer["candidates"][0] |= {"gpu": HOSTILE, "settings": {HOSTILE: HOSTILE}}
    return answer


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of pages on this disk."""
    from blis_sim.report.html.render import write_page

    folder = tmp_path_factory.mktemp("pages")
    studies = {
        "sweep": make_sweep(),
        "hostile": make_plan(name=HOSTILE, answer=hostile_answer()),
    }
    addresses = {}
    for name, study in studies.items():
        path = Path(folder, f"{name}.html")
        write_page(page_of(study, HOSTILE), path)
        addresses[name] = path.as_uri()
    return addresses


def opened(browser: Any, address: str, width: int = _DESK) -> Any:
    """Load a page in a window of some width and wait for its drawings."""
    browser.get_log("performance")
    browser.get_log("browser")
    is_phone = width == _PHONE
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": is_phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(address)
    browser.set_script_timeout(20)
    browser.execute_async_script(
        "const done = arguments[0], wanted = document.querySelectorAll('.drawing').length;"
        "const look = () => document.querySelectorAll('.drawing .main-svg').length >= wanted"
        " ? done() : setTimeout(look, 20); look();"
    )
    return browser


def run(browser: Any, script: str) -> Any:
    """Return what a script finds."""
    return browser.execute_script(script)


@pytest.mark.parametrize("name", ["sweep", "hostile"])
def test_a_page_loads_without_errors_and_without_the_network(
    name: str, browser: Any, pages: dict[str, str]
) -> None:
    """Nothing on the console, nothing asked for, the answer is seen, every chart has lines."""
    opened(browser, pages[name])
    assert browser.get_log("browser") == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    addresses = [
        each["params"]["request"]["url"]
        for each in asked
        # The page that the browser begins with loads much of its own.
        if each["method"] == "Network.requestWillBeSent"
        and each["params"]["documentURL"] == pages[name]
    ]
    assert pages[name] in addresses
    assert [address for address in addresses if not address.startswith(_OWN)] == []
    assert run(browser, "return document.getElementById('answer').getClientRects().length") == 1
    counts = run(
        browser,
        "return Array.from(document.querySelectorAll('.drawing'), each => each.data.length)",
    )
    assert len(counts) == 4
    assert min(counts) >= 1
    if name == "hostile":
        assert run(browser, "return document.querySelectorAll('script').length") == 3
        for where in ("h1", "td:nth-child(2)", ".legend", "#chart-cost .annotation-text"):
            found = run(browser, f"return document.querySelector({where!r}).textContent")
            assert HOSTILE[:20] in found


def column(browser: Any, number: int) -> list[str]:
    """Return a column of the first table."""
    cells: list[str] = run(
        browser,
        "return Array.from(document.querySelector('table').tBodies[0].rows,"
        f" row => row.cells[{number}].textContent)",
    )
    return cells


def test_a_page_answers_to_the_reader(browser: Any, pages: dict[str, str]) -> None:
    """Tables sort, choices and legends change the drawing."""
    opened(browser, pages["sweep"])
    _tables_sort(browser)
    _drawings_change(browser)


def _tables_sort(browser: Any) -> None:
    """By numbers as numbers, by click and by key, up and down; the header says which."""
    buttons = browser.find_elements("css selector", "table th button")[:5]
    before = column(browser, 3)
    assert before != sorted(before, key=lambda text: float(text.replace(",", "")))
    buttons[3].click()
    values = [float(text.replace(",", "")) for text in column(browser, 3)]
    assert values == sorted(values)
    buttons[3].send_keys("\n")
    values = [float(text.replace(",", "")) for text in column(browser, 3)]
    assert values == sorted(values, reverse=True)
    states = (
        "return Array.from(document.querySelectorAll('table:first-of-type th'), th => th.ariaSort)"
    )
    assert run(browser, states)[:4] == ["none", "none", "none", "descending"]
    buttons[0].click()
    assert column(browser, 0) == ["A100-80"] * 4 + ["H100"] * 4 + ["L40S"] * 4
    assert run(browser, states)[:4] == ["ascending", "none", "none", "none"]


def _drawings_change(browser: Any) -> None:
    """Another latency, and a line less."""
    title = "return document.querySelector('#chart-latency .drawing').layout.yaxis.title.text"
    assert run(browser, title) == "p99 TTFT (ms)"
    run(
        browser,
        "const choice = document.querySelector('#chart-latency select'); choice.value = 1;"
        "choice.dispatchEvent(new Event('change'))",
    )
    assert run(browser, title) == "mean TPOT (ms)"
    button = browser.find_element("css selector", "#chart-latency .legend button")
    button.click()
    visible = "return document.querySelector('#chart-latency .drawing').data[0].visible"
    assert run(browser, visible) is False
    assert button.get_attribute("aria-pressed") == "false"


@pytest.mark.parametrize("name", ["sweep", "hostile"])
def test_a_phone_needs_no_sideways_scrolling(
    name: str, browser: Any, pages: dict[str, str]
) -> None:
    """Tables scroll inside their boxes, drawings fit."""
    opened(browser, pages[name], _PHONE)
    run(browser, "document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert (
        run(browser, "return [document.documentElement.scrollWidth, innerWidth]") == [_PHONE] * 2
    )
    drawings = "document.querySelectorAll('.drawing svg.main-svg')"
    widths = run(browser, f"return Array.from({drawings}, each => each.clientWidth)")
    assert max(widths) <= _PHONE


def test_dark_screens_and_white_paper(browser: Any, pages: dict[str, str]) -> None:
    """Page and drawings follow the system; what is printed has a width and colours of its own."""
    dark_theme = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark_theme)
    opened(browser, pages["sweep"])
    _is_coloured(browser, "rgb(20, 24, 29)", "#e6e9ed")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    _is_coloured(browser, "rgb(255, 255, 255)", "#1c2430")
    _prints(browser)


def _is_coloured(browser: Any, paper: str, ink: str) -> None:
    assert run(browser, "return getComputedStyle(document.body).backgroundColor") == paper
    found = "return document.querySelector('.drawing')._fullLayout.font.color"
    assert run(browser, found) == ink


def _prints(browser: Any) -> None:
    """Drawings have the width of the paper, details are open, and closed again afterwards."""
    states = "return Array.from(document.querySelectorAll('details'), each => each.open)"
    run(
        browser,
        "addEventListener('beforeprint', () => { window.seen = ["
        "Array.from(document.querySelectorAll('details'), each => each.open),"
        "Array.from(document.querySelectorAll('svg.main-svg'), svg => svg.getAttribute('viewBox'))"
        "]; })",
    )
    pdf = base64.b64decode(browser.print_page())
    assert pdf.startswith(b"%PDF")
    opened_then, boxes = run(browser, "return window.seen")
    assert opened_then == [True, True]
    assert {box.split()[2] for box in boxes} == {"720"}
    assert run(browser, states) == [False, False]
