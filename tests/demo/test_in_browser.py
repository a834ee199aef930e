"""The page as a browser shows it: it draws while one types, by keyboard alone, on a phone, in light
and dark, asks no other host, and takes captions for text."""

import re
import time

import pytest

from t2i_jax.demo import drawing as drawing_lib
from tests.demo import test_running
from tests.fixtures import browser as browser_lib

pytestmark = pytest.mark.slow

TAB, ENTER, RIGHT = ("Tab", 9), ("Enter", 13, "\r"), ("ArrowRight", 39)
_SAID = 'document.getElementById("said").textContent'
_ALTS = '[...document.querySelectorAll("#strip img")].map(image => image.alt)'


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
  program = browser_lib.find()
  if program is None:
    pytest.skip(f"no browser: none of {', '.join(browser_lib.NAMES)} is installed")
  opened = browser_lib.Browser(program, str(tmp_path_factory.mktemp("profile")))
  yield opened
  opened.close()


@pytest.fixture(scope="module")
def home(drawing):
  with test_running.running(drawing) as port:
    yield f"http://127.0.0.1:{port}"


def _wait_for(browser, expression, seconds=30):
  end = time.monotonic() + seconds
  while not browser.evaluate(expression):
    assert time.monotonic() < end, expression
    time.sleep(0.02)


def _type(browser, text):
  for letter in text:
    browser("Input.insertText", text=letter)


def _tab_to(browser, wanted):
  for _ in range(60):
    browser.press(*TAB)
    if browser.evaluate(f"document.activeElement.matches({wanted!r})"):
      return
  raise AssertionError(f"{wanted} cannot be reached by Tab")


def test_each_word_that_is_typed_gets_a_picture(browser, home, drawing):
  browser.open(home)
  example = drawing.example.split()
  assert browser.evaluate(_ALTS) == [f"after “{word}”" for word in example]
  _tab_to(browser, "#caption")
  assert browser.evaluate("document.activeElement.labels[0].innerText") == "Caption"
  assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
  _type(browser, "a red ")
  _wait_for(browser, f'{_ALTS}.join() === "after “a”,after “red”"')
  browser.evaluate('window.kept = document.querySelector("#strip img"); undefined')
  _type(browser, "flower zebra")
  _wait_for(browser, f"{_ALTS}.length === 3 && !document.querySelector('[aria-busy]')")
  assert browser.evaluate('document.querySelector("#newest img").alt').startswith("after “flower”")
  said = browser.evaluate('document.querySelector("[role=status]").innerText')
  assert "3 words drawn" in said and "Not known: zebra" in said
  assert browser.evaluate("document.activeElement.id") == "caption"
  assert browser.evaluate("document.contains(window.kept)")  # Pictures that are the same stay.
  # The address brings it back.
  _wait_for(browser, "location.href.includes('zebra')")
  address = browser.evaluate("location.href")
  assert re.search(r"caption=a\+red\+flower\+zebra&noise=0&step=10$", address)
  shown = browser.evaluate('document.querySelector("#newest img").src')
  browser.open(address)
  assert browser.evaluate('document.querySelector("#newest img").src') == shown
  assert browser.evaluate('document.getElementById("caption").value') == "a red flower zebra"


def test_everything_is_done_by_keyboard(browser, home):
  browser.open(f"{home}/?caption=a+red+flowr&to=a+blue+flower")
  first = browser.evaluate('document.querySelector("#newest img").src')
  _tab_to(browser, "[name=another]")
  browser.press(*ENTER)
  _wait_for(browser, 'document.getElementById("said").textContent.includes("noise 1")')
  assert browser.evaluate('document.querySelector("#newest img").src') != first
  _tab_to(browser, "#unknown a")
  browser.press(*ENTER)
  _wait_for(browser, f"{_ALTS}.length === 3")
  assert browser.evaluate("document.activeElement.id") == "caption"
  _tab_to(browser, "[value=noises]")
  browser.press(*ENTER)
  _wait_for(browser, 'document.querySelectorAll("#noises img").length === 6')
  _tab_to(browser, "#noises li:nth-child(4) a")
  browser.press(*ENTER)
  _wait_for(browser, 'document.querySelector("#noises [aria-current]").text.includes("noise 3")')
  assert browser.evaluate('document.getElementById("noise").value') == "3"
  assert browser.evaluate("document.activeElement.textContent.trim()") == "noise 3"
  _tab_to(browser, "[value=between]")
  browser.press(*ENTER)
  _wait_for(browser, 'document.querySelectorAll("#between li").length === 9', 120)
  _tab_to(browser, "#share")
  before = browser.evaluate('document.querySelector(".slider img").src')
  browser.press(*RIGHT)
  after = browser.evaluate('document.querySelector(".slider img").src')
  assert after != before
  assert browser.evaluate("document.activeElement.getAttribute('aria-valuetext')").startswith("62")


