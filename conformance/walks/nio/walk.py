"""A walk through an ordinary day with matrix-nio: two people, three devices, one room.

usage: walk.py BASE_URL

Prints one line per step. Ends with status 1 at the first wrong thing, saying what was expected and what was seen.
"""

import asyncio
import struct
import sys
import time
import zlib

from nio import AsyncClient, AsyncClientConfig, MessageDirection, Response, RoomPreset
from nio.responses import ErrorResponse

PASSWORD = "correct horse battery staple"
# How long something that another device did may take until a sync shows it.
SEEN_WITHIN_S = 10
MESSAGES = 200


class Wrong(Exception):
    """The server did something else than a client may expect."""


def expect(what, expected, seen):
    if expected != seen:
        raise Wrong(f"{what}: expected {expected!r}, seen {seen!r}")


def expect_that(what, holds, seen=""):
    if not holds:
        raise Wrong(f"expected that {what}; seen {seen!r}")


def fine(response):
    """The response, unless it is an error."""
    if isinstance(response, ErrorResponse) or not isinstance(response, Response):
        raise Wrong(f"expected success, seen {response!r}")
    return response


class Device:
    """One logged-in client that follows its own sync from the place where it last stopped."""

    def __init__(self, base_url, name):
        config = AsyncClientConfig(encryption_enabled=False, max_limit_exceeded=5)
        self.nio = AsyncClient(base_url, name, config=config)
        self.since = None

    async def sync(self, timeout_ms=0):
        seen = fine(await self.nio.sync(timeout=timeout_ms, since=self.since))
        self.since = seen.next_batch
        return seen

    async def sync_until(self, what, find):
        """Syncs until `find` returns something for a response, and returns that."""
        deadline = time.monotonic() + SEEN_WITHIN_S
        while time.monotonic() < deadline:
            found = find(await self.sync(timeout_ms=1000))
            if found:
                return found
        raise Wrong(f"expected {what} in a sync within {SEEN_WITHIN_S} s, seen nothing of it")

    async def event(self, room_id, event_id, what):
        """The event with this id, as it comes down the timeline."""

        def find(seen):
            room = seen.rooms.join.get(room_id)
            events = room.timeline.events if room else []
            return next((e for e in events if e.event_id == event_id), None)

        return await self.sync_until(what, find)


def message(body, **more):
    return {"msgtype": "m.text", "body": body, **more}


