"""A corpus of text: a file or a folder of files -> sentences, each a list of words.

Files are text or Wikipedia dumps, plain or compressed (.bz2, .xz, .gz); their content tells which.
They are read piece by piece, so that memory does not grow with the corpus. Reading S1 of the
thesis.
"""

from __future__ import annotations

import bz2
import collections
import concurrent.futures
import dataclasses
import functools
import gzip
import io
import lzma
import multiprocessing
import os
import pathlib
import signal
import zlib
from collections.abc import Iterable, Iterator
from xml.etree import ElementTree

from gensim.corpora import wikicorpus

from t2i_jax import errors, near, progress
from t2i_jax.text import captions

LONGEST = 10_000  # words; gensim ignores the rest of a longer sentence

_OPENERS = ((b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open), (b"\x1f\x8b", gzip.open))
# ValueError: also what gensim says of a dump of an unknown namespace.
_BROKEN = (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, ElementTree.ParseError)
_DUMP, _PAGE, _PAGE_END, _DUMP_END = b"<mediawiki", b"<page>", b"</page>", b"</mediawiki>"
_ARTICLES = ("0",)  # namespace of articles in a dump
_AT_ONCE = 1 << 18  # read at once: characters of a line, bytes of a dump
_LONGEST_PAGE = 64 << 20  # bytes; Wikipedia's own limit is 2 MB of text
_AHEAD = 2  # pieces of a dump per worker that are being read or waiting
_BAR_EVERY = 1000  # sentences between two updates of the progress bar


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
  """The text of the file `path`, or of the files below that folder.

  Text: a sentence is a line. `captions.clean` makes its words, so that a caption's words find their
  vectors. Lines that begin or end a `<doc>` are marks of an extraction tool and are skipped.

  A Wikipedia dump: a sentence is an article, as in gensim's WikiCorpus: no redirects, only pages of
  the articles' namespace, at least 50 words. gensim's tokeniser makes its words, which differ from
  those of text: it drops words of one letter (such as "a") or more than 15, digits, and what
  follows an underscore at the beginning of a word, and it splits "5-petaled" and "it's". `workers`
  processes read it, in the order of the file; a single worker is this process.

  Sentences of more than `LONGEST` words are split.

  Raises InputError if there is no such file.
  """

  path: str
  workers: int = 1

  def __post_init__(self):
    if not self.files:
      what = "the folder holds no files" if os.path.isdir(self.path) else "there is no such file"
      raise errors.InputError(
        f"`corpus={self.path}`: {what}; give a Wikipedia dump (.xml.bz2), a text file (plain, .xz, "
        f".bz2 or .gz) or a folder of them{near.path(self.path)}"
      )

  @functools.cached_property
  def files(self) -> tuple[tuple[pathlib.Path, int], ...]:
    """Path and size in bytes of each file, sorted by path, without hidden ones."""
    path = pathlib.Path(self.path).expanduser()
    below = [file.relative_to(path).parts for file in path.rglob("*")] if path.is_dir() else [()]
    shown = (parts for parts in sorted(below) if not any(part.startswith(".") for part in parts))
    found = (path.joinpath(*parts) for parts in shown)
    return tuple((file, file.stat().st_size) for file in found if file.is_file())

  def sentences(self, label: str = "corpus") -> Iterator[list[str]]:
    """The sentences, the same each time; label: of the progress bar. Raises InputError for files
    that are cut off, damaged or not in UTF-8."""
    total, before = sum(size for _, size in self.files), 0
    with progress.bar(label, total, "B", unit_scale=True) as bar:
      for path, size in self.files:
        try:
          with open(path, "rb") as packed:
            for i, words in enumerate(_sentences(packed, self.workers)):
              if i % _BAR_EVERY == 0:
                bar.update(before + packed.tell() - bar.n)
              yield words
        except _BROKEN as error:
          raise errors.InputError(
            f"`corpus={path}`: cut off, damaged, or neither UTF-8 text nor a dump ({error}); get "
            "it again, or convert it to UTF-8"
          ) from None
        before += size
        bar.update(before - bar.n)


