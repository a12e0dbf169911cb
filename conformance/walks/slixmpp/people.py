"""Two kinds of people for walks: one with slixmpp, one with plain requests of the client-server API of Matrix."""

import asyncio
import json
import ssl
import time
import urllib.parse
from xml.etree import ElementTree

import aiohttp
import slixmpp
import yarl
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

PASSWORD = "correct horse battery staple"
# How long something that another did may take until it is seen.
SEEN_WITHIN_S = 15

CLIENT = "{jabber:client}"
PLUGINS = [
    "xep_0004", "xep_0030", "xep_0045", "xep_0050", "xep_0054", "xep_0059", "xep_0060", "xep_0066", "xep_0084", "xep_0085",
    "xep_0092", "xep_0163", "xep_0172", "xep_0184", "xep_0191", "xep_0198", "xep_0199", "xep_0202", "xep_0249", "xep_0257",
    "xep_0280", "xep_0308", "xep_0313", "xep_0333", "xep_0352", "xep_0363", "xep_0402", "xep_0424", "xep_0425", "xep_0444", "xep_0461",
]  # fmt: skip


class Wrong(Exception):
    """The server did something else than a client may expect."""


def expect(what, expected, seen):
    if expected != seen:
        raise Wrong(f"{what}: expected {expected!r}, seen {seen!r}")


def expect_that(what, holds, seen=""):
    if not holds:
        raise Wrong(f"expected that {what}; seen {seen!r}")


class Xmpp:
    """One session of somebody. What comes is kept in order until it is looked for."""

    def __init__(self, jid, port, certificate, password=PASSWORD, direct_tls=False, shows=None):
        context = ssl.create_default_context(cafile=certificate) if certificate else ssl.create_default_context()
        if not certificate:
            # The certificate is one that koine made for itself.
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.slix = slixmpp.ClientXMPP(jid, password, ssl_context=context)
        if shows:
            # Files of a certificate of its own, and of the key of that.
            self.slix.certfile, self.slix.keyfile = shows
        self.port = port
        self.slix.enable_direct_tls, self.slix.enable_starttls = direct_tls, not direct_tls
        for plugin in PLUGINS:
            self.slix.register_plugin(plugin)
        for node in ("urn:xmpp:bookmarks:1", "urn:xmpp:avatar:metadata"):
            self.slix["xep_0163"].add_interest(node)
        # A walk answers receipts when it wants to.
        self.slix["xep_0184"].auto_ack = False
        self.heard = []
        self.came = asyncio.Event()
        for name in ("message", "presence"):
            self.slix.register_handler(Callback(f"walk {name}", MatchXPath(f"{CLIENT}{name}"), self._hear))

    def _hear(self, stanza):
        self.heard.append(stanza.xml)
        self.came.set()

    @property
    def jid(self):
        return self.slix.boundjid.full

    @property
    def bare(self):
        return self.slix.boundjid.bare

    def __getitem__(self, plugin):
        return self.slix[plugin]

    async def log_in(self):
        """Connects and waits for the session; the name of the mechanism."""
        ends = {name: self.slix.wait_until(name, SEEN_WITHIN_S) for name in ("session_start", "failed_all_auth")}
        tasks = {asyncio.ensure_future(wait): name for name, wait in ends.items()}
        self.slix.connect("127.0.0.1", self.port)
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        ended = {tasks[task] for task in done}
        if "session_start" not in ended:
            raise PermissionError("not let in")
        return self.slix["feature_mechanisms"].mech.name

    async def be_here(self):
        await self.slix.get_roster()
        self.slix.send_presence()

    async def cut(self):
        """The connection is gone, without a word."""
        gone = self.slix.wait_until("disconnected", SEEN_WITHIN_S)
        self.slix.transport.abort()
        await gone

    async def leave(self):
        await self.slix.disconnect(wait=1)

    def send(self, xml):
        """Sends a stanza as it is written, counted like others (XEP-0198)."""
        element = ElementTree.fromstring(xml.replace(" ", " xmlns='jabber:client' ", 1))
        kind = {"message": self.slix.Message, "presence": self.slix.Presence}[element.tag.split("}")[1]]
        kind(xml=element).send()

    async def hears(self, what, holds):
        """The first stanza for which `holds` is true, of those that came and were not looked for yet."""
        deadline = time.monotonic() + SEEN_WITHIN_S
        while True:
            for at, stanza in enumerate(self.heard):
                if holds(stanza):
                    del self.heard[: at + 1]
                    return stanza
            self.came.clear()
            try:
                await asyncio.wait_for(self.came.wait(), deadline - time.monotonic())
            except (TimeoutError, asyncio.TimeoutError):
                seen = [slixmpp.xmlstream.tostring(stanza) for stanza in self.heard]
                raise Wrong(f"{self.jid} expected {what} within {SEEN_WITHIN_S} s; seen {seen}") from None

    async def hears_said(self, body):
        return await self.hears(f"a message {body!r}", lambda m: said(m) == body)

    async def hears_child(self, tag):
        """The first message with a child of that name; the message."""
        return await self.hears(f"a message with {tag}", lambda m: m.find(tag) is not None)

    async def sends(self, to, body, kind="chat"):
        """Says something; the id it was given."""
        message = self.slix.make_message(mto=to, mbody=body, mtype=kind)
        message["id"] = message["id"] or self.slix.new_id()
        message.send()
        return message["id"]


