"""Requests that another web page can make a browser send are refused with 403; those of the UI itself are answered."""

import asyncio
import http.client
import json
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.types import Message, Receive, Scope, Send

from orchestration.cli.ui import _names
from orchestration.request_guard import RequestGuard
from tests.orchestration.cli_project import CliProject
from tests.orchestration.dagster_ui import ui_of

JSON = {"Content-Type": "application/json"}
WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAECAwQFBgcICQoLDA0ODw==",
    "Sec-WebSocket-Protocol": "graphql-ws",
}
MUTATION = "mutation { setNuxSeen }"
TWO = "query Look { version } mutation Change { setNuxSeen }"


@dataclass(frozen=True)
class Sent:
    """A request to the server at `{own}`, its host and port."""

    method: str = "GET"
    path: str = "/graphql"
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""

    def headers_to(self, own: str) -> dict[str, str]:
        return {"Host": own} | {name: value.format(own=own) for name, value in self.headers.items()}

    @property
    def target(self) -> str:
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


ATTACKS = {
    "mutation by GET": Sent(query={"query": MUTATION}),
    "mutation by HEAD": Sent("HEAD", query={"query": MUTATION}),
    "mutation by GET with a prefix in the path": Sent(path="/graphql/", query={"query": MUTATION}),
    "mutation among several operations by GET": Sent(query={"query": TWO, "operationName": "Change"}),
    "several operations, the query named": Sent(query={"query": TWO, "operationName": "Look"}),
    "mutation behind a comment": Sent(query={"query": "# query\n mutation{setNuxSeen}"}),
    "batch by GET": Sent(query={"query": json.dumps([{"query": MUTATION}])}),
    "subscription by GET": Sent(query={"query": "subscription { x }"}),
    "form": Sent("POST", headers={"Content-Type": "application/x-www-form-urlencoded"}, query={"query": MUTATION}),
    "plain text": Sent("POST", headers={"Content-Type": "text/plain"}, body=json.dumps({"query": MUTATION})),
    "JSON as a parameter of plain text": Sent(
        "POST", headers={"Content-Type": "text/plain; application/json"}, body=json.dumps({"query": MUTATION})
    ),
    "no content type": Sent("POST", query={"query": MUTATION}),
    "report of a materialization": Sent("POST", "/report_asset_materialization/bars", {"data_version": "x"}),
    "foreign host": Sent(path="/", headers={"Host": "rebound.example:3000"}),
    "foreign host that begins as ours": Sent(path="/", headers={"Host": "localhost.rebound.example"}),
    "user in the host": Sent(path="/", headers={"Host": "rebound.example@localhost"}),
    "foreign host, JSON": Sent("POST", headers=JSON | {"Host": "rebound.example"}, body='{"query": "{version}"}'),
    "foreign origin": Sent("POST", headers=JSON | {"Origin": "https://page.example"}, body='{"query": "{version}"}'),
    "another port of this machine": Sent("POST", headers=JSON | {"Origin": "http://localhost:1"}, body="{}"),
    "origin of a file": Sent("POST", headers=JSON | {"Origin": "null"}, body="{}"),
    "websocket of a foreign origin": Sent(headers=WEBSOCKET | {"Origin": "https://page.example"}),
    "websocket to a foreign host": Sent(headers=WEBSOCKET | {"Host": "rebound.example"}),
}
OWN = {
    "page": Sent(path="/", headers={"Accept": "text/html"}),
    "GraphQL playground": Sent(headers={"Accept": "text/html"}),
    "query by GET": Sent(query={"query": "query Look { version }", "operationName": "Look"}),
    "query of the page": Sent(
        "POST", headers=JSON | {"Origin": "http://{own}"}, body=json.dumps({"query": "{ version }"})
    ),
    "mutation of the page": Sent(
        "POST", headers=JSON | {"Origin": "http://{own}"}, body=json.dumps({"query": MUTATION})
    ),
    "command line": Sent(
        "POST", headers={"Content-Type": "application/json; charset=utf-8"}, body=json.dumps({"query": "{ version }"})
    ),
    "websocket of the page": Sent(headers=WEBSOCKET | {"Origin": "http://{own}"}),
}


