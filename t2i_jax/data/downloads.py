"""Fetches a dataset's published files, once, into a folder in the publisher's layout.

TFDS (https://www.tensorflow.org/datasets) fetches them and checks them against the sizes and
checksums that it ships for its own builders. It also reads the archives, but to unpack them it
would need TensorFlow, so their members are written here.
"""

from __future__ import annotations

import logging
import pathlib
import shutil
import tempfile

import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, download_manager, resource

from t2i_jax import errors, progress
from t2i_jax.data import builder, listing

log = logging.getLogger(__name__)

_PATIENCE_S = 20


def addresses(published: listing.Published) -> dict[str, checksums.UrlInfo]:
  """The address of each file with its size, SHA-256 and name, from the installed TFDS."""
  # `url_infos` of a builder's class gives the same, but needs a package that TFDS does not install.
  root = tfds.core.tfds_path()
  own = root / "datasets" / published.builder / "checksums.tsv"
  shared = root / "url_checksums" / f"{published.builder}.txt"
  listed = checksums.load_url_infos(own if own.exists() else shared)
  # Google Drive asks for a confirmation, and to read that TFDS needs another such package.
  urls = {info.filename: url for url, info in listed.items() if "//drive.google.com/" not in url}
  return {urls[name]: listed[urls[name]] for name in published.files}


def fetch(published: listing.Published, downloads: pathlib.Path, layout: str) -> pathlib.Path:
  """The folder below `downloads` that holds the published files, with archives unpacked.

  Fetches nothing if the folder exists, and no archive that was fetched before; archives are kept.

  Raises:
    InputError: a file cannot be fetched or has another checksum. The message says that `raw_dir`
      could be given instead, and that it must hold `layout`.
  """
  folder = downloads / "extracted" / published.builder
  if folder.is_dir():
    return folder
  (tfds.enable_progress_bar if progress.is_terminal() else tfds.disable_progress_bar)()
  infos = addresses(published)
  files = {}
  with builder.quiet():
    manager = download_manager.DownloadManager(
      download_dir=downloads,
      url_infos=infos,
      dataset_name=published.builder,
      force_checksums_validation=True,
    )
    for url, info in infos.items():
      at = downloads / published.builder / resource.get_dl_fname(url, info.checksum)
      if not resource.is_locally_cached(at):
        _download(manager, url, info, at.parent, layout)
      files[info.filename] = at
  with tempfile.TemporaryDirectory(dir=folder.parent, prefix="incomplete.") as partial:
    whole = pathlib.Path(partial) / published.builder
    whole.mkdir()
    for name, file in files.items():
      log.info("unpacking %s into %s", name, folder)
      _unpack(name, file, whole)
    try:
      whole.rename(folder)
    except OSError:
      if not folder.is_dir():  # Otherwise another process was faster.
        raise
  return folder


def _download(
  manager: download_manager.DownloadManager,
  url: str,
  info: checksums.UrlInfo,
  folder: pathlib.Path,
  layout: str,
):
  log.info("downloading %s (%s) from %s into %s", info.filename, info.size, url, folder)
  before = set(folder.glob("*.tmp.*"))
  try:
    # Without a network TFDS would try eleven times, for minutes.
    with requests.get(url, stream=True, timeout=_PATIENCE_S) as answer:
      answer.raise_for_status()
    manager.download(url)
  except (OSError, tfds.download.DownloadError, download_manager.NonMatchingChecksumError) as error:
    for leftover in set(folder.glob("*.tmp.*")) - before:
      shutil.rmtree(leftover, ignore_errors=True)
    raise errors.InputError(
      f"{url}: {_reason(error)}; run again where the address can be reached, or fetch it by other "
      f"means and give `raw_dir`, the folder that holds {layout}"
    ) from error


def _reason(error: Exception) -> str:
  if isinstance(error, download_manager.NonMatchingChecksumError):
    return "not the file whose checksum TensorFlow Datasets has"
  if isinstance(error, requests.RequestException) and error.response is None:
    return f"no download ({type(error).__name__})"  # Its text is a chain of wrapped errors.
  return f"no download ({' '.join(str(error).split())})"


def _unpack(name: str, file: pathlib.Path, folder: pathlib.Path):
  """Writes an archive's members, none of them outside `folder`; or copies a file that is none."""
  method = resource.guess_extract_method(name)
  if method is tfds.download.ExtractMethod.NO_EXTRACT:
    shutil.copyfile(file, folder / name)
    return
  with file.open("rb") as archive:
    for path, member in tfds.download.iter_archive(archive, method):
      target = folder / path
      target.parent.mkdir(parents=True, exist_ok=True)
      with target.open("wb") as out:
        shutil.copyfileobj(member, out)
