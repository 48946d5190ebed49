"""As much of W&B's server as its client asks for in order to download an artifact."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import wandb

from tests.servers import running
from tests.wandb_server_base import WandbHandler, WandbServer

DATE = "2026-01-01T00:00:00Z"


def md5_of(content: bytes) -> str:
    """As W&B writes it."""
    return base64.b64encode(hashlib.md5(content).digest()).decode()


class ArtifactServer(WandbServer):
    """Gives one artifact, `e/p/NAME:latest`, with these files by their names in it."""

    def __init__(self, name: str, kind: str, files: Mapping[str, bytes]):
        super().__init__(Handler)
        self.name = name
        self.kind = kind
        self.files = files

    def manifest(self) -> bytes:
        contents = {
            name: {"digest": md5_of(content), "size": len(content), "birthArtifactID": "a"}
            for name, content in self.files.items()
        }
        layout = {"storageLayout": "V2"}
        return json.dumps(
            {
                "version": 1,
                "storagePolicy": "wandb-storage-policy-v1",
                "storagePolicyConfig": layout,
                "contents": contents,
            }
        ).encode()

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """To a GraphQL query of the client."""
        project = {"id": "p", "internalId": "1", "name": "p", "entity": {"name": "e"}}
        collection = {"__typename": "ArtifactSequence", "name": self.name, "project": project}
        if "ArtifactMembershipByName" in query:
            known = variables["name"] == f"{self.name}:latest"
            artifact = {
                "__typename": "Artifact",
                "id": "a",
                "artifactSequence": collection,
                "versionIndex": 0,
                "artifactType": {"name": self.kind},
                "description": None,
                "metadata": "{}",
                "ttlDurationSeconds": -2,
                "ttlIsInherited": True,
                "tags": [],
                "historyStep": None,
                "state": "COMMITTED",
                "size": sum(map(len, self.files.values())),
                "digest": "d",
                "commitHash": "c",
                "fileCount": len(self.files),
                "createdAt": DATE,
                "updatedAt": DATE,
                "aliases": [],
            }
            membership = {
                "__typename": "ArtifactCollectionMembership",
                "id": "m",
                "versionIndex": 0,
                "createdAt": DATE,
                "aliases": [{"__typename": "ArtifactAlias", "id": "l", "alias": "latest"}],
                "artifactCollection": collection,
                "artifact": artifact,
            }
            return {"project": {"artifactCollectionMembership": membership if known else None}}
        if "currentManifest" in query:
            manifest = {"file": {"directUrl": f"{self.address}/manifest"}}
            return {"artifact": {"currentManifest": manifest}}
        if "artifactMembership(" in query:
            nodes = [
                {"__typename": "File", "name": name, "directUrl": f"{self.address}/file/{name}"}
                for name in self.files
            ]
            page = {"endCursor": None, "hasNextPage": False}
            files = {"pageInfo": page, "edges": [{"node": node} for node in nodes]}
            found = {"__typename": "ArtifactSequence", "artifactMembership": {"files": files}}
            return {"project": {"artifactCollection": found}}
        viewer = {"id": "1", "username": "u", "entity": "e", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": {**viewer, "email": "u@e"}}


class Handler(WandbHandler, BaseHTTPRequestHandler):
    server: ArtifactServer

    def do_POST(self) -> None:
        content = self.content()
        if self.path != "/graphql":
            return self.reply(b"", 404)
        asked = json.loads(content)
        answer = self.server.answer(asked["query"], asked.get("variables") or {})
        return self.reply(json.dumps({"data": answer}).encode())

    def do_GET(self) -> None:
        if self.path == "/manifest":
            return self.reply(self.server.manifest())
        for name, content in self.server.files.items():
            if self.path == f"/file/{name}":
                return self.reply(content)
        return self.reply(b"", 404)


@contextmanager
def serving_artifact(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: str, files: Mapping[str, bytes]
) -> Iterator[ArtifactServer]:
    """A server that W&B is logged in to, in this process."""
    with running(ArtifactServer(name, kind, files)) as server:
        for variable, value in server.environment.items():
            monkeypatch.setenv(variable, value)
        wandb.teardown()
        try:
            yield server
        finally:
            wandb.teardown()
