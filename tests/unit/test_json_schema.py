"""The JSON Schema beside the code is what the code says."""

import json
from typing import Any

import jsonschema
import pytest

from scanbus.schemas.json_schema import SCHEMA_FILE, protocol_schema
from tests.support.descriptions import announced, bytes_lane, prepared


def test_the_schema_file_is_up_to_date() -> None:
    """If not: python -m scanbus.schemas.json_schema."""
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == protocol_schema()


def test_every_document_must_say_protocol_and_type() -> None:
    definitions = protocol_schema()["$defs"]
    documents = [
        name for name in definitions if "protocol" in required(definitions[name])
    ]
    assert sorted(documents) == [
        "ScanAnnounced",
        "ScanEnded",
        "ScanJudged",
        "ScanPrepared",
        "ScanRenumbered",
        "ScanStarted",
        "ScanUpdated",
    ]
    assert all("type" in required(definitions[name]) for name in documents)


def required(definition: dict[str, Any]) -> list[str]:
    found: list[str] = definition.get("required", [])
    return found


def test_documents_follow_the_schema_and_nonsense_does_not() -> None:
    schema = protocol_schema()

    def validate(document: Any, name: str) -> None:
        jsonschema.validate(document, {**schema, "$ref": f"#/$defs/{name}"})

    validate(json.loads(announced().to_json()), "ScanAnnounced")
    validate(json.loads(prepared(bytes_lane()).to_json()), "ScanPrepared")
    wrong: list[dict[str, Any]] = [{"protocol": 2}, {"scan": {}}, {"time": "now"}]
    for changes in wrong:
        document = {**json.loads(announced().to_json()), **changes}
        with pytest.raises(jsonschema.ValidationError):
            validate(document, "ScanAnnounced")
