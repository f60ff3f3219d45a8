"""Reports of a gate that refused its input or broke: one ``<error>`` for a dashboard, one line for a summary page.

It imports nothing of the workbench: a gate also breaks because that is not installed.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(reason: str) -> bytes:
    """A test suite whose one case is an error: no dashboard takes it for passed."""
    suite = ET.Element("testsuite", name="pipeline gate", tests="1", failures="0", errors="1", skipped="0")
    case = ET.SubElement(suite, "testcase", classname="gate.gate", name="the whole gate")
    ET.SubElement(case, "error", message=clean(reason), type="refused")
    return document(suite)


def markdown(reason: str) -> bytes:
    """A heading and the reason."""
    return f"## ❌ The gate did not run\n\n{cell(reason)}\n".encode()


def document(suite: ET.Element) -> bytes:
    """A test suite as a file in UTF-8."""
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root, " ")
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def clean(text: str) -> str:
    """Replace the characters that XML 1.0 cannot hold."""
    return _NOT_IN_XML.sub("�", text)


def cell(text: str) -> str:
    """A text as one line that breaks no Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