def png(width, height):
    """A picture with a gradient, so that it does not shrink to nothing."""
    rows = b"".join(b"\0" + bytes(v for x in range(width) for v in (x % 256, y % 256, (x * y) % 256)) for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Walk:
    """The steps, in order. Each method is one; its first line of documentation is what is printed."""

    def __init__(self, base_url):
        self.base_url = base_url
        self.devices = []
        # Several walks may visit the same server.
        suffix = format(time.time_ns() // 1000, "x")
        self.alice_name, self.bob_name = f"alice-{suffix}", f"bob-{suffix}"

    def device(self, name):
        device = Device(self.base_url, name)
        self.devices.append(device)
        return device

    async def register(self):
        """register two accounts"""
        self.alice, self.bob = self.device(self.alice_name), self.device(self.bob_name)
        for device, name in ((self.alice, self.alice_name), (self.bob, self.bob_name)):
            seen = fine(await device.nio.register(name, PASSWORD, device_name="walk"))
            expect_that("the user id begins with the name", seen.user_id.startswith(f"@{name}:"), seen.user_id)
        again = await self.device(self.bob_name).nio.register(self.bob_name, PASSWORD)
        expect("errcode of a name that is taken", "M_USER_IN_USE", getattr(again, "status_code", again))

    async def log_in(self):
        """log in on a second device"""
        self.phone = self.device(self.alice_name)
        seen = fine(await self.phone.nio.login(PASSWORD, device_name="phone"))
        expect("user of the second device", self.alice.nio.user_id, seen.user_id)
        expect_that("the second device has an id of its own", seen.device_id != self.alice.nio.device_id, seen.device_id)
        wrong = await self.device(self.alice_name).nio.login("not the password")
        expect("errcode of a wrong password", "M_FORBIDDEN", getattr(wrong, "status_code", wrong))
        names = {d.id: d.display_name for d in fine(await self.alice.nio.devices()).devices}
        expect("name of the second device", "phone", names.get(seen.device_id))
        for device in (self.alice, self.bob, self.phone):
            await device.sync()

    async def create(self):
        """create a room"""
        preset = RoomPreset.private_chat
        self.room = fine(await self.alice.nio.room_create(name="The walk", topic="one step at a time", preset=preset)).room_id
        await self.alice.sync_until("the new room", lambda s: self.room in s.rooms.join)
        state = {(e["type"], e["state_key"]): e["content"] for e in fine(await self.alice.nio.room_get_state(self.room)).events}
        expect("name of the room", "The walk", state[("m.room.name", "")]["name"])
        expect("topic of the room", "one step at a time", state[("m.room.topic", "")]["topic"])
        expect("join rule of a private room", "invite", state[("m.room.join_rules", "")]["join_rule"])

    async def invite(self):
        """invite, and refuse who is not invited"""
        refused = await self.bob.nio.join(self.room)
        expect("errcode for one who is not invited", "M_FORBIDDEN", getattr(refused, "status_code", refused))
        fine(await self.alice.nio.room_invite(self.room, self.bob.nio.user_id))
        invitation = await self.bob.sync_until("the invitation", lambda s: s.rooms.invite.get(self.room))
        names = [e.name for e in invitation.invite_state if type(e).__name__ == "InviteNameEvent"]
        expect("name of the room in the invitation", ["The walk"], names)

    async def join(self):
        """join"""
        fine(await self.bob.nio.join(self.room))
        await self.bob.sync_until("the joined room", lambda s: self.room in s.rooms.join)
        members = {m.user_id for m in fine(await self.alice.nio.joined_members(self.room)).members}
        expect("members", {self.alice.nio.user_id, self.bob.nio.user_id}, members)

    async def send(self):
        """send"""
        content = message("Good morning")
        sent = fine(await self.alice.nio.room_send(self.room, "m.room.message", content, tx_id="first"))
        again = fine(await self.alice.nio.room_send(self.room, "m.room.message", content, tx_id="first"))
        expect("event id of a repeated transaction", sent.event_id, again.event_id)
        self.first = sent.event_id
        seen = await self.bob.event(self.room, self.first, "the message")
        expect("text", "Good morning", seen.body)
        expect("sender", self.alice.nio.user_id, seen.sender)
        mine = await self.alice.event(self.room, self.first, "one's own message")
        expect("own transaction id", "first", mine.source.get("unsigned", {}).get("transaction_id"))

    async def edit(self):
        """edit"""
        relation = {"rel_type": "m.replace", "event_id": self.first}
        content = message("* Good evening", **{"m.new_content": message("Good evening"), "m.relates_to": relation})
        self.edited = fine(await self.alice.nio.room_send(self.room, "m.room.message", content)).event_id
        seen = await self.bob.event(self.room, self.edited, "the edit")
        expect("new text", "Good evening", seen.source["content"]["m.new_content"]["body"])
        original = fine(await self.bob.nio.room_get_event(self.room, self.first)).event
        bundled = original.source.get("unsigned", {}).get("m.relations", {}).get("m.replace", {})
        expect("edit bundled with the original", self.edited, bundled.get("event_id"))

    async def react(self):
        """react"""
        content = {"m.relates_to": {"rel_type": "m.annotation", "event_id": self.first, "key": "👍"}}
        sent = fine(await self.bob.nio.room_send(self.room, "m.reaction", content))
        seen = await self.alice.event(self.room, sent.event_id, "the reaction")
        expect("reaction", "👍", seen.source["content"]["m.relates_to"]["key"])
        twice = await self.bob.nio.room_send(self.room, "m.reaction", content)
        expect("errcode of the same reaction twice", "M_DUPLICATE_ANNOTATION", getattr(twice, "status_code", twice))

    async def reply(self):
        """reply"""
        content = message("And to you", **{"m.relates_to": {"m.in_reply_to": {"event_id": self.first}}})
        sent = fine(await self.bob.nio.room_send(self.room, "m.room.message", content))
        seen = await self.alice.event(self.room, sent.event_id, "the reply")
        expect("what is replied to", self.first, seen.source["content"]["m.relates_to"]["m.in_reply_to"]["event_id"])
        self.replied = sent.event_id

    async def redact(self):
        """redact"""
        sent = fine(await self.bob.nio.room_send(self.room, "m.room.message", message("a slip of the tongue")))
        await self.alice.event(self.room, sent.event_id, "what is going to be redacted")
        redaction = fine(await self.bob.nio.room_redact(self.room, sent.event_id, reason="slip"))
        seen = await self.alice.event(self.room, redaction.event_id, "the redaction")
        expect("reason", "slip", seen.source["content"].get("reason"))
        gone = fine(await self.alice.nio.room_get_event(self.room, sent.event_id)).event
        expect("content after redaction", {}, gone.source["content"])

    async def media(self):
        """upload and fetch media"""
        self.picture = png(320, 200)
        uploaded, _ = await self.alice.nio.upload(
            lambda *_: self.picture, content_type="image/png", filename="hill.png", filesize=len(self.picture)
        )
        self.mxc = fine(uploaded).content_uri
        content = {"msgtype": "m.image", "body": "hill.png", "url": self.mxc}
        sent = fine(await self.alice.nio.room_send(self.room, "m.room.message", content))
        seen = await self.bob.event(self.room, sent.event_id, "the picture's event")
        fetched = fine(await self.bob.nio.download(mxc=seen.source["content"]["url"]))
        expect("content type", "image/png", fetched.content_type)
        expect("file name", "hill.png", fetched.filename)
        expect_that("the bytes are the same", fetched.body == self.picture, len(fetched.body))

    async def thumbnail(self):
        """fetch a thumbnail"""
        server, media_id = self.mxc.removeprefix("mxc://").split("/")
        thumb = fine(await self.bob.nio.thumbnail(server, media_id, 64, 64))
        expect_that("a thumbnail is an image", thumb.content_type.startswith("image/"), thumb.content_type)
        expect_that("a thumbnail is smaller", 0 < len(thumb.body) < len(self.picture), len(thumb.body))
        if thumb.content_type == "image/png":
            width, height = struct.unpack(">II", thumb.body[16:24])
            expect_that("it keeps the proportions", abs(width / height - 320 / 200) < 0.05, (width, height))

    async def paginate(self):
        """paginate back 200 messages"""
        await self.bob.sync()
        for n in range(MESSAGES):
            sender = self.alice if n % 2 else self.bob
            self.last = fine(await sender.nio.room_send(self.room, "m.room.message", message(f"message {n}"))).event_id
        await self.alice.sync()
        gap = fine(await self.bob.nio.sync(since=self.bob.since, sync_filter={"room": {"timeline": {"limit": 10}}}))
        self.bob.since = gap.next_batch
        timeline = gap.rooms.join[self.room].timeline
        expect("timeline is limited", True, timeline.limited)
        bodies = [e.body for e in reversed(timeline.events)]
        expect("the newest ten", [f"message {n}" for n in range(MESSAGES - 1, MESSAGES - 11, -1)], bodies)
        start, pages = timeline.prev_batch, 0
        while start and len(bodies) < MESSAGES:
            page = fine(await self.bob.nio.room_messages(self.room, start, direction=MessageDirection.back, limit=40))
            bodies += [getattr(e, "body", None) for e in page.chunk]
            start, pages = page.end, pages + 1
            expect_that("pages come to an end", pages < 20, pages)
        expect("all of them, newest first", [f"message {n}" for n in range(MESSAGES - 1, -1, -1)], bodies[:MESSAGES])
        while start:
            page = fine(await self.bob.nio.room_messages(self.room, start, direction=MessageDirection.back, limit=40))
            last, start, pages = (page.chunk or [last])[-1], page.end, pages + 1
            expect_that("pages come to an end", pages < 20, pages)
        expect("the very first event", "m.room.create", last.source["type"])

    async def receipts(self):
        """receipts"""
        await self.alice.sync()
        fine(await self.bob.nio.update_receipt_marker(self.room, self.last))

        def find(seen):
            room = seen.rooms.join.get(self.room)
            events = [e for e in (room.ephemeral if room else []) if type(e).__name__ == "ReceiptEvent"]
            return [r for e in events for r in e.receipts if r.user_id == self.bob.nio.user_id]

        receipts = await self.alice.sync_until("the receipt", find)
        expect("event of the receipt", [self.last], [r.event_id for r in receipts])

    async def typing(self):
        """typing"""
        fine(await self.bob.nio.room_typing(self.room, True, timeout=20000))

        def find(seen):
            room = seen.rooms.join.get(self.room)
            events = [e for e in (room.ephemeral if room else []) if type(e).__name__ == "TypingNoticeEvent"]
            return [(e.users,) for e in events]

        expect("who types", ([self.bob.nio.user_id],), (await self.alice.sync_until("typing", find))[-1])
        fine(await self.bob.nio.room_typing(self.room, False))
        expect("who types afterwards", ([],), (await self.alice.sync_until("the end of typing", find))[-1])

    async def read_markers(self):
        """read markers"""
        fine(await self.alice.nio.room_read_markers(self.room, self.replied, read_event=self.last))

        def find(seen):
            room = seen.rooms.join.get(self.room)
            return [e.event_id for e in (room.account_data if room else []) if type(e).__name__ == "FullyReadEvent"]

        expect("fully read marker on the other device", [self.replied], await self.phone.sync_until("the marker", find))

    async def second_device(self):
        """the second device sees the same"""
        newcomer = self.device(self.alice_name)
        fine(await newcomer.nio.login(PASSWORD))
        timelines = []
        for device in (self.alice, self.phone, newcomer):
            limit = {"room": {"timeline": {"limit": 50}}}
            device.nio.next_batch = None  # from the beginning
            seen = fine(await device.nio.sync(sync_filter=limit, full_state=True))
            timelines.append([e.event_id for e in seen.rooms.join[self.room].timeline.events])
        expect("length of the timeline", 50, len(timelines[0]))
        expect("timeline of the second device", timelines[0], timelines[1])
        expect("timeline of a third device", timelines[0], timelines[2])
        fine(await newcomer.nio.logout())

    async def profile(self):
        """a change of profile is seen"""
        fine(await self.bob.nio.set_displayname("Bob the Walker"))
        fine(await self.bob.nio.set_avatar(self.mxc))
        expect("display name", "Bob the Walker", fine(await self.alice.nio.get_displayname(self.bob.nio.user_id)).displayname)
        expect("avatar", self.mxc, fine(await self.alice.nio.get_profile(self.bob.nio.user_id)).avatar_url)

        def find(seen):
            room = seen.rooms.join.get(self.room)
            members = [e for e in (room.timeline.events if room else []) if e.source["type"] == "m.room.member"]
            return any(e.content == expected for e in members)

        expected = {"membership": "join", "displayname": "Bob the Walker", "avatar_url": self.mxc}
        await self.alice.sync_until("the member event with name and avatar", find)

    async def leave(self):
        """leave"""
        fine(await self.bob.nio.room_leave(self.room))
        await self.bob.sync_until("the room among those left", lambda s: self.room in s.rooms.leave)
        refused = await self.bob.nio.room_send(self.room, "m.room.message", message("one more thing"))
        expect("errcode for one who left", "M_FORBIDDEN", getattr(refused, "status_code", refused))
        fine(await self.bob.nio.room_forget(self.room))

    async def log_out(self):
        """log out, and the token is refused"""
        token = self.phone.nio.access_token
        fine(await self.phone.nio.logout())
        self.phone.nio.access_token = token
        refused = await self.phone.nio.sync()
        expect("errcode after logging out", "M_UNKNOWN_TOKEN", getattr(refused, "status_code", refused))
        fine(await self.alice.nio.sync())
        fine(await self.bob.nio.logout(all_devices=True))
        fine(await self.alice.nio.logout())

    STEPS = (
        register, log_in, create, invite, join, send, edit, react, reply, redact, media, thumbnail, paginate,
        receipts, typing, read_markers, second_device, profile, leave, log_out,
    )  # fmt: skip

    async def go(self):
        """Takes all steps; the exit status."""
        try:
            for step in self.STEPS:
                began = time.monotonic()
                try:
                    await step(self)
                except Wrong as wrong:
                    print(f"WRONG  {step.__doc__}\n       {wrong}", flush=True)
                    return 1
                except Exception as error:  # what the library could make nothing of
                    print(f"WRONG  {step.__doc__}\n       {type(error).__name__}: {error}", flush=True)
                    return 1
                print(f"ok     {step.__doc__} ({(time.monotonic() - began) * 1000:.0f} ms)", flush=True)
            return 0
        finally:
            for device in self.devices:
                await device.nio.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(asyncio.run(Walk(sys.argv[1]).go()))