def test_every_control_and_picture_has_a_name(browser, home):
  browser.open(f"{home}/?caption=a+red+flower&to=blue&show=between")
  nameless = browser.evaluate(
    """[...document.querySelectorAll("input:not([type=hidden]), select, button, a, img")]
      .filter(e => !(e.alt || e.textContent.trim() || (e.labels && e.labels.length)))
      .map(e => e.outerHTML)"""
  )
  assert nameless == []
  assert browser.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("js", [True, False])
@pytest.mark.parametrize("show", ["noises", "between"])
@pytest.mark.parametrize("width", [320, 768, 1280])
def test_the_page_is_never_wider_than_the_window(browser, home, width, show, js):
  words = "a+red+flower+" + "w" * 200
  browser.open(f"{home}/?caption={words}&to=blue&show={show}", width, js=js)
  assert browser.evaluate("document.documentElement.scrollWidth") <= width
  assert browser.evaluate("innerWidth") == width  # A phone would zoom out of a page that is wider.


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_controls_stand_out_from_the_paper(browser, home, dark):
  browser.open(f"{home}/?caption=a+red+zebra", dark=dark)

  def style(element, name):
    return browser.evaluate(f'getComputedStyle(document.querySelector("{element}")).{name}')

  paper = style("body", "backgroundColor")
  assert (browser_lib.contrast(paper, "rgb(0, 0, 0)") < 2) == dark
  texts = ["h1", ".quiet", "label", "#said", "a", "[name=another]", "figcaption", ".left-out span"]
  for element in texts:
    assert browser_lib.contrast(style(element, "color"), paper) >= 4.5, element
  assert browser_lib.contrast(style("#caption", "borderTopColor"), paper) >= 3


def test_only_this_server_is_asked_and_captions_do_not_come_alive(browser, home):
  markup = "%3Cimg%20src%3Dx%20onerror%3D%22window.hacked%3D1%22%3E%20red"
  browser.open(f"{home}/?caption={markup}&to={markup}&show=between")
  _tab_to(browser, "#caption")
  _type(browser, " <script>window.hacked = 1</script> red")
  _wait_for(browser, "location.href.includes('script')")
  assert browser.evaluate("typeof window.hacked") == "undefined"
  asked = browser.requests()
  assert asked and all(url.startswith(home) for url in asked)
  assert not [e for e in browser.events if e["method"] == "Network.loadingFailed"
              and e["params"].get("blockedReason")]  # fmt: skip


def test_the_field_of_steps_goes_with_the_run_that_is_trained(browser, home, drawing, monkeypatch):
  monkeypatch.setattr(drawing_lib.sampling, "open_run", lambda *given: drawing_run)
  drawing_run = drawing._run
  step = 'document.querySelector("[name=step]").value'
  options = '[...document.querySelectorAll("#step option")].map(o => o.value).join()'
  monkeypatch.setattr(drawing, "step", 10)
  monkeypatch.setattr(drawing, "steps", (5, 10))
  browser.open(f"{home}/?caption=a+red&step=5")
  assert browser.evaluate(options) == "5,10"
  # No other step: the field keeps the focus.
  _tab_to(browser, "#step")
  browser.evaluate('document.getElementById("step").dataset.kept = 1')
  browser.press(*RIGHT)
  _wait_for(browser, "location.href.endsWith('step=10')")
  assert browser.evaluate("document.activeElement.dataset.kept") == "1"
  # 5 and 10 are removed, as by a training that goes on.
  monkeypatch.setattr(drawing_lib.checkpoints, "steps_in", lambda workdir: [20, 30])
  monkeypatch.setattr(drawing, "_looked", -1000.0)
  browser.evaluate('document.getElementById("caption").select()')
  browser("Input.insertText", text="a blue flower")
  _wait_for(browser, f"{step} === '30'")
  assert browser.evaluate(options) == "20,30"
  said = browser.evaluate('document.getElementById("said").textContent')
  assert "no checkpoint of step 10" in said and "words drawn" in said
  assert browser.evaluate("document.activeElement.id") == "caption"
  # What the address holds can be loaded again.
  _wait_for(browser, "location.href.includes('blue')")
  address = browser.evaluate("location.href")
  assert address.endswith("step=30")
  browser.open(address.replace("step=30", "step=5"))
  assert browser.evaluate(step) == "30" and len(browser.evaluate(_ALTS)) == 3


def test_a_server_that_is_gone_is_said(browser, drawing):
  with test_running.running(drawing) as port:
    browser.open(f"http://127.0.0.1:{port}/?caption=red")
  browser.evaluate('document.getElementById("caption").focus()')
  _type(browser, " petals")
  _wait_for(browser, f'{_SAID}.includes("does not answer")')
  assert "does not answer" in browser.evaluate(_SAID)


