"""Every compression and layout of a corpus gives the same words; dumps are read as by gensim."""

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys

import pytest

from t2i_jax import errors
from t2i_jax.text import captions
from t2i_jax.text import corpus as corpus_lib

TEXT = """<doc id="1" url="http://x" title="Rose">
Rose

A 5-petaled rose isn\u2019t RED; it has 20 thorns.
It\u0327 e\u0301tait_une fleur.
</doc>
"""
SENTENCES = [
  ["rose"],
  ["a", "5-petaled", "rose", "isn't", "red", "it", "has", "20", "thorns"],
  ["i\u0163", "\u00e9tait", "une", "fleur"],
]


def _read(path):
  return list(corpus_lib.Corpus(path=str(path)).sentences())


def test_words_are_those_of_captions_and_marks_are_skipped(tmp_path):
  (tmp_path / "t.txt").write_text(TEXT, encoding="utf8")
  assert _read(tmp_path / "t.txt") == SENTENCES
  lines = [line for line in TEXT.splitlines() if not line.startswith("<")]
  assert _read(tmp_path / "t.txt") == [c for line in lines if (c := captions.clean(line))]


@pytest.mark.parametrize(
  "pack",
  [
    bz2.compress,
    lzma.compress,
    gzip.compress,
    lambda b: bz2.compress(b[:40]) + bz2.compress(b[40:]),
  ],
)
def test_packings_are_told_from_the_content(tmp_path, pack):
  (tmp_path / "t").write_bytes(pack(TEXT.encode()))
  assert _read(tmp_path / "t") == SENTENCES


def test_a_folder_is_read_in_the_order_of_its_paths_without_hidden_files(tmp_path):
  for name, text in (("b/1", "three"), ("a/2.txt", "two"), ("a/1", "one"), ("c.txt", "four")):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
  (tmp_path / ".hidden").mkdir()
  for name in (".notes", ".hidden/x", "a/.swp"):
    (tmp_path / name).write_text("nothing")
  assert _read(tmp_path) == [["one"], ["two"], ["three"], ["four"]]


@pytest.mark.parametrize("at_once", [1, 5, 12, 1000])
def test_a_line_without_an_end_is_cut_between_words(tmp_path, monkeypatch, at_once):
  monkeypatch.setattr(corpus_lib, "_AT_ONCE", at_once)
  text = "one three eleven seventeen " * 9 + "last"
  (tmp_path / "t").write_text(text)
  sentences = _read(tmp_path / "t")
  # A piece that is shorter than a word cannot be cut between words.
  if at_once >= 10:
    assert [word for words in sentences for word in words] == text.split()
    assert at_once < len(text) or len(sentences) == 1
  else:
    assert "".join("".join(words) for words in sentences) == text.replace(" ", "")


def test_a_sentence_that_gensim_would_cut_off_comes_in_pieces(tmp_path, monkeypatch):
  monkeypatch.setattr(corpus_lib, "LONGEST", 3)
  (tmp_path / "t").write_text("a b c d e f g\nh i j\n")
  assert _read(tmp_path / "t") == [list("abc"), list("def"), list("g"), list("hij")]


def _page(number, title, text, namespace=0):
  return (
    f"  <page>\n    <title>{title}</title>\n    <ns>{namespace}</ns>\n    <id>{number}</id>\n"
    f'    <revision>\n      <id>1</id>\n      <text xml:space="preserve">{text}</text>\n'
    "    </revision>\n  </page>\n"
  )


def _dump():
  prose = (
    "The '''rose''' is a [[plant|woody perennial]] of 1,200 {{cite|x}} kinds &lt;b&gt; na\u00efve "
  )
  pages = [_page(1, "Nothing", "#REDIRECT [[Rose]]"), _page(2, "File:Rose", prose * 20)]
  pages += [_page(i, f"Rose {i}", f"number{'x' * i} " + prose * (3 * i)) for i in range(3, 9)]
  pages += [_page(20, "Rose talk", prose * 20, namespace=1), _page(21, "Stub", prose)]
  head = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10">\n'
    "  <siteinfo>\n    <sitename>W</sitename>\n  </siteinfo>\n"
  )
  return (head + "".join(pages) + "</mediawiki>\n").encode()


