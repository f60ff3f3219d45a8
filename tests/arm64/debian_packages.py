"""Packages of a Debian release for any architecture, downloaded and unpacked into a folder, by anybody.

apt-get does it with a state of its own: the machine's packages, lists and settings are neither used nor touched, apart
from its mirror and what it says of proxies. Nothing is installed, and no script of a package runs.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

DEFAULT_MIRROR = "http://deb.debian.org/debian"
"""Plain HTTP, as Debian has it: what counts is the signature."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

PATIENCE = 300.0
"""Seconds for one call of apt-get."""

CANNOT_FETCH = ("Failed to fetch", "Unable to fetch", "Could not resolve", "Could not connect", "Unable to connect")
"""What apt-get says of a mirror, not of what it was asked for."""


class UnavailableError(Exception):
    """Debian packages cannot be had on this machine; one line says why."""


class Release:
    """One release for one architecture, as ``Release("bookworm", "arm64", folder)``; ``folder`` is for apt-get alone.

    Raises:
        UnavailableError: no apt-get, no keys of Debian, no mirror that answers.
    """

    def __init__(self, name: str, architecture: str, folder: Path, uri: str | None = None) -> None:
        for tool in ("apt-get", "apt-config", "dpkg-deb", "tar"):
            if shutil.which(tool) is None:
                raise UnavailableError(f"'{tool}' is not installed: this is no Debian machine.")
        if not KEYRING.is_file():
            raise UnavailableError(f"'{KEYRING}' is missing: apt install debian-archive-keyring.")
        self._folder = folder
        _write_settings(folder, name, architecture, uri or mirror())
        self._apt("update")

    def download(self, packages: Sequence[str]) -> list[Path]:
        """The packages and all that they depend on, as ``.deb`` files."""
        self._apt("install", "--download-only", "--no-install-recommends", *packages)
        return self._downloaded()

    def download_alone(self, package: str) -> Path:
        """One package without what it depends on."""
        archives = self._folder / "alone"
        archives.mkdir()
        self._apt("download", package, folder=archives)
        return next(archives.glob("*.deb"))

    def _downloaded(self) -> list[Path]:
        return sorted((self._folder / "cache" / "archives").glob("*.deb"))

    def _apt(self, *arguments: str, folder: Path | None = None) -> None:
        settings = {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "LC_ALL": "C",
            "APT_CONFIG": str(self._folder / "apt.conf"),
        }
        command = ["apt-get", "-q", "-y", *arguments]
        try:
            ended = subprocess.run(
                command, env=settings, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"{' '.join(command)} did not end within {PATIENCE:.0f} s.") from None
        if ended.returncode == 0:
            return
        faults = [line for line in ended.stderr.splitlines() if line.startswith(("E:", "W:"))] or [ended.stderr]
        if arguments[0] == "update" or any(words in ended.stderr for words in CANNOT_FETCH):
            raise UnavailableError(f"{' '.join(command)}: {faults[0].strip()}")
        raise RuntimeError(f"{' '.join(command)}: {' '.join(faults)}")


def mirror() -> str:
    """Where this machine gets its own Debian packages; another system's machine is sent to Debian's own mirrors."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    own = (line.strip().rstrip("/") for line in listed.splitlines())
    return next((uri for uri in own if uri.startswith("http") and uri.endswith("/debian")), DEFAULT_MIRROR)


def unpack(package: Path, folder: Path) -> None:
    """Put a package's files below ``folder``."""
    subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)


def unpack_file(package: Path, name: str, folder: Path) -> None:
    """Put one file of a package, named as ``usr/bin/x``, below ``folder``."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "-C", str(folder), f"./{name}"], stdin=archive.stdout, check=True)
        assert archive.stdout is not None
        archive.stdout.read()  # tar stops at the end mark, before the padding; dpkg-deb would complain of a closed pipe


def _write_settings(folder: Path, name: str, architecture: str, uri: str) -> None:
    for each in ("lists/partial", "cache/archives/partial", "sources"):
        (folder / each).mkdir(parents=True)
    (folder / "status").touch()  # nothing is installed: every dependency is downloaded
    (folder / "sources" / "debian.sources").write_text(
        f"Types: deb\nURIs: {uri}\nSuites: {name}\nComponents: main\nSigned-By: {KEYRING}\n"
    )
    proxies = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=False).stdout
    (folder / "apt.conf").write_text(
        # The machine's own files are not read: their hooks may clean what is not ours, their pins mean other packages.
        f"""{proxies}
        Dir::Etc::parts "/dev/null"; Dir::Etc::main "/dev/null";
        Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
        Dir::Etc::sourcelist "/dev/null"; Dir::Etc::sourceparts "{folder}/sources";
        Dir::State "{folder}"; Dir::State::status "{folder}/status"; Dir::State::lists "{folder}/lists";
        Dir::Cache "{folder}/cache";
        APT::Architecture "{architecture}"; APT::Architectures {{ "{architecture}"; }};
        APT::Sandbox::User ""; APT::Update::Error-Mode "any";
        Acquire::Languages "none"; Acquire::Retries "3"; Acquire::http::Timeout "30";
        """
    )