async def _answered(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})


def _status(sent: Sent, own: str = "localhost:3000", hosts: tuple[str, ...] = ()) -> int:
    """The status that the guard, or the application behind it, answers."""
    answers: list[Message] = []

    async def send(message: Message) -> None:
        answers.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": sent.body.encode()}

    headers = [(name.lower().encode(), value.encode()) for name, value in sent.headers_to(own).items()]
    scope: Scope = {
        "type": "websocket" if "Upgrade" in sent.headers else "http",
        "method": sent.method,
        "path": sent.path,
        "query_string": urlencode(sent.query).encode(),
        "headers": headers,
    }
    asyncio.run(RequestGuard(_answered, hosts)(scope, receive, send))
    return 403 if answers[0]["type"] == "websocket.close" else int(answers[0]["status"])


@pytest.mark.parametrize("case", ATTACKS)
def test_what_another_page_can_send_is_refused(case: str) -> None:
    assert _status(ATTACKS[case]) == 403


@pytest.mark.parametrize("case", OWN)
@pytest.mark.parametrize("own", ["localhost:3000", "127.0.0.1:8080", "[::1]:3000", "LOCALHOST"])
def test_what_the_ui_sends_is_answered(case: str, own: str) -> None:
    assert _status(OWN[case], own) == 200


def test_a_request_without_host_or_with_two_is_refused() -> None:
    for hosts in ([], [(b"host", b"localhost"), (b"host", b"rebound.example")]):
        answers: list[Message] = []

        async def send(message: Message, answers: list[Message] = answers) -> None:
            answers.append(message)

        async def receive() -> Message:
            return {"type": "http.request"}

        scope: Scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": hosts}
        asyncio.run(RequestGuard(_answered)(scope, receive, send))
        assert answers[0]["status"] == 403


def test_an_allowed_name_is_a_host_and_an_origin() -> None:
    page = Sent("POST", headers=JSON | {"Origin": "https://desk.example"}, body="{}")
    behind_proxy = Sent("POST", headers=page.headers | {"Host": "127.0.0.1:3000"}, body="{}")
    assert _status(page, "desk.example") == 403
    for sent in (page, behind_proxy):
        assert _status(sent, "desk.example", ("Desk.example",)) == 200
    other_service = Sent("POST", headers=JSON | {"Origin": "https://desk.example:8443"}, body="{}")
    assert _status(other_service, "desk.example", ("desk.example",)) == 403


def test_listening_on_every_interface_allows_the_names_of_this_machine() -> None:
    assert "0.0.0.0" not in _names("0.0.0.0") and "127.0.0.1" in _names("0.0.0.0")
    assert _names("desk.example") == ["desk.example"]


def _sent_to(own: str, sent: Sent) -> int:
    connection = http.client.HTTPConnection(own, timeout=60)
    try:
        connection.request(sent.method, sent.target, sent.body or None, sent.headers_to(own))
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.slow
def test_the_webserver_of_the_ui_is_guarded(tmp_path: Path) -> None:
    with ui_of(CliProject(tmp_path)) as ui:
        own = ui.address.removeprefix("http://")
        assert {case: _sent_to(own, sent) for case, sent in ATTACKS.items()} == dict.fromkeys(ATTACKS, 403)
        expected = {case: 101 if "Upgrade" in sent.headers else 200 for case, sent in OWN.items()}
        assert {case: _sent_to(own, sent) for case, sent in OWN.items()} == expected
        assert ui.launch("ingest", "2008-01-02", "2008-03-31")


def test_dagster_has_the_parts_that_the_webserver_replaces() -> None:
    assert callable(import_module("dagster_webserver.cli").create_app_from_workspace_process_context)
    assert callable(import_module("dagster._cli.dev").open_ipc_subprocess)
