"""A walk through an ordinary day of a bridge made with mautrix: ghosts, rooms, messages both ways, what is fleeting, devices.

usage: walk.py BASE_URL   with KOINE_APPSERVICE naming the registration (JSON) that the server was started with

Prints one line per step. Ends with status 1 at the first wrong thing, saying what was expected and what was seen.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from typing import Any
from urllib.parse import quote, urlparse

import aiohttp
from mautrix.appservice import AppService
from mautrix.appservice.state_store import ASStateStore
from mautrix.client.state_store import MemoryStateStore
from mautrix.errors import MForbidden, MatrixRequestError
from mautrix.types import EventType, PresenceState, RoomCreatePreset, TextMessageEventContent, MessageType

# How long something may take until it is seen.
SEEN_WITHIN_S = 20
PASSWORD = "correct horse battery staple"


class Wrong(Exception):
    """The server did something else than a bridge may expect."""


def expect(what: str, expected: Any, seen: Any) -> None:
    if expected != seen:
        raise Wrong(f"{what}: expected {expected!r}, seen {seen!r}")


class Memory(ASStateStore, MemoryStateStore):
    """What the bridge remembers of rooms."""

    def __init__(self) -> None:
        ASStateStore.__init__(self)
        MemoryStateStore.__init__(self)


class Person:
    """Somebody with an ordinary account."""

    def __init__(self, http: aiohttp.ClientSession, base: str) -> None:
        self.http, self.base = http, base
        self.user, self.token, self.device = "", "", ""

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = f"{self.base}/_matrix/client{path}"
        async with self.http.request(method, url, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = await self.call(method, path, body)
        expect(f"status of {method} {path} ({answer})", 200, status)
        return answer

    async def register(self, name: str) -> "Person":
        body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
        answer = await self.ok("POST", "/v3/register", body)
        self.user, self.token, self.device = answer["user_id"], answer["access_token"], answer["device_id"]
        return self


class Walk:
    def __init__(self, base: str, registration: dict[str, Any]) -> None:
        self.base, self.registration = base, registration
        self.events: list[Any] = []
        self.to_device: list[Any] = []
        self.counts: list[Any] = []
        self.lists: list[Any] = []
        self.asked: list[str] = []

    async def see(self, what: str, look: Any) -> Any:
        deadline = time.monotonic() + SEEN_WITHIN_S
        while time.monotonic() < deadline:
            found = look()
            if found:
                return found
            await asyncio.sleep(0.02)
        kinds = [str(event.type) for event in self.events][-20:]
        raise Wrong(f"expected {what} within {SEEN_WITHIN_S} s, seen nothing of it; the last events: {kinds}")

    def ghost(self, name: str) -> Any:
        return self.service.intent.user(f"@{self.prefix}_{name}:{self.domain}")

    # Steps, in order.

    async def start(self) -> None:
        """the framework starts, and is pinged through the server"""
        mine = self.registration
        self.prefix = mine["sender_localpart"].removesuffix("bot")
        self.http = aiohttp.ClientSession()
        # Several walks may visit the same server.
        self.suffix = f"{time.time_ns():x}"
        self.person = await Person(self.http, self.base).register(f"person-{self.suffix}")
        self.domain = self.person.user.split(":", 1)[1]
        self.service = AppService(
            server=self.base, domain=self.domain, as_token=mine["as_token"], hs_token=mine["hs_token"],
            bot_localpart=mine["sender_localpart"], id=mine["id"], state_store=Memory(),
            ephemeral_events=True, encryption_events=True,
        )
        self.service.matrix_event_handler(self.note)
        self.service.to_device_handler = self.note_message
        self.service.otk_handler = self.note_counts
        self.service.device_list_handler = self.note_lists
        self.service.query_user, self.service.query_alias = self.ask, self.ask
        await self.service.start("127.0.0.1", urlparse(mine["url"]).port)
        await self.service.intent.ensure_registered()
        expect("who the bot is", self.service.bot_mxid, (await self.service.intent.whoami()).user_id)
        took = await self.service.ping_self("ping-1")
        expect("a ping takes some milliseconds", True, 0 <= took < 10_000)

    async def note(self, event: Any) -> None:
        self.events.append(event)

    async def note_message(self, event: Any) -> None:
        self.to_device.append(event)

    async def note_counts(self, counts: Any) -> None:
        self.counts.append(counts)

    async def note_lists(self, lists: Any) -> None:
        self.lists.append(lists)

    async def ask(self, what: str) -> dict[str, Any] | None:
        """The server asks for a ghost or an alias: the bridge makes it, or says that there is none."""
        self.asked.append(what)
        if what.startswith(f"@{self.prefix}_wanted"):
            await self.service.intent.user(what).ensure_registered()
            return {"ok": True}
        if what.startswith(f"#{self.prefix}_wanted"):
            await self.service.intent.create_room(alias_localpart=what[1:].split(":")[0], preset=RoomCreatePreset.PUBLIC)
            return {"ok": True}
        return None

    async def ghosts(self) -> None:
        """ghosts are made, named, and nobody else may have their names"""
        self.anna = self.ghost("anna")
        await self.anna.ensure_registered()
        await self.anna.set_displayname("Anna (far away)")
        profile = await self.service.intent.get_profile(self.anna.mxid)
        expect("the ghost's name", "Anna (far away)", profile.displayname)
        stranger = Person(self.http, self.base)
        body = {"username": f"{self.prefix}_taken", "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
        status, answer = await stranger.call("POST", "/v3/register", body)
        expect("a stranger with a name of the bridge", (400, "M_EXCLUSIVE"), (status, answer["errcode"]))
        try:
            await self.service.intent.user(self.person.user).whoami()
            raise Wrong("expected the bridge not to act as somebody outside its namespace, seen that it may")
        except MForbidden:
            pass

    async def room(self) -> None:
        """a room with a person and ghosts"""
        self.room_id = await self.service.intent.create_room(
            name="A bridged room", invitees=[self.person.user], preset=RoomCreatePreset.PRIVATE,
            alias_localpart=f"{self.prefix}_room_{self.suffix}", power_level_override=None,
        )
        await self.person.ok("POST", f"/v3/join/{quote(self.room_id)}", {})
        joins = lambda: [e for e in self.events if e.type == EventType.ROOM_MEMBER and e.state_key == self.person.user
                         and e.content.membership.value == "join"]
        await self.see("the person's joining", joins)
        await self.anna.ensure_joined(self.room_id, bot=self.service.intent)
        members = await self.service.intent.get_joined_members(self.room_id)
        expect("members", {self.service.bot_mxid, self.person.user, self.anna.mxid}, set(members))
        status, answer = await self.person.call("PUT", f"/v3/directory/room/{quote(f'#{self.prefix}_x:{self.domain}')}",
                                                {"room_id": self.room_id})
        expect("an alias of the bridge, by a person", (400, "M_EXCLUSIVE"), (status, answer["errcode"]))

    async def outwards(self) -> None:
        """what a person says arrives once"""
        sent = await self.person.ok("PUT", f"/v3/rooms/{quote(self.room_id)}/send/m.room.message/1",
                                    {"msgtype": "m.text", "body": "hello, bridge"})
        got = await self.see("the message", lambda: [e for e in self.events if e.event_id == sent["event_id"]])
        expect("sender and text", (self.person.user, "hello, bridge"), (got[0].sender, got[0].content.body))
        self.said = sent["event_id"]

    async def inwards(self) -> None:
        """what a ghost says is seen, at the time that it was said"""
        long_ago = 1_600_000_000_000
        content = TextMessageEventContent(msgtype=MessageType.TEXT, body="from far away")
        event_id = await self.anna.send_message_event(self.room_id, EventType.ROOM_MESSAGE, content, timestamp=long_ago)
        event = await self.person.ok("GET", f"/v3/rooms/{quote(self.room_id)}/event/{quote(event_id)}")
        expect("sender, text, time", (self.anna.mxid, "from far away", long_ago),
               (event["sender"], event["content"]["body"], event["origin_server_ts"]))
        gone = await self.anna.redact(self.room_id, event_id, reason="taken back")
        event = await self.person.ok("GET", f"/v3/rooms/{quote(self.room_id)}/event/{quote(event_id)}")
        expect("content after it was taken back", {}, event["content"])
        expect("the redaction has an id", True, gone.startswith("$"))
        await self.anna.mark_read(self.room_id, self.said)
        await self.anna.set_typing(self.room_id, timeout=10_000)
        answer = await self.person.ok("GET", "/v3/sync?timeout=0")
        fleeting = answer["rooms"]["join"][self.room_id]["ephemeral"]["events"]
        kinds = {event["type"]: event["content"] for event in fleeting}
        expect("who types", [self.anna.mxid], kinds.get("m.typing", {}).get("user_ids"))
        expect("who read", True, self.anna.mxid in kinds["m.receipt"][self.said]["m.read"])

    async def fleeting(self) -> None:
        """typing, receipts and presence of a person arrive"""
        room, user = quote(self.room_id), quote(self.person.user)
        await self.person.ok("PUT", f"/v3/rooms/{room}/typing/{user}", {"typing": True, "timeout": 10_000})
        await self.see("typing", lambda: [e for e in self.events if e.type == EventType.TYPING
                                          and self.person.user in e.content.user_ids])
        await self.person.ok("POST", f"/v3/rooms/{room}/receipt/m.read/{quote(self.said)}", {})
        await self.see("the receipt", lambda: [e for e in self.events if e.type == EventType.RECEIPT])
        await self.person.ok("PUT", f"/v3/presence/{user}/status", {"presence": "unavailable", "status_msg": "out"})
        await self.see("presence", lambda: [e for e in self.events if e.type == EventType.PRESENCE
                                            and e.sender == self.person.user
                                            and e.content.presence == PresenceState.UNAVAILABLE])

    async def queries(self) -> None:
        """the bridge is asked for ghosts and aliases that are not there yet"""
        wanted = f"@{self.prefix}_wanted_{self.suffix}:{self.domain}"
        await self.person.ok("POST", f"/v3/rooms/{quote(self.room_id)}/invite", {"user_id": wanted})
        await self.see("the question for the ghost", lambda: wanted in self.asked)
        await self.person.ok("GET", f"/v3/profile/{quote(wanted)}")
        status, answer = await self.person.call("GET", f"/v3/profile/{quote(f'@{self.prefix}_none:{self.domain}')}")
        expect("a ghost that the bridge does not know", (404, "M_NOT_FOUND"), (status, answer["errcode"]))
        alias = f"#{self.prefix}_wanted_{self.suffix}:{self.domain}"
        answer = await self.person.ok("GET", f"/v3/directory/room/{quote(alias)}")
        expect("the room of the alias", True, answer["room_id"].startswith("!"))
        status, answer = await self.person.call("GET", f"/v3/directory/room/{quote(f'#{self.prefix}_none:{self.domain}')}")
        expect("an alias that the bridge does not know", (404, "M_NOT_FOUND"), (status, answer["errcode"]))

    async def devices(self) -> None:
        """a ghost has a device, its keys run low, and messages to it arrive"""
        await self.anna.create_device_msc4190("GHOSTLY", "Bridge")
        path = f"/v3/keys/upload?user_id={quote(self.anna.mxid)}&device_id=GHOSTLY"
        bridge = Person(self.http, self.base)
        bridge.token = self.registration["as_token"]
        keys = {"user_id": self.anna.mxid, "device_id": "GHOSTLY", "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
                "keys": {"curve25519:GHOSTLY": "a" * 43, "ed25519:GHOSTLY": "b" * 43}, "signatures": {}}
        one_time = {f"signed_curve25519:AAAAA{n}": {"key": "c" * 43, "signatures": {}} for n in range(3)}
        counts = await bridge.ok("POST", path, {"device_keys": keys, "one_time_keys": one_time})
        expect("keys", 3, counts["one_time_key_counts"]["signed_curve25519"])
        found = await self.person.ok("POST", "/v3/keys/query", {"device_keys": {self.anna.mxid: []}})
        expect("the ghost's devices", ["GHOSTLY"], list(found["device_keys"][self.anna.mxid]))
        claimed = await self.person.ok("POST", "/v3/keys/claim",
                                       {"one_time_keys": {self.anna.mxid: {"GHOSTLY": "signed_curve25519"}}})
        expect("a key was claimed", ["GHOSTLY"], list(claimed["one_time_keys"][self.anna.mxid]))
        message = {"messages": {self.anna.mxid: {"GHOSTLY": {"hello": "device"}}}}
        await self.person.ok("PUT", "/v3/sendToDevice/org.example.note/1", message)
        got = await self.see("the message to the device", lambda: self.to_device)
        expect("to whom", (self.anna.mxid, "GHOSTLY"), (got[0].to_user_id, got[0].to_device_id))
        # How many keys are left is told with what concerns the ghost.
        await self.person.ok("PUT", f"/v3/rooms/{quote(self.room_id)}/send/m.room.message/2",
                             {"msgtype": "m.text", "body": f"{self.anna.mxid}?"})
        left = lambda: [of for of in self.counts if self.anna.mxid in of
                        and of[self.anna.mxid]["GHOSTLY"].signed_curve25519 == 2]
        await self.see("how many keys are left", left)
        await self.person.ok("POST", "/v3/keys/upload", {"device_keys": {
            "user_id": self.person.user, "device_id": self.person.device, "algorithms": [],
            "keys": {f"ed25519:{self.person.device}": "d" * 43}, "signatures": {}}})
        await self.see("whose devices changed", lambda: [of for of in self.lists if self.person.user in of.changed])

    async def outage(self) -> None:
        """what was said while the bridge was away comes once, and in order"""
        await self.service.runner.cleanup()
        room = quote(self.room_id)
        ids = []
        for n in range(5):
            body = {"msgtype": "m.text", "body": f"while you were away {n}"}
            ids.append((await self.person.ok("PUT", f"/v3/rooms/{room}/send/m.room.message/away{n}", body))["event_id"])
        await self.service.start("127.0.0.1", urlparse(self.registration["url"]).port)
        await self.service.ping_self("ping-2")
        await self.see("the last message", lambda: [e for e in self.events if getattr(e, "event_id", "") == ids[-1]])
        seen = [event.event_id for event in self.events if getattr(event, "event_id", "") in ids]
        expect("the messages", ids, seen)

    async def end(self) -> None:
        """the person leaves, and the bridge hears of it"""
        await self.person.ok("POST", f"/v3/rooms/{quote(self.room_id)}/leave", {})
        left = lambda: [e for e in self.events if e.type == EventType.ROOM_MEMBER and e.state_key == self.person.user
                        and e.content.membership.value == "leave"]
        await self.see("the leaving", left)
        await self.service.stop()
        await self.http.close()


async def main() -> int:
    if len(sys.argv) != 2:
        print("usage: walk.py BASE_URL", file=sys.stderr)
        return 2
    with open(os.environ["KOINE_APPSERVICE"], encoding="utf-8") as file:
        registration = json.load(file)
    walk = Walk(sys.argv[1], registration)
    steps = [walk.start, walk.ghosts, walk.room, walk.outwards, walk.inwards, walk.fleeting, walk.queries, walk.devices,
             walk.outage, walk.end]
    for step in steps:
        began = time.monotonic()
        try:
            await step()
        except (Wrong, MatrixRequestError, aiohttp.ClientError, KeyError) as wrong:
            print(f"WRONG  {step.__doc__}\n       {type(wrong).__name__}: {wrong}")
            return 1
        print(f"ok     {step.__doc__} ({(time.monotonic() - began) * 1000:.0f} ms)", flush=True)
    return 0


if __name__ == "__main__":
    # The lines of this walk are the result.
    logging.disable(logging.CRITICAL)
    sys.exit(asyncio.run(main()))
