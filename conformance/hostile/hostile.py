"""What a stranger or an unlucky operator can do to a server, and what it must answer.

usage: hostile.py --url URL [--pid PID] [--koine PROGRAM] [CASE]...

URL is a server with open registration, PID its process. Cases about the data folder start servers of their own from PROGRAM.
Each case asserts status and errcode, and after each one the server must still serve an ordinary client.

Ends with 0 when all went well, 77 when something could not be tried on this machine, 1 when something was wrong.
"""

import argparse
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

PASSWORD = "correct horse battery staple"
WITH_SKIPS = 77
# No single answer may take longer, whatever else goes on.
ANSWER_WITHIN_S = 20
SILENT_CONNECTIONS = 10_000
KILLS = 5
# Messages to one device, over how many connections they come, what a friend sends meanwhile, how many one answer brings, and what they may cost the server.
FLOOD, FLOODING, FRIENDLY, AT_A_SYNC, FLOOD_MB = 100_000, 8, 20, 100, 400
V3 = "/_matrix/client/v3"


class Wrong(Exception):
    """The server did something else than it should."""


# What the running case has found wrong so far. Checks note it and go on, so that one run shows everything.
found_wrong = []


class Skipped(Exception):
    """This machine does not let us try."""


class Answer:
    """Status, body, and the errcode if there is one."""

    def __init__(self, status, body, headers=None):
        self.status, self.body, self.headers = status, body, headers or {}
        try:
            self.json = json.loads(body) if body else None
        except ValueError:
            self.json = None

    @property
    def errcode(self):
        return self.json.get("errcode") if isinstance(self.json, dict) else None

    def __repr__(self):
        return f"{self.status} {self.body[:200]!r}"


def expect(what, answer, *allowed):
    """`allowed`: pairs of status and errcode; an errcode of None means that none is wanted."""
    if (answer.status, answer.errcode) not in allowed:
        wanted = " or ".join(f"{status} {errcode}" for status, errcode in allowed)
        found_wrong.append(f"{what}: expected {wanted}, seen {answer!r}")
    return answer


def need(what, answer):
    """The JSON of an answer without which a case cannot go on."""
    if answer.status != 200:
        raise Wrong(f"{what}: expected 200, seen {answer!r}")
    return answer.json


def expect_refusal(what, answer):
    """Some refusal that is the client's fault, in the specification's form."""
    if answer.status in (414, 431):
        return answer  # The request line or header is too long to be anything; no body is asked for.
    if not 400 <= answer.status < 500 or not str(answer.errcode).startswith("M_"):
        found_wrong.append(f"{what}: expected 4xx with an errcode, seen {answer!r}")
    elif answer.errcode in ("M_UNKNOWN_TOKEN", "M_MISSING_TOKEN"):
        found_wrong.append(f"{what}: expected the input to be refused, not the token; seen {answer!r}")
    return answer


def quote(part):
    """A path element from text or from raw bytes."""
    return urllib.parse.quote(part, safe="")


