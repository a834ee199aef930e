"""Files that a dataset's publisher serves, fetched once -> a folder in the publisher's layout.

TFDS fetches them (https://www.tensorflow.org/datasets) and holds them against the sizes and
checksums that it ships for its own builders. Its extractor writes by TensorFlow's file system,
which is not installed here: archives are read by TFDS and written from here.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import shutil
import tempfile
import types

import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, download_manager, resource

from t2i_jax import errors
from t2i_jax.data import builders

log = logging.getLogger(__name__)

_PATIENCE_S = 20


@dataclasses.dataclass(frozen=True)
class Published:
  """Files of the TFDS builder of that name, as its list of checksums calls them."""

  builder: str
  files: tuple[str, ...]


def raw_folders(
  dataset: types.ModuleType,
  raw_dir: str | os.PathLike | None,
  downloads: pathlib.Path,
  progress: bool = True,
) -> tuple[pathlib.Path, dict[str, pathlib.Path]]:
  """The raw folder of a dataset and, as `images_dir`, where its images are fetched to if the folder
  holds captions alone. Without raw_dir it is all fetched.

  dataset: the module with its LAYOUT and, where TFDS fetches of it, PUBLISHED.

  Raises:
    InputError: there is no such folder; there are no captions; or as `fetch`.
  """
  if not raw_dir:
    return fetch(dataset.PUBLISHED, downloads, dataset.LAYOUT, progress), {}
  raw_dir = pathlib.Path(raw_dir).expanduser()
  if not raw_dir.is_dir():
    raise errors.InputError(f"--raw_dir={raw_dir}: no such folder; expected {dataset.LAYOUT}")
  holds_captions_alone = getattr(dataset, "holds_captions_alone", lambda _: False)
  if not holds_captions_alone(raw_dir):
    return raw_dir, {}
  return raw_dir, {"images_dir": fetch(dataset.PUBLISHED, downloads, dataset.LAYOUT, progress)}


def addresses(published: Published) -> dict[str, checksums.UrlInfo]:
  """The address of each file with its size, SHA-256 and name, from the installed TFDS."""
  # `url_infos` of a builder's class would be the same, but needs importlib_resources, which TFDS
  # does not install.
  root = tfds.core.tfds_path()
  own = root / "datasets" / published.builder / "checksums.tsv"
  shared = root / "url_checksums" / f"{published.builder}.txt"
  listed = checksums.load_url_infos(own if own.exists() else shared)
  # Google Drive asks back on a page that TFDS reads by bs4, which it does not install either.
  urls = {info.filename: url for url, info in listed.items() if "//drive.google.com/" not in url}
  return {urls[name]: listed[urls[name]] for name in published.files}


def fetch(
  published: Published, downloads: pathlib.Path, layout: str, progress: bool = True
) -> pathlib.Path:
  """The folder below `downloads` that holds the published files, archives unpacked.

  Nothing is fetched when the folder is there, and no file that is there already. Archives stay.

  Raises:
    InputError: a file cannot be fetched or has another checksum; `layout` is what --raw_dir would
      have to hold.
  """
  folder = downloads / "extracted" / published.builder
  if folder.is_dir():
    return folder
  (tfds.enable_progress_bar if progress else tfds.disable_progress_bar)()
  infos = addresses(published)
  files = {}
  with builders.quiet():
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
      if not folder.is_dir():  # Else another process was faster.
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
    # TFDS knocks eleven times, for minutes, where there is no network.
    with requests.get(url, stream=True, timeout=_PATIENCE_S) as answer:
      answer.raise_for_status()
    manager.download(url)
  except (OSError, tfds.download.DownloadError, download_manager.NonMatchingChecksumError) as error:
    for leftover in set(folder.glob("*.tmp.*")) - before:
      shutil.rmtree(leftover, ignore_errors=True)
    raise errors.InputError(
      f"{url}: {_reason(error)}; run again where the address can be reached, or fetch it by other "
      f"means and give --raw_dir, the folder that holds {layout}"
    ) from error


def _reason(error: Exception) -> str:
  if isinstance(error, download_manager.NonMatchingChecksumError):
    return "not the file whose checksum TensorFlow Datasets has"
  if isinstance(error, requests.RequestException) and error.response is None:
    return f"no download ({type(error).__name__})"  # Its text is a stack of wrapped errors.
  return f"no download ({' '.join(str(error).split())})"


def _unpack(name: str, file: pathlib.Path, folder: pathlib.Path):
  """An archive's members, none of them outside the folder, or the file itself under its name."""
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
