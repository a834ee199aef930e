"""The server: what it answers, what it refuses and with which words, and that nothing stops it."""

import base64
import dataclasses
import html
import io
import json
import pathlib
import re
import threading
import time

import numpy as np
import pytest
from PIL import Image
from starlette import testclient

import t2i_jax
from t2i_jax import errors
from t2i_jax.demo import drawing as drawing_lib
from t2i_jax.demo import limits, page, server

FOLDER = pathlib.Path(t2i_jax.__file__).parent / "demo"
MARKUP = '<b>red</b> & "pink"<script>window.hacked = 1</script>'
HOME = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def client(drawing):
  guard = server.application(page.Pages(drawing), limits.Worker())
  return testclient.TestClient(guard, HOME, raise_server_exceptions=False)


def _images(found):
  data = [image and image.removeprefix("data:image/png;base64,") for image in found["images"]]
  return [x and np.asarray(Image.open(io.BytesIO(base64.b64decode(x)))) for x in data]


def test_a_drawing_in_json(client, drawing):
  found = client.get("/api/draw", params={"caption": "A zebra with red", "noise": 3}).json()
  assert [*found] == ["words", "images", "unknown", "cut", "noise", "step"]
  assert found["words"] == ["a", "zebra", "with", "red"]
  assert found["noise"] == 3 and found["step"] == drawing.step and found["cut"] == ""
  assert [entry["word"] for entry in found["unknown"]] == ["zebra"]
  first, none, *rest = _images(found)
  assert none is None
  expected = drawing.draw(drawing.vocabulary.read("a with red"), 3, drawing.step).images
  np.testing.assert_array_equal([first, *rest], expected)


@pytest.mark.parametrize("caption", ["", "🌸", "zebra quagga", "!" * 10_000, "zz " * 3_000])
def test_a_caption_without_a_known_word_has_no_image_and_is_no_error(client, caption):
  answer = client.get("/api/draw", params={"caption": caption})
  assert answer.status_code == 200 and not any(answer.json()["images"])
  assert ("first" in answer.json()["cut"]) == (len(caption) > 300)
  told = client.get("/", params={"caption": caption})
  assert told.status_code == 200
  if caption:
    assert "None of these words is known" in told.text
    answer = client.get("/strip.png", params={"caption": caption})
    assert answer.status_code == 404 and "no word" in answer.text


def test_a_known_word_behind_too_many_unknown_ones_is_not_called_unknown(
  client, drawing, monkeypatch
):
  monkeypatch.setattr(drawing.vocabulary, "_oov", "mean")
  most = drawing.vocabulary._max_words
  told = client.get("/", params={"caption": "zebra " * most + "red"}).text
  assert f"None of its first {most} words is known" in told


@pytest.mark.parametrize(
  ("query", "status", "told"),
  [
    ("", 400, "No caption"),
    ("caption=red&noise=x", 400, "noise is a whole number"),
    ("caption=red&noise=-1", 400, "noise is a whole number"),
    ("caption=red&noise=1e5", 400, "noise is a whole number"),
    ("caption=red&noise=" + "9" * 5000, 400, "noise is a whole number"),
    ("caption=red&noise=%D9%A3", 400, "noise is a whole number"),  # an Arabic 3
    ("caption=red&step=../10", 400, "step is a whole number"),
    ("caption=red&step=11", 404, "no checkpoint of step 11; there are 10"),
    ("caption=red&show=..", 400, "noises, between"),
    ("caption=%ff%fe", 400, "not UTF-8"),
    ("caption=%ed%a0%80", 400, "not UTF-8"),
    ("caption=red&caption=blue", 400, "twice"),
    ("&".join(f"a{i}=1" for i in range(40)), 400, "16 parameters"),
  ],
)
def test_what_is_wrong_is_told_in_a_sentence(client, query, status, told):
  for path in ("/api/draw", "/strip.png", "/"):
    if path != "/api/draw" and told == "No caption":
      continue
    if path == "/" and told.startswith("no checkpoint"):  # It shows the newest, as tested below.
      continue
    answer = client.get(f"{path}?{query}")
    assert answer.status_code == status
    sentence = answer.json()["error"] if path == "/api/draw" else answer.text
    assert told in sentence and sentence.endswith((".", "flower")) and "Traceback" not in sentence


@pytest.mark.parametrize("path", ["/api/draw", "/picture.png", "/words.gif"])
def test_a_parameter_that_is_not_known_is_refused_but_for_the_page(client, path):
  answer = client.get(f"{path}?caption=red&stepp=10")
  assert answer.status_code == 400
  assert "There is no parameter 'stepp'; there are caption, noise, step, show, to." in answer.text
  assert client.get("/?caption=red&source=mail").status_code == 200