class Server:
    """A homeserver at an address."""

    def __init__(self, url):
        self.url = url.rstrip("/")
        parsed = urllib.parse.urlsplit(url)
        self.host, self.port = parsed.hostname, parsed.port

    def request(self, method, path, body=None, token=None, headers=None, timeout=ANSWER_WITHIN_S):
        """One request on a connection of its own. `body`: JSON from a dict, else bytes or a chunk iterator as they are."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        headers = {"Content-Type": "application/json", **(headers or {})}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        try:
            chunked = body is not None and not isinstance(body, bytes)
            try:
                connection.request(method, path, body=body, headers=headers, encode_chunked=chunked)
            except (BrokenPipeError, ConnectionResetError) as error:
                # It may answer and hang up before it has all; the answer is still there to be read, once connected.
                if connection.sock is None:
                    return Answer(0, repr(error).encode())
            response = connection.getresponse()
            return Answer(response.status, response.read(), dict(response.getheaders()))
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, repr(error).encode())
        finally:
            connection.close()

    def raw(self, data, timeout=ANSWER_WITHIN_S):
        """Writes bytes to a socket; what comes back until the server hangs up or says nothing more."""
        with socket.create_connection((self.host, self.port), timeout=timeout) as connection:
            try:
                connection.sendall(data)
            except OSError:
                pass
            connection.settimeout(3)
            back = b""
            try:
                while chunk := connection.recv(65536):
                    back += chunk
            except OSError:
                pass
            return back

    def register(self, name=None):
        """A new account; what the server answers about it, and its token."""
        name = name or f"user{time.time_ns():x}"
        body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
        seen = need("register", self.request("POST", f"{V3}/register", body))
        return User(self, seen["user_id"], seen["access_token"])

    def answers(self):
        """Does it still serve an ordinary client?"""
        need("afterwards, /versions", self.request("GET", "/_matrix/client/versions", timeout=5))


class User:
    """An account with a token."""

    def __init__(self, server, user_id, token):
        self.server, self.user_id, self.token = server, user_id, token

    def request(self, method, path, body=None, **more):
        return self.server.request(method, path, body, token=self.token, **more)

    def log_in_again(self):
        """The same account on another device."""
        body = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": self.user_id}, "password": PASSWORD}
        return User(self.server, self.user_id, need("login", self.server.request("POST", f"{V3}/login", body))["access_token"])

    def create_room(self, **options):
        return need("createRoom", self.request("POST", f"{V3}/createRoom", options))["room_id"]

    def send(self, room, body, txn=None, kind="m.room.message", **more):
        txn = txn or f"t{time.time_ns()}"
        body = body if isinstance(body, bytes) else {"msgtype": "m.text", "body": body} if isinstance(body, str) else body
        return self.request("PUT", f"{V3}/rooms/{quote(room)}/send/{kind}/{txn}", body, **more)


# ---- the cases ----


def huge_bodies(w):
    """bodies of 100 MB"""
    size = 100 << 20
    piece = b'{"a":"' + b"a" * ((1 << 20) - 6)

    def pieces():
        for _ in range(100):
            yield piece

    too_large = (413, "M_TOO_LARGE")
    body = piece * 100
    expect("to /register, announced", w.server.request("POST", f"{V3}/register", body), too_large)
    expect("to /register, in chunks", w.server.request("POST", f"{V3}/register", pieces()), too_large)
    expect("to /createRoom", w.user.request("POST", f"{V3}/createRoom", body), too_large)
    expect("as an event", w.user.send(w.room, body), too_large)
    upload = {"headers": {"Content-Type": "application/octet-stream"}}
    expect("as media", w.user.request("POST", "/_matrix/media/v3/upload", bytes(size), **upload), too_large)
    expect("as media, in chunks", w.user.request("POST", "/_matrix/media/v3/upload", pieces(), **upload), too_large)
    # Nobody may make the server reserve memory by announcing much and sending nothing.
    announced = f"POST {V3}/register HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".encode()
    before = resident_mb(w.pid)
    waiting = [socket.create_connection((w.server.host, w.server.port)) for _ in range(200)]
    for connection in waiting:
        connection.sendall(announced)
    w.server.answers()
    if w.pid and resident_mb(w.pid) > before + 100:
        raise Wrong(f"200 announcements: expected no memory to be reserved, seen {before} MB become {resident_mb(w.pid)} MB")
    for connection in waiting:
        connection.close()


def deep_json(w):
    """JSON nested 100,000 deep"""
    depth = 100_000
    not_json = ((400, "M_NOT_JSON"), (400, "M_BAD_JSON"), (413, "M_TOO_LARGE"))
    for name, body in (
        ("arrays", b"[" * depth + b"]" * depth),
        ("objects", b'{"a":' * depth + b"1" + b"}" * depth),
        ("arrays without end", b"[" * depth),
        ("in content", b'{"body":' + b"[" * depth + b"]" * depth + b"}"),
    ):
        expect(f"{name} to /register", w.server.request("POST", f"{V3}/register", body), *not_json)
        expect(f"{name} as an event", w.user.send(w.room, body), *not_json)
        expect(f"{name} as account data", w.user.request("PUT", f"{V3}/user/{quote(w.user.user_id)}/account_data/x", body), *not_json)
    shallow = b'{"msgtype":"m.text","body":"x","deep":' + b"[" * 4000 + b"]" * 4000 + b"}"
    answer = w.user.send(w.room, shallow)
    if answer.status != 200:
        expect("4,000 deep", answer, *not_json)
    nested = quote('{"room":' * depth)[:200_000]
    expect_refusal("a filter in the query", w.user.request("GET", f"{V3}/sync?filter={nested}"))


def numbers(w):
    """numbers outside the canonical range"""
    bad = ((400, "M_BAD_JSON"),)
    for number in ("9007199254740992", "-9007199254740992", "1.5", "1e20", "123456789012345678901234567890"):
        content = f'{{"msgtype":"m.text","body":"x","n":{number}}}'.encode()
        expect(f"{number} in an event", w.user.send(w.room, content), *bad)
        state = w.user.request("PUT", f"{V3}/rooms/{quote(w.room)}/state/org.example.n/", f'{{"n":[{number}]}}'.encode())
        expect(f"{number} in state", state, *bad)
    for number in ("1e400", "NaN", "Infinity", "01", "+1", "0x10"):
        content = f'{{"msgtype":"m.text","body":"x","n":{number}}}'.encode()
        expect(f"{number} in an event", w.user.send(w.room, content), (400, "M_NOT_JSON"), (400, "M_BAD_JSON"))
    for number in ("9007199254740991", "-9007199254740991", "0"):
        content = f'{{"msgtype":"m.text","body":"x","n":{number}}}'.encode()
        expect(f"{number}, which is allowed", w.user.send(w.room, content), (200, None))
    for level in ("9007199254740992", "1.5", '"fifty"', "[]"):
        content = f'{{"users":{{"{w.user.user_id}":100}},"ban":{level}}}'.encode()
        path = f"{V3}/rooms/{quote(w.room)}/state/m.room.power_levels/"
        expect_refusal(f"power level {level}", w.user.request("PUT", path, content))
    for value in ("-1", "99999999999999999999999", "1.5", "abc", ""):
        expect_refusal(f"limit={value}", w.user.request("GET", f"{V3}/rooms/{quote(w.room)}/messages?dir=b&limit={value}"))


def encodings(w):
    """invalid UTF-8 and bodies that are not what they should be"""
    not_json = (400, "M_NOT_JSON")
    for name, body in (
        ("invalid UTF-8", b'{"msgtype":"m.text","body":"\xff\xfe"}'),
        ("an overlong form", b'{"msgtype":"m.text","body":"\xc0\xaf"}'),
        ("half a character", b'{"msgtype":"m.text","body":"\xe2\x82"}'),
        ("a surrogate in UTF-8", b'{"msgtype":"m.text","body":"\xed\xa0\x80"}'),
        ("no JSON", b"hello"),
        ("JSON that ends early", b'{"msgtype":'),
        ("something after the JSON", b'{"msgtype":"m.text","body":"x"} x'),
        ("UTF-16", '{"msgtype":"m.text","body":"x"}'.encode("utf-16")),
    ):
        expect(f"{name} as an event", w.user.send(w.room, body), not_json)
        expect(f"{name} to /login", w.server.request("POST", f"{V3}/login", body), not_json)
    for name, body in (("an array", b"[]"), ("a string", b'"x"'), ("null", b"null"), ("a number", b"1")):
        bad = ((400, "M_BAD_JSON"), not_json)
        expect(f"{name} as an event", w.user.send(w.room, body), *bad)
        expect(f"{name} to /createRoom", w.user.request("POST", f"{V3}/createRoom", body), *bad)
    lone = w.user.send(w.room, b'{"msgtype":"m.text","body":"\\ud800"}')
    if lone.status != 200:
        expect("a lone surrogate, escaped", lone, not_json, (400, "M_BAD_JSON"))
    expect_refusal("a path that is no UTF-8", w.user.request("GET", f"{V3}/rooms/%ff%fe/state"))
    expect_refusal("a name that is no UTF-8", w.server.request("GET", f"{V3}/profile/%ff%fe"))
    content = {"msgtype": "m.text", "body": "nul \0, bell \7, bidi \u202e and 𐍈"}
    expect("odd but valid characters", w.user.send(w.room, content), (200, None))


BAD_USER_IDS = (
    "", "@", ":", "@:", "alice", "@alice", "alice:example.org", "@alice:", "@alice:exa mple",
    "@alice:example.org:abc", "@alice\0:example.org", "@" + "a" * 300 + ":example.org", "!x:example.org",
    "@alice:[::1", "@/../../etc/passwd", "@alice:example.org/../x", "💥", "%", "@alice:" + "x" * 10_000,
)  # fmt: skip
BAD_ROOM_IDS = (
    "!", "!:", "room", "!room:", "!:example.org" * 40, "#room:example.org", "@a:example.org", "!ro om:exam ple", "!room:example.org:abc",
    "!\0:example.org", "!" + "r" * 300 + ":example.org", "..", ".", "../../etc/passwd", "💥", "%", "!" + "x" * 10_000, "$event",
)  # fmt: skip


def user_ids(w):
    """malformed user ids"""
    for bad in BAD_USER_IDS:
        name = repr(bad[:40])
        for action in ("invite", "kick", "ban", "unban"):
            expect_refusal(f"{action} {name}", w.user.request("POST", f"{V3}/rooms/{quote(w.room)}/{action}", {"user_id": bad}))
        if bad:
            expect_refusal(f"profile of {name}", w.server.request("GET", f"{V3}/profile/{quote(bad)}"))
            expect_refusal(f"account data of {name}", w.user.request("GET", f"{V3}/user/{quote(bad)}/account_data/x"))
            path = f"{V3}/rooms/{quote(w.room)}/state/m.room.member/{quote(bad)}"
            expect_refusal(f"membership of {name}", w.user.request("PUT", path, {"membership": "invite"}))
        expect_refusal(f"room with {name}", w.user.request("POST", f"{V3}/createRoom", {"invite": [bad]}))
        login = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": bad}, "password": PASSWORD}
        expect_refusal(f"login as {name}", w.server.request("POST", f"{V3}/login", login))
    for bad in ("Al ice", "al:ice", "@alice", "ali\0ce", "ünïcode", "a" * 300, "💥", "a/b?c#d%"):
        body = {"username": bad, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
        expect(f"register {bad[:20]!r}", w.server.request("POST", f"{V3}/register", body), (400, "M_INVALID_USERNAME"))
    for bad in (1, None, [], {}, True):
        expect_refusal(f"invite {bad!r}", w.user.request("POST", f"{V3}/rooms/{quote(w.room)}/invite", {"user_id": bad}))


def room_ids(w):
    """malformed room ids"""
    for bad in BAD_ROOM_IDS:
        name, room = repr(bad[:40]), quote(bad)
        if bad in (".", ".."):
            room = bad.replace(".", "%2e")
        for method, path, body in (
            ("POST", f"{V3}/rooms/{room}/join", {}),
            ("POST", f"{V3}/rooms/{room}/leave", {}),
            ("GET", f"{V3}/rooms/{room}/state", None),
            ("GET", f"{V3}/rooms/{room}/messages?dir=b", None),
            ("GET", f"{V3}/rooms/{room}/members", None),
            ("PUT", f"{V3}/rooms/{room}/send/m.room.message/1", {"body": "x"}),
            ("PUT", f"{V3}/rooms/{room}/state/m.room.name/", {"name": "x"}),
            ("PUT", f"{V3}/rooms/{room}/typing/{quote(w.user.user_id)}", {"typing": False}),
            ("POST", f"{V3}/rooms/{room}/receipt/m.read/$x", {}),
        ):
            expect_refusal(f"{method} {name} {path.rsplit('/', 1)[-1]}", w.user.request(method, path, body))
        if not bad.startswith("#"):
            expect_refusal(f"join {name}", w.user.request("POST", f"{V3}/join/{room}", {}))
        expect_refusal(f"alias {name}", w.user.request("PUT", f"{V3}/directory/room/{room}", {"room_id": w.room}))
    for bad in ("$", "event", "$" + "x" * 10_000, "%00", "💥"):
        expect_refusal(f"event {bad[:20]!r}", w.user.request("GET", f"{V3}/rooms/{quote(w.room)}/event/{quote(bad)}"))
        expect_refusal(f"redact {bad[:20]!r}", w.user.request("PUT", f"{V3}/rooms/{quote(w.room)}/redact/{quote(bad)}/1", {}))


def large_events(w):
    """events over 64 KB"""
    too_large = (413, "M_TOO_LARGE")
    expect("a message of 70,000 bytes", w.user.send(w.room, "x" * 70_000), too_large)
    expect("a message of 65,536 bytes", w.user.send(w.room, "x" * 65_536), too_large)
    expect("a message of 30,000 characters of 3 bytes", w.user.send(w.room, "€" * 30_000), too_large)
    expect("a message of 60,000 bytes", w.user.send(w.room, "x" * 60_000), (200, None))
    state = f"{V3}/rooms/{quote(w.room)}/state"
    expect("a state event", w.user.request("PUT", f"{state}/org.example.x/", {"x": "x" * 70_000}), too_large)
    expect("a topic", w.user.request("PUT", f"{state}/m.room.topic/", {"topic": "x" * 70_000}), too_large)
    for name, answer in (
        ("a type of 300 bytes", w.user.send(w.room, {}, kind="x" * 300)),
        ("a state key of 300 bytes", w.user.request("PUT", f"{state}/org.example.x/{'k' * 300}", {})),
    ):
        expect(name, answer, too_large, (400, "M_INVALID_PARAM"), (400, "M_BAD_JSON"))
    topic = {"topic": "x" * 70_000}
    expect("a room with such a topic", w.user.request("POST", f"{V3}/createRoom", topic), too_large, (400, "M_BAD_JSON"))
    redaction = {"reason": "x" * 70_000}
    event = need("a message", w.user.send(w.room, "short"))["event_id"]
    path = f"{V3}/rooms/{quote(w.room)}/redact/{quote(event)}/r"
    expect("a reason for a redaction", w.user.request("PUT", path, redaction), too_large)
    expect("the next message", w.user.send(w.room, "short"), (200, None))


def foreign_tokens(w):
    """a sync token from another server"""
    refusals = ((400, "M_INVALID_PARAM"), (400, "M_UNKNOWN"), (400, "M_UNKNOWN_POS"))
    tokens = ["s72594_4483_1934", "", "0", "-1", "x" * 5000, "%00", "💥", "99999999999999999999999999"]
    if w.koine:
        with Koine(w.koine) as other:
            stranger = other.server.register()
            stranger.create_room()
            tokens.append(need("sync", stranger.request("GET", f"{V3}/sync"))["next_batch"])
    for token in tokens:
        answer = w.user.request("GET", f"{V3}/sync?timeout=0&since={quote(token)}")
        if token == "" and answer.status == 200:
            continue  # as good as none
        expect(f"since={token[:40]!r}", answer, *refusals)
        if token:
            path = f"{V3}/rooms/{quote(w.room)}/messages?dir=b&from={quote(token)}"
            expect(f"from={token[:40]!r}", w.user.request("GET", path), *refusals)
    own = need("sync", w.user.request("GET", f"{V3}/sync"))["next_batch"]
    expect("a token of its own", w.user.request("GET", f"{V3}/sync?timeout=0&since={quote(own)}"), (200, None))
    expect_refusal("one's own, cut short", w.user.request("GET", f"{V3}/sync?timeout=0&since={quote(own[: len(own) // 2])}"))


def transactions(w):
    """transaction ids reused across devices"""
    other, elsewhere = w.user.log_in_again(), w.user.create_room()
    ids = {}
    for name, user, room in (("device one", w.user, w.room), ("device two", other, w.room), ("another room", w.user, elsewhere)):
        first = need(name, user.send(room, name, txn="the-same"))["event_id"]
        again = need(name, user.send(room, name, txn="the-same"))["event_id"]
        if first != again:
            raise Wrong(f"{name} repeats a transaction: expected {first}, seen {again}")
        ids[name] = first
    if len(set(ids.values())) != 3:
        raise Wrong(f"expected three events, seen {ids}")
    bodies = {}
    for name in ("device one", "device two"):
        path = f"{V3}/rooms/{quote(w.room)}/event/{quote(ids[name])}"
        bodies[name] = need(name, w.user.request("GET", path))["content"]["body"]
    if any(name != body for name, body in bodies.items()):
        raise Wrong(f"expected each device's own text, seen {bodies}")
    expect_refusal("a transaction id of 100,000 bytes", w.user.send(w.room, "x", txn="t" * 100_000))


def http_garbage(w):
    """requests that are hardly HTTP"""
    expect("an unknown endpoint", w.server.request("GET", "/_matrix/client/v3/no_such_thing"), (404, "M_UNRECOGNIZED"))
    expect("an unknown path", w.server.request("GET", "/_matrix/nothing"), (404, "M_UNRECOGNIZED"))
    expect("a wrong method", w.server.request("PATCH", f"{V3}/login", {}), (405, "M_UNRECOGNIZED"))
    expect("no token", w.server.request("GET", f"{V3}/sync"), (401, "M_MISSING_TOKEN"))
    expect("a wrong token", w.server.request("GET", f"{V3}/sync", token="nonsense"), (401, "M_UNKNOWN_TOKEN"))
    for name, data in (
        ("noise", os.urandom(4096)),
        ("a TLS greeting", bytes.fromhex("16030100f8010000f40303") + os.urandom(200)),
        ("no version", b"GET /\r\n\r\n"),
        ("two lengths", b"POST /_matrix/client/v3/login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}"),
        ("length and chunks", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        ("a URI of 1 MB", b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("a header of 1 MB", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n"),
        ("10,000 headers", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n"),
    ):
        back = w.server.raw(data)
        if back and not back.startswith(b"HTTP/1.1 4"):
            raise Wrong(f"{name}: expected a refusal or nothing, seen {back[:100]!r}")


def silent_connections(w):
    """10,000 parallel connections that send nothing"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < SILENT_CONNECTIONS + 200:
        raise Skipped(f"this process may open only {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, SILENT_CONNECTIONS + 200), hard))
    connections, refused = [], 0
    try:
        for n in range(SILENT_CONNECTIONS):
            connection = socket.socket()
            connection.settimeout(2)
            try:
                # More than one local address, so that local ports do not run out.
                connection.bind((f"127.0.0.{2 + n % 3}", 0))
                connection.connect((w.server.host, w.server.port))
                if n % 2:
                    connection.send(b"GET /_matrix/cl")  # half of them begin and stop
                connections.append(connection)
            except OSError:
                refused += 1
                connection.close()
            if n % 1000 == 999:
                w.server.answers()
        for n in range(20):
            began = time.monotonic()
            expect("a message meanwhile", w.user.send(w.room, f"meanwhile {n}", timeout=5), (200, None))
            if time.monotonic() - began > 2:
                raise Wrong(f"expected an answer within 2 s meanwhile, seen {time.monotonic() - began:.1f} s")
        expect("a sync meanwhile", w.user.request("GET", f"{V3}/sync", timeout=5), (200, None))
        print(f"       {len(connections)} connections held, {refused} refused, server holds {resident_mb(w.pid)} MB")
    finally:
        for connection in connections:
            connection.close()


def device_flood(w):
    """100,000 messages for one device that is away, then for one that listens: memory, what others send, who else is served"""
    victim, friend, flooder = w.server.register(), w.server.register(), w.server.register()
    device = need("whoami", victim.request("GET", f"{V3}/account/whoami"))["device_id"]

    def message(sender, txn, content):
        body = {"messages": {victim.user_id: {device: content}}}
        return sender.request("PUT", f"{V3}/sendToDevice/m.dummy/{txn}", body)

    def flood(numbers):
        connection = http.client.HTTPConnection(w.server.host, w.server.port, timeout=ANSWER_WITHIN_S)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {flooder.token}"}
        for number in numbers:
            body = json.dumps({"messages": {victim.user_id: {device: {"flood": number, "filler": "x" * 100}}}})
            connection.request("PUT", f"{V3}/sendToDevice/m.dummy/f{number}", body, headers)
            answer = connection.getresponse()
            if answer.read() and answer.status not in (200, 429):
                found_wrong.append(f"the flood: expected 200 or 429, seen {answer.status}")
            answered.append(number)
        connection.close()

    def sync(since):
        return need("the victim's sync", victim.request("GET", f"{V3}/sync?timeout=0{f'&since={since}' if since else ''}"))

    since = sync(None)["next_batch"]
    before, waits, drained, answered = resident_mb(w.pid), [], [], []

    def friend_sends(listens, sent):
        """All through the flood, and so behind it, too."""
        expect("a friend's message", message(friend, f"k{listens}{sent}", {"key": [listens, sent]}), (200, None))

    for share, listens in ((FLOOD // 2, False), (FLOOD // 2, True)):
        threads = [
            threading.Thread(target=flood, args=(range(int(listens) * FLOOD + n, int(listens) * FLOOD + share, FLOODING),))
            for n in range(FLOODING)
        ]
        answered.clear()
        for thread in threads:
            thread.start()
        sent = 0
        while any(thread.is_alive() for thread in threads):
            began = time.monotonic()
            expect("a message meanwhile", w.user.send(w.room, "during the flood", timeout=5), (200, None))
            waits.append(time.monotonic() - began)
            if len(answered) > share * sent // FRIENDLY and sent < FRIENDLY:
                friend_sends(listens, sent)
                sent += 1
            if listens:
                answer = sync(since)
                since = answer["next_batch"]
                drained.append([event["content"] for event in answer.get("to_device", {}).get("events", [])])
            else:
                time.sleep(0.1)
        for number in range(sent, FRIENDLY):
            friend_sends(listens, number)
        held = resident_mb(w.pid)
        # What is left is fetched, and acknowledged by the fetching.
        while True:
            answer = sync(since)
            since = answer["next_batch"]
            drained.append([event["content"] for event in answer.get("to_device", {}).get("events", [])])
            if not drained[-1]:
                break
    if (most := max(map(len, drained))) > AT_A_SYNC:
        raise Wrong(f"expected at most {AT_A_SYNC} messages in an answer, seen {most}")
    came = [content for events in drained for content in events]
    keys = [tuple(content["key"]) for content in came if "key" in content]
    if len(keys) != len(set(keys)) or len(keys) != 2 * FRIENDLY:
        raise Wrong(f"expected each of a friend's {2 * FRIENDLY} messages once, seen {len(keys)}, {len(set(keys))} of them different")
    numbers = [content["flood"] for content in came if "flood" in content]
    if len(numbers) != len(set(numbers)):
        raise Wrong("messages that were acknowledged came again")
    if max(waits) > 2:
        raise Wrong(f"expected others to be answered within 2 s meanwhile, seen {max(waits):.1f} s")
    if isinstance(held, int) and held - before > FLOOD_MB:
        raise Wrong(f"expected the server to grow by at most {FLOOD_MB} MB, seen {before} to {held}")
    away = sum(number < FLOOD for number in numbers)
    print(
        f"       {FLOOD} messages: of {FLOOD // 2} for a device away {away} were kept, of {FLOOD // 2} for one that listens "
        f"{len(numbers) - away} arrived; all of a friend's did; the server held {before}, then {held} MB; "
        f"others waited {max(waits) * 1e3:.0f} ms at most"
    )


STREAM = (
    "<stream:stream xmlns='{ns}' xmlns:stream='http://etherx.jabber.org/streams' to='{to}' version='1.0'>"
)
# `koine local` has clients of XMPP three ports behind its first, servers five.
XMPP_CLIENTS, XMPP_SERVERS = 3, 5


def silent_streams(w):
    """10,000 parallel XMPP connections that never say who they are"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < SILENT_CONNECTIONS + 200:
        raise Skipped(f"this process may open only {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, SILENT_CONNECTIONS + 200), hard))
    before = resident_mb(w.pid)
    connections, refused = [], 0
    header = STREAM.format(ns="jabber:client", to="localhost").encode()
    begun = time.monotonic()
    try:
        for n in range(SILENT_CONNECTIONS):
            connection = socket.socket()
            connection.settimeout(2)
            try:
                connection.bind((f"127.0.0.{2 + n % 3}", 0))
                connection.connect((w.server.host, w.server.port + (XMPP_CLIENTS, XMPP_SERVERS)[n % 2]))
                # Some say nothing, some half a header, some a whole one and no more.
                connection.send((b"", header[:40], header)[n % 3] or b" ")
                connections.append(connection)
            except OSError:
                refused += 1
                connection.close()
            if n % 1000 == 999:
                w.server.answers()
        held = resident_mb(w.pid)
        for n in range(20):
            began = time.monotonic()
            expect("a message meanwhile", w.user.send(w.room, f"streams meanwhile {n}", timeout=5), (200, None))
            if time.monotonic() - began > 2:
                raise Wrong(f"expected an answer within 2 s meanwhile, seen {time.monotonic() - began:.1f} s")
        stream_answers(w)
        print(f"       {len(connections)} connections held, {refused} refused, server grew from {before} to {held} MB")
        # They are given up after a minute, whatever they said.
        until = begun + 90
        while time.monotonic() < until and not has_ended(connections[0]):
            time.sleep(1)
        if not has_ended(connections[0]):
            raise Wrong("expected a connection that never said who it is to be given up within 90 s, seen it stand")
    finally:
        for connection in connections:
            connection.close()


def has_ended(connection):
    connection.setblocking(False)
    try:
        while True:
            if not connection.recv(4096):
                return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def stream_answers(w):
    """A stream begins for an ordinary client."""
    with socket.create_connection((w.server.host, w.server.port + XMPP_CLIENTS), timeout=5) as connection:
        connection.sendall(STREAM.format(ns="jabber:client", to="localhost").encode())
        seen = b""
        while b"</stream:features>" not in seen:
            piece = connection.recv(4096)
            if not piece:
                raise Wrong(f"expected the features of a stream, seen {seen!r}")
            seen += piece


def streams_of_nonsense(w):
    """bytes that are no stream, to clients' and servers' ports"""
    entities = "".join(f"<!ENTITY e{n} '{'&e%d;' % (n - 1) * 10}'>" for n in range(1, 10))
    for port, ns in ((XMPP_CLIENTS, "jabber:client"), (XMPP_SERVERS, "jabber:server")):
        header = STREAM.format(ns=ns, to="localhost").encode()
        for name, data, condition in (
            ("an XML bomb", f"<!DOCTYPE b [<!ENTITY e0 'x'>{entities}]><b>&e9;</b>".encode(), b"restricted-xml"),
            ("an entity", header + b"<message>&bomb;</message>", b"restricted-xml"),
            ("40,000 levels", header + b"<a>" * 40_000, b"policy-violation"),
            ("a name without end", header + b"<" + b"a" * 1_000_000, b"policy-violation"),
            ("attributes without end", header + b"<a " + b" ".join(b"a%d='1'" % n for n in range(100_000)), b"policy-violation"),
            ("a stanza without end", header + b"<message><body>" + b"x" * 4_000_000, b"policy-violation"),
            ("half a character", header + b"<message><body>\xc3</body></message>", b"unsupported-encoding"),
            ("zero bytes", b"\0" * 1000, b"not-well-formed"),
            ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"not-well-formed"),
            ("another namespace", header.replace(ns.encode(), b"urn:wrong"), b"invalid-namespace"),
            ("another host", header.replace(b"localhost", b"elsewhere.example"), b"host-unknown"),
        ):
            seen = raw_stream(w, port, data)
            if condition not in seen or b"</stream:stream>" not in seen:
                raise Wrong(f"{name} ({ns}): expected {condition.decode()} and the end of the stream, seen {seen[-300:]!r}")
        stream_answers(w)


def raw_stream(w, port, data):
    """What comes back for bytes, until the connection ends."""
    back = b""
    with socket.create_connection((w.server.host, w.server.port + port), timeout=ANSWER_WITHIN_S) as connection:
        try:
            connection.sendall(data)
        except OSError:
            pass  # It need not take all.
        try:
            while chunk := connection.recv(65536):
                back += chunk
        except OSError:
            pass
    return back


def no_permission(w):
    """a data folder without write permission"""
    need_koine(w)
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        raise Skipped("needs setpriv to stop being root")
    with tempfile.TemporaryDirectory(prefix="koine-hostile-") as place:
        os.chmod(place, 0o755)
        folder, program = os.path.join(place, "data"), os.path.join(place, "koine")
        os.mkdir(folder, 0o555)
        shutil.copy(w.koine, program)
        as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        command = [*as_nobody, program, "local", "--no-demo", "--data-dir", folder, "--port-base", str(free_ports())]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=place)
        except subprocess.TimeoutExpired as expired:
            raise Wrong(f"expected it to end with an error, seen it running on: {expired.output!r}") from expired
        said = done.stdout + done.stderr
        if done.returncode == 0 or done.returncode < 0 or done.returncode == 101:
            raise Wrong(f"expected an orderly failure, seen status {done.returncode}: {said!r}")
        if folder not in said or "ermission" not in said or "panicked" in said:
            raise Wrong(f"expected a sentence that names {folder} and the permission, seen {said!r}")
        if os.listdir(folder):
            raise Wrong(f"expected nothing to be written, seen {os.listdir(folder)}")


def full_disk(w):
    """a disk that is full"""
    need_koine(w)
    with tempfile.TemporaryDirectory(prefix="koine-hostile-") as place:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", place], capture_output=True, text=True)
        if mounted.returncode:
            raise Skipped(f"needs the right to mount: {mounted.stderr.strip()}")
        try:
            full_disk_on(w, place)
        finally:
            subprocess.run(["umount", "--lazy", place], check=False)


def full_disk_on(w, place):
    """The case itself, on a file system of its own."""
    folder, ballast = os.path.join(place, "data"), os.path.join(place, "ballast")
    with Koine(w.koine, folder) as koine:
        user = koine.server.register()
        room = user.create_room()
        sent = [need("a message before", user.send(room, f"before {n}"))["event_id"] for n in range(20)]
        fill(ballast)
        refusal = None
        for n in range(400):
            # Large ones, so that whatever room was set aside is used up.
            answer = user.send(room, {"msgtype": "m.text", "body": "x" * 60_000})
            if answer.status != 200:
                refusal = answer
                break
            sent.append(answer.json["event_id"])
        fill(ballast)
        upload = {"headers": {"Content-Type": "image/png"}}
        media = user.request("POST", "/_matrix/media/v3/upload", os.urandom(4 << 20), **upload)
        if media.status < 500 or not media.errcode:
            raise Wrong(f"an upload onto a full disk: expected 5xx with an errcode, seen {media!r}")
        if refusal is None:
            raise Wrong("expected messages to be refused on a full disk, seen 400 times 60 kB accepted")
        if refusal.status < 500 or not refusal.errcode:
            raise Wrong(f"a message onto a full disk: expected 5xx with an errcode, seen {refusal!r}")
        koine.must_run("with a full disk")
        koine.server.answers()
        expect("reading meanwhile", user.request("GET", f"{V3}/rooms/{quote(room)}/messages?dir=b&limit=5"), (200, None))
        expect("a sync meanwhile", user.request("GET", f"{V3}/sync"), (200, None))
        os.remove(ballast)
        deadline = time.monotonic() + 30
        while user.send(room, "after").status != 200:
            if time.monotonic() > deadline:
                raise Wrong(f"expected messages to be accepted again when there is room, seen {user.send(room, 'after')!r}")
            time.sleep(0.5)
    with Koine(w.koine, folder) as koine:
        user.server = koine.server
        for event in sent:
            path = f"{V3}/rooms/{quote(room)}/event/{quote(event)}"
            expect("an acknowledged message, after a restart", user.request("GET", path), (200, None))


def killed(w):
    """killed in the midst of writes, again and again"""
    need_koine(w)
    with tempfile.TemporaryDirectory(prefix="koine-hostile-") as place:
        folder = os.path.join(place, "data")
        user, room, since, acknowledged = None, None, None, {}
        for round_number in range(KILLS):
            with Koine(w.koine, folder) as koine:
                if user is None:
                    user = koine.server.register()
                    room = user.create_room()
                user.server = koine.server
                for txn, event in acknowledged.items():
                    path = f"{V3}/rooms/{quote(room)}/event/{quote(event)}"
                    expect(f"acknowledged as {txn} before round {round_number}", user.request("GET", path), (200, None))
                    again = user.send(room, txn, txn=txn)
                    if again.status != 200 or again.json["event_id"] != event:
                        found_wrong.append(f"{txn} sent again: expected {event}, seen {again!r}")
                if since:
                    seen = need("sync", user.request("GET", f"{V3}/sync?timeout=0&since={quote(since)}"))
                    # The reader asked for ten at most, so a gap must be admitted.
                    if not seen["rooms"]["join"][room]["timeline"]["limited"] and len(acknowledged) > 10:
                        found_wrong.append(f"a sync over a crash: expected a limited timeline, seen {str(seen)[:200]}")
                since = need("sync", user.request("GET", f"{V3}/sync")).get("next_batch")
                acknowledged = send_until_killed(koine, user, room, round_number)
                if not acknowledged:
                    raise Wrong("expected some messages to be acknowledged before it was killed, seen none")


def send_until_killed(koine, user, room, round_number):
    """Some clients send at once; after a while the server gets SIGKILL. What was acknowledged, by transaction."""
    acknowledged = {}

    def send(sender):
        for n in range(10_000):
            txn = f"r{round_number}-{sender}-{n}"
            answer = user.send(room, txn, txn=txn, timeout=5)
            if answer.status != 200:
                return
            acknowledged[txn] = answer.json["event_id"]

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
    for sender in senders:
        sender.start()
    deadline = time.monotonic() + 10
    # At another place each time, counted in messages since machines differ.
    while len(acknowledged) < 40 + 17 * round_number and time.monotonic() < deadline:
        time.sleep(0.001)
    koine.process.kill()
    for sender in senders:
        sender.join()
    return acknowledged


CASES = (
    http_garbage, huge_bodies, deep_json, numbers, encodings, user_ids, room_ids, large_events, foreign_tokens, transactions,
    silent_connections, device_flood, silent_streams, streams_of_nonsense, no_permission, full_disk, killed,
)  # fmt: skip

# ---- what they use ----


def need_koine(w):
    if not w.koine:
        raise Skipped("needs --koine")


def fill(path):
    """Writes until nothing more fits."""
    with open(path, "ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass


def resident_mb(pid):
    if not pid:
        return "?"
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))


def free_ports():
    """The first of eleven neighbours that nobody listens on."""

    def is_free(port):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    start = 22_000 + os.getpid() % 500 * 16
    return next(base for base in range(start, 32_000, 11) if all(map(is_free, range(base, base + 11))))


class Koine:
    """A koine of a case's own."""

    def __init__(self, program, folder=None):
        port = free_ports()
        where = ["--data-dir", folder] if folder else ["--ephemeral"]
        self.said = tempfile.TemporaryFile()
        command = [program, "local", "--no-demo", "--port-base", str(port), *where]
        self.process = subprocess.Popen(command, stdout=self.said, stderr=self.said)
        self.server = Server(f"http://127.0.0.1:{port}")

    def __enter__(self):
        deadline = time.monotonic() + 30
        while True:
            try:
                self.server.answers()
                return self
            except Wrong as wrong:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    raise Wrong(f"koine does not come up: {self.log()}") from wrong
                time.sleep(0.02)

    def must_run(self, when):
        if self.process.poll() is not None:
            raise Wrong(f"expected it to go on {when}, seen it end with {self.process.returncode}: {self.log()}")

    def log(self):
        self.said.seek(0)
        return self.said.read()[-2000:].decode(errors="replace")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class World:
    """What the cases act upon."""

    def __init__(self, options):
        self.server, self.pid, self.koine = Server(options.url), options.pid, options.koine
        self.user = self.server.register()
        self.room = self.user.create_room(preset="public_chat")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--pid", type=int)
    parser.add_argument("--koine")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    by_name = {case.__name__: case for case in CASES}
    if unknown := set(options.cases) - set(by_name):
        sys.exit(f"no case is called {unknown.pop()}; there are {', '.join(by_name)}")
    w = World(options)
    wrong, skipped = 0, 0
    for case in [by_name[name] for name in options.cases] or CASES:
        began = time.monotonic()
        try:
            case(w)
            w.server.answers()
            need("afterwards, a message", w.user.send(w.room, "still here"))
        except Skipped as reason:
            skipped += 1
            print(f"SKIP   {case.__doc__}: {reason}", flush=True)
            continue
        except Wrong as reason:
            found_wrong.append(str(reason))
        seconds = time.monotonic() - began
        print(f"{'WRONG ' if found_wrong else 'ok    '} {case.__doc__} ({seconds:.1f} s)", *found_wrong, sep="\n       ", flush=True)
        wrong += bool(found_wrong)
        found_wrong.clear()
    return 1 if wrong else WITH_SKIPS if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