_WIKICORPUS = """
import json, sys
from gensim.corpora import wikicorpus
texts = wikicorpus.WikiCorpus(sys.argv[1], processes=1, dictionary={}).get_texts()
print(json.dumps(list(texts)))
"""


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
  """(A dump, what gensim's WikiCorpus reads in it.) It forks, and so has a process of its own."""
  path = tmp_path_factory.mktemp("dump") / "dump.xml.bz2"
  path.write_bytes(bz2.compress(_dump()))
  words = [sys.executable, "-c", _WIKICORPUS, str(path)]
  return path, json.loads(subprocess.run(words, check=True, capture_output=True).stdout)


@pytest.mark.parametrize("at_once", [64, 3000, 1 << 20])
def test_a_dump_is_read_as_gensims_wikicorpus_reads_it(dump, monkeypatch, at_once):
  monkeypatch.setattr(corpus_lib, "_AT_ONCE", at_once)
  path, theirs = dump
  assert 4 <= len(theirs) <= 6  # some articles count and others do not
  assert _read(path) == theirs


@pytest.mark.parametrize("endless", ["in a page", "before the first page"])
def test_a_dump_whose_page_has_no_end_is_refused_before_all_of_it_is_in_memory(
  tmp_path, monkeypatch, endless
):
  monkeypatch.setattr(corpus_lib, "_AT_ONCE", 1000)
  monkeypatch.setattr(corpus_lib, "_LONGEST_PAGE", 5000)
  begin = _dump()[: -len("</mediawiki>\n")] if endless == "in a page" else b"<mediawiki>"
  more = b"<page>" if endless == "in a page" else b""

  class Endless(io.BytesIO):
    def read(self, size=-1):
      return super().read(size) or b"a" * size

  with pytest.raises(ValueError, match="has over 0 MB"):
    for piece in corpus_lib._pieces(Endless(begin + more)):
      assert len(piece) < 20_000


def test_several_processes_read_in_order_and_few_pieces_wait(tmp_path, monkeypatch):
  monkeypatch.setattr(corpus_lib, "_AT_ONCE", 1000)
  path = tmp_path / "dump.xml"
  pages = b"".join(_page(i, f"Rose {i}", f"w{'x' * i} " * 300).encode() for i in range(1, 15))
  path.write_bytes(_dump().replace(b"</mediawiki>", pages + b"</mediawiki>"))
  expected = _read(path)
  assert len(expected) > 14
  pulled, most = 0, 0
  cut = corpus_lib._pieces

  def pieces(file):
    nonlocal pulled
    for piece in cut(file):
      pulled += 1
      yield piece

  monkeypatch.setattr(corpus_lib, "_pieces", pieces)
  sentences = []
  for words in corpus_lib.Corpus(path=str(path), workers=2).sentences():
    sentences.append(words)
    most = max(most, pulled - len(sentences))
  assert sentences == expected
  # Besides those at work and waiting, pieces without an article have been pulled.
  assert pulled > 14 and most <= 2 * corpus_lib._AHEAD + pulled - len(expected)


@pytest.mark.parametrize(
  "content",
  [
    bz2.compress(TEXT.encode() * 50)[:-20],
    lzma.compress(TEXT.encode() * 50)[:-20],
    gzip.compress(TEXT.encode() * 50)[:-9],
    gzip.compress(TEXT.encode() * 50)[:40] + b"damaged here" * 9,
    "\u00e9t\u00e9 caf\u00e9".encode("latin1"),
    _dump()[:-800],
    _dump().replace(b"</ns>", b"</na>"),
  ],
)
def test_what_cannot_be_read_is_one_error_that_names_the_file(tmp_path, content):
  (tmp_path / "broken").write_bytes(content)
  with pytest.raises(errors.InputError, match=r"`corpus=.*broken`: cut off"):
    _read(tmp_path / "broken")


def test_a_corpus_that_is_not_there_is_named(tmp_path):
  with pytest.raises(errors.InputError, match=r"absent`: there is no such file"):
    corpus_lib.Corpus(path=str(tmp_path / "absent"))
  with pytest.raises(errors.InputError, match="holds no files"):
    corpus_lib.Corpus(path=str(tmp_path))