@pytest.mark.parametrize(
  "path",
  [
    *("/../setup.cfg", "/%2e%2e/%2e%2e/etc/passwd", "/page.js/../drawing.py", "/api", "/x%ff"),
    "/strip.png/?caption=red",  # A redirect would name this server, not a proxy in front.
  ],
)
def test_only_the_routes_lead_somewhere(client, path):
  answer = client.get(path)
  assert answer.history == [] and answer.status_code == 404 and answer.text == "Nothing is here."
  assert client.get("/api/" + path).json() == {"error": "Nothing is here."}


def test_every_answer_has_the_headers_that_keep_it_to_itself(client):
  for path in ("/", "/page.js", "/page.css", "/api/draw", "/words.gif?caption=red", "/nowhere"):
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert not [name for name in headers if name.startswith("access-control")]
  # And the page has nothing that the policy would hold back.
  text = client.get("/", params={"caption": "red"}).text
  assert not re.search(r"<style|<script(?! src=\"/page.js\" defer></script>)|\son\w+=|style=", text)


def test_markup_in_captions_is_text(client):
  query = {"caption": MARKUP + " red", "to": MARKUP, "show": "between"}
  text = client.get("/", params=query).text
  assert "<b>red" not in text and "<script>" not in text
  assert html.escape(MARKUP).replace("&quot;", "&#34;") in text


def test_nothing_names_another_host(client):
  sources = {path.name: path.read_text("utf8") for path in FOLDER.iterdir() if path.is_file()}
  sources = {name: sources[name] for name in ("page.html.jinja", "page.js", "page.css")}
  sources["page"] = client.get("/", params={"caption": "red", "show": "noises"}).text
  for name, text in sources.items():
    found = re.findall(r"\w+://|//\w|url\(|@import", re.sub(r"base64,[\w+/=]+", "", text))
    assert found == [], name


@pytest.mark.parametrize(
  ("headers", "status"),
  [
    ({"host": "evil.example"}, 421),
    ({"host": "evil.example:8000"}, 421),
    ({"host": "127.0.0.1.evil.example"}, 421),
    ({"host": "localhost:8000@evil.example"}, 421),
    ({"host": ""}, 421),
    ({"host": "192.168.0.7:8000"}, 421),
    ({"host": "localhost:1234"}, 200),
    ({"host": "[::1]:8000"}, 200),
    ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
    ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
    ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 200),
    ({"content-length": "5"}, 413),
    ({"transfer-encoding": "chunked"}, 413),
  ],
)
def test_requests_of_other_sites_and_with_bodies_are_refused(client, headers, status):
  assert client.get("/page.css", headers=headers).status_code == status


def test_open_to_others_the_server_is_known_by_addresses_but_not_by_names_of_others():
  for name in ("192.168.0.7:8000", "[fe80::1]:80", "localhost"):
    assert limits.is_own(name, "0.0.0.0"), name
  assert not limits.is_own("evil.example", "0.0.0.0") and not limits.is_own("evil.example", "::")
  assert limits.is_own("gpu7:8000", "gpu7") and not limits.is_own("192.168.0.7", "gpu7")
  assert [limits.is_loopback(host) for host in ("127.0.0.2", "::1", "localhost")] == [True] * 3
  assert [limits.is_loopback(host) for host in ("0.0.0.0", "::", "gpu7", "10.0.0.1")] == [False] * 4


@pytest.mark.parametrize(
  ("host", "works"),
  [("127.0.0.1", "127.0.0.1:8000"), ("0.0.0.0", "192.0.2.7:8000"), ("gpu7", "gpu7:8000")],
)
def test_a_name_that_is_not_known_is_told_what_works(drawing, host, works):
  guard = server.application(page.Pages(drawing), limits.Worker(), host)
  client = testclient.TestClient(guard, HOME)
  told = client.get("/page.css", headers={"host": "ws.lab.example:8000"})
  assert told.status_code == 421
  assert ("its IP address" in told.text) == (host == "0.0.0.0")
  assert ("Use 127.0.0.1, or what --host names" in told.text) == (host != "0.0.0.0")
  for name in (works, "127.0.0.1"):
    assert client.get("/page.css", headers={"host": name}).status_code == 200


def test_a_server_in_front_set_up_as_documented_is_answered(client):
  text = (FOLDER.parents[1] / "docs" / "demo.md").read_text("utf8")
  sent = re.findall(r"^[^`\n]*(?:proxy_set_header|header_up) Host ([^;\s]+)", text, re.MULTILINE)
  told = client.get("/", headers={"host": "flowers.example"})
  sent += re.findall(r"send Host: ([\w.:]+)\.", told.text)
  assert told.status_code == 421 and len(sent) == 3
  for host in sent:
    assert client.get("/page.css", headers={"host": host}).status_code == 200
  assert not re.search(r"give [^.]*`--host`", text)  # That would leave it open without a password.


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_get_only(client, method):
  answer = client.request(method, "/")
  assert answer.status_code == 405 and answer.headers["allow"] == "GET"


