"""The table of addresses as OSCQuery describes it, for hosts that build their controls out of it.

Source: github.com/Vidvox/OSCQueryProposal. Makes the answers to its GET requests; serving them is HTTP's business. Our
addresses are verbs, so they have types and ranges but no VALUE.
"""

from __future__ import annotations

from typing import Any, Final

from impact_plugin.daemon.osc.table import ADDRESSES, Address, Argument

_CONTAINER: Final = 0
#: Attributes of the proposal, and whether nodes here have them.
EXTENSIONS: Final = {
    "ACCESS": True,
    "DESCRIPTION": True,
    "RANGE": True,
    "TYPE": True,
    "VALUE": False,
    "CLIPMODE": False,
    "CRITICAL": False,
    "EXTENDED_TYPE": False,
    "LISTEN": False,
    "PATH_CHANGED": False,
    "TAGS": False,
    "UNIT": False,
}


def answer(path: str, attribute: str = "", *, host: str, port: int) -> tuple[int, dict[str, Any] | None]:
    """The answer to `GET path?attribute`.

    Args:
        path: `/`, `/impact`, `/impact/generate` ...; attribute: "" for the whole node, or `HOST_INFO`, `TYPE` ...
        host, port: where OSC is listened for.

    Returns:
        HTTP status (200; 204 = the node has no such attribute; 400 = there is none of that name; 404 = no such node)
        and JSON.
    """
    if attribute == "HOST_INFO":
        return 200, host_info(host, port)
    node = _find(path)
    if node is None:
        return 404, None
    if not attribute:
        return 200, node
    if attribute in node:
        return 200, {attribute: node[attribute]}
    return (204 if attribute in EXTENSIONS or attribute in ("CONTENTS", "FULL_PATH") else 400), None


def host_info(host: str, port: int) -> dict[str, Any]:
    """Where and how to send."""
    return {
        "NAME": "impact-plugin",
        "OSC_IP": host,
        "OSC_PORT": port,
        "OSC_TRANSPORT": "UDP",
        "EXTENSIONS": dict(EXTENSIONS),
    }


def tree() -> dict[str, Any]:
    """All nodes."""
    root = _container("/")
    for entry in ADDRESSES.values():
        *folders, name = entry.path.strip("/").split("/")
        node = root
        for depth, folder in enumerate(folders):
            path = "/" + "/".join(folders[: depth + 1])
            node = node["CONTENTS"].setdefault(folder, _container(path))
        node["CONTENTS"][name] = _node(entry)
    return root


def _find(path: str) -> dict[str, Any] | None:
    node = tree()
    for part in path.strip("/").split("/"):
        if part:
            node = node.get("CONTENTS", {}).get(part)
            if node is None:
                return None
    return node


def _container(path: str) -> dict[str, Any]:
    return {"FULL_PATH": path, "ACCESS": _CONTAINER, "CONTENTS": {}}


def _node(entry: Address) -> dict[str, Any]:
    node: dict[str, Any] = {
        "FULL_PATH": entry.path,
        "ACCESS": entry.access,
        "DESCRIPTION": f"{entry.usage}: {entry.text}",
    }
    if entry.arguments:
        node["TYPE"] = "".join(argument.tag for argument in entry.arguments)
        node["RANGE"] = [_range(argument) for argument in entry.arguments]
    return node


def _range(argument: Argument) -> dict[str, Any] | None:
    if argument.kind == "flag":
        return {"VALS": [0, 1]}
    if argument.low is None or argument.high is None:
        return None
    whole = argument.kind == "whole"
    return {
        "MIN": int(argument.low) if whole else argument.low,
        "MAX": int(argument.high) if whole else argument.high,
    }
