"""The option that names the device, the same for every command that logs what it measures."""

from __future__ import annotations

import click

from edge_apps.runtime.identity import LONGEST_NAME, check_name


def _checked(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001
    return None if value is None else check_name(value)


device_name_option = click.option(
    "--device-name",
    metavar="NAME",
    callback=_checked,
    help=f"Name of this device in logs, exports, plots and on the live page, up to {LONGEST_NAME} characters. Devices "
    "are told apart by a stored id, so a new name does not make a new device. [default: the host name]",
)