def test_beyond_the_queue_requests_are_told_to_come_again(drawing):
  worker, go, busy = limits.Worker(waiting=2), threading.Event(), threading.Event()
  worker.ask(lambda: busy.set() or go.wait(20))
  assert busy.wait(20)
  waiting = [worker.ask(lambda: None) for _ in range(2)]
  guard = server.application(page.Pages(drawing), worker)
  client = testclient.TestClient(guard, HOME)
  answer = client.get("/api/draw?caption=red")
  assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
  assert answer.json()["error"].endswith(".")
  assert client.get("/page.css").status_code == 200  # What needs no drawing is still answered.
  go.set()
  for one in waiting:
    one.result(20)
  assert client.get("/api/draw?caption=red").status_code == 200
  assert guard.requests == 3


def test_a_bug_is_told_without_its_traceback_and_the_next_request_is_answered(
  client, drawing, monkeypatch, caplog
):
  def fail(*_):
    raise ZeroDivisionError("secret")

  monkeypatch.setattr(drawing, "draw", fail)
  answer = client.get("/api/draw?caption=red")
  assert answer.status_code == 500 and "secret" not in answer.text and answer.json()["error"]
  monkeypatch.undo()
  assert client.get("/api/draw?caption=red").status_code == 200


def test_a_checkpoint_that_cannot_be_read_is_told_without_a_path(client, drawing, monkeypatch):
  def fail(*_):
    raise errors.Failed("/home/someone/run: no checkpoint can be read")

  monkeypatch.setattr(drawing, "draw", fail)
  answer = client.get("/api/draw?caption=red")
  assert answer.status_code == 404 and "can no longer be read" in answer.json()["error"]


def test_pictures_as_files(client, drawing):
  query = {"caption": "a red Flower", "noise": 2}
  drawn = drawing.draw(drawing.vocabulary.read("a red flower"), 2, drawing.step)
  answers = {path: client.get(path, params=query)
             for path in ("/picture.png", "/strip.png", "/words.gif")}  # fmt: skip
  for path, answer in answers.items():
    ending = path.rpartition(".")[2]
    assert answer.headers["content-type"] == f"image/{ending}"
    named = f'attachment; filename="a-red-flower.{ending}"'
    assert answer.headers["content-disposition"] == named
  shown = {path: Image.open(io.BytesIO(answer.content)) for path, answer in answers.items()}
  np.testing.assert_array_equal(np.asarray(shown["/picture.png"]), drawn.images[-1])
  assert shown["/strip.png"].width > 3 * 64 and shown["/words.gif"].n_frames == 3


def _attributes(text, pattern):
  return [html.unescape(found) for found in re.findall(pattern, text)]


def test_without_a_script_the_form_draws(client, drawing):
  """Each control of the form by its name, as a browser sends it."""
  text = client.get("/").text
  assert drawing.example in html.unescape(text)
  assert len(_attributes(text, r'alt="(after “[^"]*)"')) == 1 + len(drawing.example.split())
  names = set(_attributes(text, r'<(?:input|button|select)[^>]* name="(\w+)"'))
  assert names == {"caption", "noise", "another", "step", "show", "to"}
  form = {"caption": "red petals", "noise": "4", "step": "10", "to": "a blue flower"}
  text = client.get("/", params=form).text
  assert _attributes(text, r'alt="(after[^"]*)"') == [
    "after “petals”, the whole caption", "after “red”", "after “petals”"
  ]  # fmt: skip
  assert 'value="red petals"' in text and 'value="4"' in text
  text = client.get("/", params={**form, "another": "1"}).text
  assert 'value="5"' in text and "noise 5" in text
  text = client.get("/", params={**form, "show": "noises"}).text
  assert re.findall(r"> noise (\d+)</a>", text) == ["0", "1", "2", "3", "4", "5"]
  text = client.get("/", params={**form, "show": "between"}).text
  assert _attributes(text, r'alt="(\d+) % of')[:1] == ["0"] and text.count("of the way") == 9
  # The link brings the same pictures back.
  link = _attributes(text, r'id="link" href="([^"]*)"')[0]
  pictures = re.compile(r'src="data:([^"]*)"')
  again = pictures.findall(client.get(link).text)
  assert again == pictures.findall(client.get("/", params=form).text) and len(again) == 3