def said(stanza):
    """The text of a message that is no copy, error, or history."""
    if stanza.tag != f"{CLIENT}message" or stanza.get("type") == "error":
        return None
    return stanza.findtext(f"{CLIENT}body")


def stanza_id(stanza):
    child = stanza.find("{urn:xmpp:sid:0}stanza-id")
    return None if child is None else child.get("id")


class Matrix:
    """One device of somebody."""

    def __init__(self, base_url, session):
        self.base_url, self.session = base_url, session
        self.token = self.user = self.since = None
        self.transactions = 0
        # Events of timelines that were not looked for yet, by room.
        self.heard = {}

    async def call(self, method, path, body=None, *, raw=None, fine=True):
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = raw if raw is not None else (json.dumps(body) if body is not None else None)
        # Not escaped a second time.
        url = yarl.URL(self.base_url + path, encoded=True)
        async with self.session.request(method, url, data=data, headers=headers) as response:
            seen = await response.read()
            if fine and response.status != 200:
                raise Wrong(f"{method} {path}: expected success, seen {response.status} {seen[:300]!r}")
            kind = response.content_type
            return json.loads(seen) if kind == "application/json" else seen

    async def register(self, name):
        body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
        seen = await self.call("POST", "/_matrix/client/v3/register", body)
        self.token, self.user = seen["access_token"], seen["user_id"]
        return self

    def room(self, room, *rest):
        return "/_matrix/client/v3/rooms/" + "/".join(quote(part) for part in (room, *rest))

    async def send(self, room, content, kind="m.room.message"):
        self.transactions += 1
        seen = await self.call("PUT", self.room(room, "send", kind, str(self.transactions)), content)
        return seen["event_id"]

    async def says(self, room, body, **more):
        return await self.send(room, {"msgtype": "m.text", "body": body, **more})

    async def redact(self, room, event):
        self.transactions += 1
        return (await self.call("PUT", self.room(room, "redact", event, str(self.transactions)), {}))["event_id"]

    async def join(self, room):
        return (await self.call("POST", f"/_matrix/client/v3/join/{quote(room)}", {}))["room_id"]

    async def sync_until(self, what, find):
        """Syncs until `find` returns something for a response, and returns that."""
        deadline = time.monotonic() + SEEN_WITHIN_S
        while time.monotonic() < deadline:
            since = f"&since={quote(self.since)}" if self.since else ""
            seen = await self.call("GET", f"/_matrix/client/v3/sync?timeout=1000{since}")
            self.since = seen["next_batch"]
            for room, news in seen.get("rooms", {}).get("join", {}).items():
                self.heard.setdefault(room, []).extend(news.get("timeline", {}).get("events", []))
            found = find(seen)
            if found:
                return found
        raise Wrong(f"{self.user} expected {what} in a sync within {SEEN_WITHIN_S} s, seen nothing of it")

    async def event(self, room, what, holds):
        """The first event of a room's timeline that is wanted, of those that came and were not looked for yet."""

        def find(_seen=None):
            events = self.heard.get(room, [])
            for at, event in enumerate(events):
                if holds(event):
                    del events[: at + 1]
                    return event
            return None

        return find() or await self.sync_until(what, find)

    async def hears_said(self, room, body):
        return await self.event(room, f"a message {body!r}", lambda e: e["content"].get("body") == body)

    async def ephemeral(self, room, kind, holds):
        def find(seen):
            events = seen.get("rooms", {}).get("join", {}).get(room, {}).get("ephemeral", {}).get("events", [])
            return next((e for e in events if e["type"] == kind and holds(e["content"])), None)

        return await self.sync_until(kind, find)

    async def invitation(self):
        """The next room that somebody asks this one into."""
        return await self.sync_until("an invitation", lambda seen: next(iter(seen.get("rooms", {}).get("invite", {})), None))


def quote(part):
    return urllib.parse.quote(part, safe="")


def client_session():
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