def _sentences(packed: io.BufferedIOBase, workers: int) -> Iterator[list[str]]:
  """The sentences of one file, none of them empty or too long."""
  begin = packed.read(max(len(magic) for magic, _ in _OPENERS))
  packed.seek(0)
  opener = next((opener for magic, opener in _OPENERS if begin.startswith(magic)), None)
  file = opener(packed, "rb") if opener else packed
  if _DUMP in file.peek(len(_DUMP))[:1024]:
    texts = (text.split() for text in _articles(_pieces(file), workers))
  else:
    texts = map(captions.clean, _lines(io.TextIOWrapper(file, encoding="utf8")))
  for words in texts:
    for start in range(0, len(words), LONGEST):
      yield words[start : start + LONGEST]


def _lines(file: io.TextIOBase) -> Iterator[str]:
  """The lines except marks. A very long one, as in text8, is cut between words."""
  left = ""
  while piece := file.readline(_AT_ONCE):
    line, left = left + piece, ""
    if len(piece) == _AT_ONCE and not piece.endswith("\n"):
      whole, _, rest = line.rpartition(" ")
      line, left = (whole, rest) if whole else (line, "")
    if not line.startswith(("<doc ", "</doc>")):
      yield line
  yield left


def _pieces(file: io.BufferedIOBase) -> Iterator[bytes]:
  """Cuts a dump into small dumps, each with the head of `file` and some of its pages.

  Pieces can be read by several processes. Also, gensim's reader keeps an empty element for every
  page that it has read, too much for a dump of twenty million pages.
  """
  head = buffer = b""
  while chunk := file.read(_AT_ONCE):
    buffer += chunk
    if not head:
      head, page, rest = buffer.partition(_PAGE)
      buffer = page + rest
      if not page:
        head, buffer = b"", head
    end = buffer.rfind(_PAGE_END) + len(_PAGE_END) if head else 0
    if end >= len(_PAGE_END):
      yield head + buffer[:end] + _DUMP_END
      buffer = buffer[end:]
    if len(buffer) > _LONGEST_PAGE:
      raise ValueError(f"a page, or what is before the first, has over {_LONGEST_PAGE >> 20} MB")
  if _PAGE in buffer:
    raise EOFError("it ends within a page")


def _articles(pieces: Iterable[bytes], workers: int) -> Iterator[str]:
  """The articles' words, joined by spaces, in the order of the dump."""
  if workers == 1:
    for piece in pieces:
      yield from _read_piece(piece)
    return
  # Not forked from this process, in which other threads are training.
  methods = multiprocessing.get_all_start_methods()
  context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
  context.set_forkserver_preload([__name__])  # otherwise each process of each pass imports gensim
  with concurrent.futures.ProcessPoolExecutor(
    workers, context, initializer=_leave_interrupts
  ) as pool:
    waiting = collections.deque()
    for piece in pieces:
      waiting.append(pool.submit(_read_piece, piece))
      if len(waiting) > _AHEAD * workers:
        yield from waiting.popleft().result()
    for done in waiting:
      yield from done.result()


def _leave_interrupts():
  """Leaves Ctrl-C to the process that started this one."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read_piece(piece: bytes) -> list[str]:
  """The articles that gensim's WikiCorpus finds in these pages."""
  articles = []
  for title, text, page in wikicorpus.extract_pages(io.BytesIO(piece), _ARTICLES):
    if text and not title.startswith(tuple(f"{n}:" for n in wikicorpus.IGNORED_NAMESPACES)):
      words, _, _ = wikicorpus.process_article((text, title, page))
      if len(words) >= wikicorpus.ARTICLE_MIN_WORDS:
        articles.append(" ".join(words))
  return articles
