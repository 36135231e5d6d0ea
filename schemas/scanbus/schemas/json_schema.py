"""The documents as JSON Schema, for publishers in other languages.

``python -m scanbus.schemas.json_schema`` regenerates the file beside this module; a
test compares it with the models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from scanbus.schemas.documents import (
    PROTOCOL,
    ScanAnnounced,
    ScanEnded,
    ScanJudged,
    ScanPrepared,
    ScanRenumbered,
    ScanStarted,
    ScanUpdated,
)

__all__ = ["SCHEMA_FILE", "protocol_schema"]

SCHEMA_FILE = Path(__file__).with_name(f"protocol-{PROTOCOL}.schema.json")

_DOCUMENTS = (
    ScanAnnounced,
    ScanPrepared,
    ScanRenumbered,
    ScanStarted,
    ScanUpdated,
    ScanEnded,
    ScanJudged,
)


def protocol_schema() -> dict[str, Any]:
    """Return one schema with a definition for every document."""
    _, schema = models_json_schema(
        [(document, "validation") for document in _DOCUMENTS],
        title=f"scanbus protocol {PROTOCOL}",
    )
    for document in _DOCUMENTS:
        definition = schema["$defs"][document.__name__]
        # Python has defaults for these two; on the bus they are required.
        definition["required"] = ["protocol", "type", *definition["required"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _write() -> None:
    text = json.dumps(protocol_schema(), indent=2, sort_keys=True) + "\n"
    SCHEMA_FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _write()
