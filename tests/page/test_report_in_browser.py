"""The report's page as a browser shows it: no markup of a run comes alive, nothing is fetched, it
can be used by keyboard and on a phone, and can be read in light and dark."""

import itertools
import json
import re

import pytest
from PIL import Image

from t2i_jax.page import report, side_by_side
from tests.fixtures import browser as browser_lib
from tests.fixtures import runs as run_folders

pytestmark = pytest.mark.slow

# Every element with text of its own in a plot, as [plot, left, top, right, bottom].
_BOXES = """[...document.querySelectorAll(".plots svg")].flatMap((svg, i) =>
  [...svg.querySelectorAll("text")].map(text => {
    const box = text.getBoundingClientRect();
    return [i, box.left, box.top, box.right, box.bottom];
  }))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
  program = browser_lib.find()
  if program is None:
    pytest.skip(f"no browser: none of {', '.join(browser_lib.NAMES)} is installed")
  opened = browser_lib.Browser(program, str(tmp_path_factory.mktemp("profile")))
  yield opened
  opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  """Of two runs with everything there is to show, and markup wherever words can stand."""
  folder = tmp_path_factory.mktemp("page")
  path = folder / "report.html"
  markup = run_folders.MARKUP
  shown = {"columns": [markup, "real"], "captions": [markup], "split": markup}
  with pytest.MonkeyPatch.context() as patch:
    drawn = (Image.new("RGB", (900, 300)), shown)  # These runs have no checkpoints.
    patch.setattr(side_by_side, "draw_grid", lambda *_: drawn)
    report.write(run_folders.make_two(folder), str(path))
  return path


def _shown_step(browser):
  return browser.evaluate(
    """[...document.querySelectorAll(".strips")].map(figure =>
      [...figure.querySelectorAll("img")].filter(i => i.offsetHeight).map(i => i.dataset.step))"""
  )


def _without_policy(page):
  """A copy that may do all that a page can, so that nothing but the text itself is safe."""
  text = page.read_text(encoding="utf8")
  copy = page.with_name("open.html")
  copy.write_text(re.sub(r"<meta http-equiv=[^>]*>", "", text), encoding="utf8")
  return copy


def test_markup_is_seen_as_text_and_does_not_run(browser, page):
  browser.open(_without_policy(page))
  assert browser.evaluate("typeof window.hacked") == "undefined"
  assert browser.evaluate(f"document.body.innerText.includes({json.dumps(run_folders.MARKUP)})")
  assert browser.evaluate('document.querySelectorAll("td b, code b, script").length') == (
    # The page's own: its one script, and the scores, which are bold.
    1 + browser.evaluate('document.querySelectorAll(".scores td.number > b").length')
  )


def test_no_request_leaves_the_page_even_if_it_is_tampered_with(browser, page):
  browser.open(page)
  assert browser.requests() == []
  tampered = '<img src="http://127.0.0.1:9/x.png"><link rel="stylesheet" href="http://127.0.0.1:9/"'
  for path, is_open in ((page, False), (_without_policy(page), True)):
    copy = page.with_name("tampered.html")
    text = path.read_text(encoding="utf8").replace("<footer>", f"{tampered}><footer>")
    copy.write_text(text, encoding="utf8")
    browser.open(copy)
    # Chromium tells of a request before the policy ends it; what the policy lets through fails
    # otherwise, as nobody listens.
    reasons = {e["params"].get("blockedReason") for e in browser.events
               if e["method"] == "Network.loadingFailed"}  # fmt: skip
    assert reasons == ({None} if is_open else {"csp"})


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_the_page_is_never_wider_than_the_window(browser, page, width):
  browser.open(page, width)
  browser.evaluate('document.querySelectorAll("details").forEach(d => d.open = true)')
  assert browser.evaluate("document.documentElement.scrollWidth") <= width
  assert browser.evaluate("innerWidth") == width  # A phone would zoom out of a page that is wider.
  # What is wider than the window is in a box that scrolls, and that the keyboard can reach.
  assert (
    browser.evaluate(
      """[...document.querySelectorAll("*")].filter(e => e.scrollWidth > e.clientWidth + 1
      && ["auto", "scroll"].includes(getComputedStyle(e).overflowX) && e.tabIndex < 0).length"""
    )
    == 0
  )


def test_the_slider_is_moved_by_keyboard(browser, page):
  browser.open(page)
  assert _shown_step(browser) == [["40"], ["40"]]
  for _ in range(100):
    browser.press("Tab", 9)
    if browser.evaluate("document.activeElement.id") == "strip-0":
      break
  assert browser.evaluate("document.activeElement.labels[0].innerText") == "Step of a <i>b"
  assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
  browser.press("ArrowLeft", 37)
  assert _shown_step(browser) == [["20"], ["40"]]
  assert browser.evaluate('document.querySelector("output").innerText') == "20"
  assert browser.evaluate("document.activeElement.getAttribute('aria-valuetext')") == "step 20"
  browser.press("Home", 36)
  assert _shown_step(browser) == [["10"], ["40"]]


def test_disclosures_open_by_keyboard(browser, page):
  browser.open(page)
  browser.evaluate('document.querySelector("summary").focus()')
  assert not browser.evaluate('document.querySelector("details").open')
  browser.press("Enter", 13, "\r")
  assert browser.evaluate('document.querySelector("details").open')


def test_without_scripts_the_last_strip_shows_and_no_dead_control(browser, page):
  browser.open(page, js=False)
  assert _shown_step(browser) == [["40"], ["40"]]
  assert (
    browser.evaluate(
      '[...document.querySelectorAll("input, button")].filter(e => e.offsetHeight).length'
    )
    == 0
  )


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_lines_stand_out_from_the_paper(browser, page, dark):
  browser.open(page, dark=dark)
  paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
  assert (browser_lib.contrast(paper, "rgb(0, 0, 0)") < 2) == dark

  def colour(variable):
    return browser.evaluate(
      f"""(() => {{ const e = document.body.appendChild(document.createElement("p"));
        e.style.color = "var({variable})"; return getComputedStyle(e).color; }})()"""
    )

  for variable in ("--ink", "--ink-2", "--link", "--warn"):
    assert browser_lib.contrast(colour(variable), paper) >= 4.5, variable
  for run in range(6):
    assert browser_lib.contrast(colour(f"--run-{run}"), paper) >= 3, run
  # And the plots use them.
  stroke = browser.evaluate(
    """getComputedStyle([...document.querySelectorAll(".plots path")]
      .find(path => path.getAttribute("style").includes("--run-0"))).stroke"""
  )
  assert stroke == colour("--run-0")


@pytest.mark.parametrize("width", [360, 1280])
def test_no_text_in_a_plot_overlaps_another(browser, page, width):
  browser.open(page, width)
  boxes = browser.evaluate(_BOXES)
  assert len(boxes) > 40
  for (i, *a), (j, *b) in itertools.combinations(boxes, 2):
    apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert i != j or apart, (i, a, b)
