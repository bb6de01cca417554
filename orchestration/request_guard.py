"""An ASGI wrapper that refuses the requests by which another web page could write through a local server, or read it.

Dagster's webserver has no login, answers any Host and takes GraphQL mutations by GET and by form: every page open in
the same browser could launch or delete runs (cross-site request forgery), and a name that resolves to this machine
could read all answers (DNS rebinding). Refused with status 403: a Host or an Origin that is not allowed, also of
websockets; GraphQL by GET other than queries; POST with another content type than JSON, which a page can send to
another site.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import parse_qs, urlsplit

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# Further names by which the server may be addressed, separated by commas.
ENV_HOSTS = "CANDLECAST_UI_HOSTS"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_STANDARD_PORTS = {"http": 80, "https": 443}
_POLICY_VIOLATION = 1008


class RequestGuard:
    """The wrapped application.

    Args:
        hosts: names and addresses, without port, by which the server may be addressed, beside those of the loopback
            interface. They are also allowed as an Origin at the standard ports: a proxy's, which sets its own Host.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self.app = app
        given = {name.strip().strip("[]").lower() for name in hosts if name.strip()}
        self.hosts = given | LOOPBACK
        self.sites = {(name, port) for name in given - LOOPBACK for port in _STANDARD_PORTS.values()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if reason is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            # Before it is accepted: the client gets status 403.
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": reason})
        else:
            await PlainTextResponse(f"refused: {reason}\n", status_code=403)(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        """Why a request is refused; None: it is not."""
        headers = Headers(scope=scope)
        return (
            self._foreign_host(headers.getlist("host"))
            or self._foreign_origin(headers.getlist("origin"), headers.get("host", ""))
            or (_forged_request(scope, headers) if scope["type"] == "http" else None)
        )

    def _foreign_host(self, found: Sequence[str]) -> str | None:
        if len(found) == 1 and _name_and_port(f"//{found[0]}")[0] in self.hosts:
            return None
        return f"Host {', '.join(found) or 'missing'} is not allowed. `candlecast ui --allow-host NAME` allows a name"

    def _foreign_origin(self, found: Sequence[str], host: str) -> str | None:
        for origin in found:
            site, own = _name_and_port(origin), _name_and_port(f"{urlsplit(origin).scheme}://{host}")
            if site[0] is None or site not in self.sites | {own}:
                return f"Origin {origin} is another site than {host}. `candlecast ui --allow-host NAME` allows a name"
        return None


def _name_and_port(url: str) -> tuple[str | None, int | None]:
    """Host name in lower case without brackets, and port; (None, None) for what is not a URL of a host alone."""
    try:
        parts = urlsplit(url)
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            return None, None
        return parts.hostname, parts.port or _STANDARD_PORTS.get(parts.scheme)
    except ValueError:
        return None, None


def _forged_request(scope: Scope, headers: Headers) -> str | None:
    """Why a request is one that a page can make a browser send to any site."""
    method = scope["method"]
    if method == "POST":
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        return None if media_type == "application/json" else "a POST needs the content type application/json"
    if scope["path"].rstrip("/").endswith("/graphql"):
        parameters = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        if not all(map(_only_reads, parameters.get("query", []))):
            return "by GET only GraphQL queries are allowed; send mutations by POST as JSON"
    return None


def _only_reads(document: str) -> bool:
    """Whether a GraphQL document has no operation but queries, whichever of them is executed."""
    try:
        definitions = parse(document).definitions
    except (GraphQLError, RecursionError):
        return False
    return all(one.operation == OperationType.QUERY for one in definitions if isinstance(one, OperationDefinitionNode))