# A word inside another is another word; apostrophes are plain or typographic.
@pytest.mark.parametrize(
  ("loaded", "typed", "link", "caption", "noise", "to"),
  [
    ("a yelow", ["a yelow flower"], "#unknown a", "a yellow flower", "4", "Blue"),
    ("a yelow", ["Yelow-red YELOW (yelow)!"], "#unknown a", "Yelow-red yellow (yellow)!", "4",
     "Blue"),
    ("a yelow\u2019s", ["a Yelow\u2019s"], "#unknown a", "a yellow", "4", "Blue"),
    ("a yelow", ["red"], "#unknown a", "red", "4", "Blue"),
    ("a red flower&to=blu", ["A Red,", "Blu!"], "#to-unknown a", "A Red,", "4", "blue!"),
    ("a red flower", ["A Red, flower!"], "#noises [href*='=2&']", "A Red, flower!", "2", "Blue"),
  ],
)  # fmt: skip
def test_a_link_changes_what_it_is_about_and_nothing_else(
  browser, home, loaded, typed, link, caption, noise, to
):
  """With what was typed since the page came, to which the server does not answer any more."""
  show = "between" if "to=" in loaded else "noises"
  browser.open(f"{home}/?caption={loaded}&noise=4&show={show}")
  browser.evaluate("window.fetch = () => new Promise(() => {})")
  for field, text in zip(("caption", "to"), [*typed, "Blue"]):
    browser.evaluate(f"document.getElementById({field!r}).value = {text!r}")
  browser.evaluate(f"document.querySelector({link!r}).click()")
  for name, value in (("caption", caption), ("noise", noise), ("to", to)):
    assert browser.evaluate(f"document.getElementById({name!r}).value") == value


def test_after_the_last_noise_comes_the_first(browser, home):
  browser.open(f"{home}/?caption=red&noise=999999999")
  browser.evaluate('document.querySelector("[name=another]").click()')
  _wait_for(browser, f'{_SAID}.includes("noise 0.")')
  assert browser.evaluate('document.getElementById("noise").value') == "0"


# Answers to what is asked from here on, as a proxy in front may give them; waits of 80 ms (a key)
# and more are written down and are over at once, but for the pause, which is held.
_ANSWERS = """
  window.waits = [];
  window.addresses = [];
  const later = window.setTimeout.bind(window);
  window.setTimeout = (done, wait, ...given) => {
    waits.push(wait);
    if (wait === PAUSE) window.paused = () => done(...given);
    else return later(done, 0, ...given);
  };
  history.replaceState = (state, title, address) => {
    addresses.push(address);
    throw Error("100 calls");
  };
"""


@pytest.mark.parametrize(
  ("answer", "said"),
  [
    ('"<html><h1>Bad", {status: 502, headers: {"content-type": "text/html"}}', "status 502"),
    ('"<html><h1>Log in", {headers: {"content-type": "text/html"}}', "status 200"),
    ('"Too long.", {status: 400, headers: {"content-type": "text/plain; charset=utf-8"}}',
     "Too long."),
  ],
)  # fmt: skip
def test_refusals_wait_a_second_at_least_and_no_markup_is_shown(browser, home, answer, said):
  browser.open(f"{home}/?caption=red")
  browser.evaluate(_ANSWERS)
  waits = '{}, {"Retry-After": "soon"}, {"Retry-After": "0"}, {"Retry-After": "2"}'
  refused = f'[{waits}].map(headers => new Response("", {{status: 429, headers}}))'
  browser.evaluate(f"const answers = [...{refused}, new Response({answer})]")
  browser.evaluate("window.fetch = async () => answers.shift()")
  browser.evaluate('document.getElementById("caption").select()')
  _type(browser, "b")
  _wait_for(browser, f"{_SAID}.includes({said!r})")
  assert browser.evaluate("waits.join()") == "80,1000,1000,1000,2000"
  assert "<" not in browser.evaluate(_SAID)
  assert browser.evaluate("!document.querySelector('[aria-busy]')")


def test_a_bug_in_drawing_is_not_told_as_a_server_that_is_gone(browser, home):
  browser.open(f"{home}/?caption=red")
  browser.evaluate("window.renewSteps = () => { throw Error('a bug'); }")
  browser.evaluate('document.getElementById("caption").select()')
  _type(browser, "blue")
  _wait_for(browser, f"{_ALTS}.join() === 'after “blue”' && !document.querySelector('[aria-busy]')")
  assert "does not answer" not in browser.evaluate(_SAID)


def test_the_address_is_set_when_typing_pauses_whatever_is_typed(browser, home):
  """A browser that refuses it (Safari: over 100 in 30 s) is no reason to stop."""
  browser.open(f"{home}/?caption=red&show=noises")
  browser.evaluate(_ANSWERS)
  browser.evaluate('document.getElementById("caption").select()')
  for word, known in (("blue", "after “blue”"), ("zzz", "")):
    for letter in word:
      _type(browser, letter)
    _wait_for(browser, f"{_ALTS}.join() === {known!r} && !document.querySelector('[aria-busy]')")
    assert browser.evaluate("addresses.length") == (word == "zzz")
    browser.evaluate("paused()")
    assert browser.evaluate("addresses.at(-1)").startswith(f"/?caption={word}&")
    busy = "document.querySelector('#noises img')?.alt"
    _wait_for(browser, f"({busy} ?? '') === {known!r}")
    _wait_for(browser, "!document.querySelector('[aria-busy]')")
    browser.evaluate('document.getElementById("caption").select()')