def test_words_that_are_not_drawn_are_marked_in_their_place(client, drawing):
  text = client.get("/", params={"caption": "a zebra red"}).text
  found = re.findall(r'<li( class="left-out")?><span>(\w+)</span>\s*<(img src="[^"]*"|i)', text)
  assert [(bool(mark), word) for mark, word, _ in found] == [
    (False, "a"), (True, "zebra"), (False, "red")
  ]  # fmt: skip
  answer = client.get("/api/draw?caption=a+zebra+red").json()
  assert [what.partition('"')[2].rstrip('"') or None for _, _, what in found] == answer["images"]


def test_known_words_are_offered_as_links(client, drawing):
  text = client.get("/", params={"caption": "a flowr with re", "noise": "1"}).text
  links = _attributes(text, r'class="go" href="([^"]*)"')
  assert any(link.startswith("/?caption=a+flower+with+re&noise=1") for link in links)
  assert "Not known: flowr, re" in text
  assert client.get(links[0]).status_code == 200


def test_a_run_with_several_checkpoints_has_a_list_of_them(client, drawing, monkeypatch):
  assert "<select" not in client.get("/").text
  monkeypatch.setattr(drawing, "steps", (5, 10))
  text = client.get("/", params={"step": "10"}).text
  assert re.findall(r'<option value="(\d+)"( selected)?', text) == [("5", ""), ("10", " selected")]


def _keep_only(monkeypatch, drawing, *steps):
  """The run has these checkpoints, all with the one model, which is all that can be read."""
  run, read = drawing._run, []

  def open_run(config, given, step):
    if step not in steps:
      raise errors.InputError(f"`checkpoint={step}`: the run has {steps}")
    read.append(step)
    return dataclasses.replace(run, step=step)

  monkeypatch.setattr(drawing_lib.sampling, "open_run", open_run)
  monkeypatch.setattr(drawing_lib.checkpoints, "steps_in", lambda workdir: list(steps))
  monkeypatch.setattr(drawing, "cache", drawing_lib.Cache())
  for name, value in (
    ("step", drawing.step), ("steps", drawing.steps), ("_run", run), ("_looked", -1000.0)
  ):  # fmt: skip
    monkeypatch.setattr(drawing, name, value)  # restored at the end
  return read


@pytest.mark.parametrize("is_listed", [False, True])
def test_the_page_of_a_step_that_is_gone_is_that_of_the_newest_and_says_so(
  client, drawing, monkeypatch, is_listed
):
  read = _keep_only(monkeypatch, drawing, 20, 30)
  if is_listed:  # It was there a moment ago.
    monkeypatch.setattr(drawing, "steps", (5, 20))
    monkeypatch.setattr(drawing, "_looked", time.monotonic())
  for show in ("", "noises", "between"):
    form = {"caption": "a red flower", "noise": "77", "step": "5", "to": "blue", "show": show}
    answer = client.get("/", params=form)
    assert answer.status_code == 200
    told = _attributes(answer.text, r'(?s)id="said" role="status">(.*?)</p>')[0]
    assert told.startswith("There is no checkpoint of step 5") and "newest, of step 30" in told
    options = re.findall(r'<option value="(\d+)"( selected)?', answer.text)
    assert options == [("20", ""), ("30", " selected")]
    assert set(_attributes(answer.text, r'href="[^"]*step=(\d+)')) == {"30"}
  assert read[0] == 30
  # A step that is there is drawn by, without a word about it.
  answer = client.get("/", params={**form, "step": "20"})
  assert "no checkpoint" not in answer.text and '"20" selected' in answer.text


@pytest.mark.parametrize("path", ["/api/draw", "/strip.png", "/"])
def test_new_checkpoints_are_found_whatever_is_asked_for(client, drawing, monkeypatch, path):
  _keep_only(monkeypatch, drawing, 20, 30)
  assert client.get(path, params={"caption": "red", "step": "20"}).status_code == 200
  # And none is looked for twice in ten seconds.
  monkeypatch.setattr(drawing_lib.checkpoints, "steps_in", lambda workdir: 1 / 0)
  assert client.get(path, params={"caption": "red", "step": "30"}).status_code == 200
  if path == "/api/draw":
    answer = client.get(path, params={"caption": "red", "step": "10"})
    assert answer.status_code == 404 and "there are 20, 30." in answer.json()["error"]
    assert client.get(path, params={"caption": "red"}).json()["step"] == 30


def test_json_is_what_the_documentation_shows():
  text = (FOLDER.parents[1] / "docs" / "demo.md").read_text("utf8")
  shown = json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
  assert [*shown] == ["words", "images", "unknown", "cut", "noise", "step"]
