"""A walk with Profanity, as a person at a terminal has it: Alice and Carol use it, Bob uses Matrix, one server.

usage: walk.py BASE_URL

Prints one line per step. Ends with status 1 at the first wrong thing, saying what was expected and what was seen.

Profanity 0.13 knows no reactions, replies and retractions: what is shown of them is what they say for programs like it.
"""

import asyncio
import pathlib
import sys
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "slixmpp"))

from people import Matrix, Wrong, client_session, expect, expect_that  # noqa: E402
from terminal import Profanity  # noqa: E402

# koine listens for XMPP beside its web server: three ports further with STARTTLS.
STARTTLS = 3


class Walk:
    """The steps, in order. Each method is one; its first line of documentation is what is printed."""

    def __init__(self, base_url, session):
        self.base_url, self.session = base_url, session
        self.port = urllib.parse.urlsplit(base_url).port + STARTTLS
        # Several walks may visit the same server.
        self.suffix = format(time.time_ns() // 1000, "x")
        self.alice, self.carol = Profanity("Alice"), Profanity("Carol")

    def jid(self, name):
        return f"{name}-{self.suffix}@{self.host}"

    async def register(self):
        """register three accounts"""
        people = {}
        for name in ("alice", "bob", "carol"):
            people[name] = await Matrix(self.base_url, self.session).register(f"{name}-{self.suffix}")
        self.bob, self.alice_id = people["bob"], people["alice"].user
        self.domain = self.alice_id.split(":", 1)[1]
        self.host = self.domain.split(":")[0]

    async def log_in(self):
        """log in with STARTTLS"""
        for client, name in ((self.alice, "alice"), (self.carol, "carol")):
            await client.log_in(self.jid(name), self.port)
            for command in ("/receipts request on", "/receipts send on", "/correction on", "/intype titlebar on"):
                client.says(command)
            client.says("/presence room all")

    async def contacts(self):
        """subscribe to each other's presence"""
        self.alice.says(f"/roster add {self.jid('carol')} Carol")
        self.alice.says(f"/sub request {self.jid('carol')}")
        await self.carol.shows("Received authorization request")
        self.carol.says(f"/sub allow {self.jid('alice')}")
        self.carol.says(f"/sub request {self.jid('alice')}")
        await self.alice.shows("Received authorization request")
        self.alice.says(f"/sub allow {self.jid('alice').replace('alice', 'carol')}")
        self.alice.says("/win 1")
        self.alice.says("/roster online")
        await self.alice.shows("Carol")

    async def first_words(self):
        """write to Bob, who uses Matrix, and read his answer"""
        self.alice.says(f"/msg {self.jid('bob')} hello from a terminal")
        self.room = await self.bob.invitation()
        await self.bob.join(self.room)
        event = await self.bob.hears_said(self.room, "hello from a terminal")
        expect("who said it", self.alice_id, event["sender"])
        self.first = event["event_id"]
        await self.bob.says(self.room, "hello from Matrix")
        await self.alice.shows("hello from Matrix")

    async def edits(self):
        """edit a message, both ways"""
        self.alice.says("/correct hello from my terminal")
        holds = lambda e: e["content"].get("m.relates_to", {}).get("rel_type") == "m.replace"
        event = await self.bob.event(self.room, "an edit", holds)
        expect("what is edited", self.first, event["content"]["m.relates_to"]["event_id"])
        expect("the new text", "hello from my terminal", event["content"]["m.new_content"]["body"])
        wrong = await self.bob.says(self.room, "see you at noom")
        await self.alice.shows("see you at noom")
        new = {"msgtype": "m.text", "body": "see you at noon"}
        relation = {"rel_type": "m.replace", "event_id": wrong}
        await self.bob.says(self.room, "* see you at noon", **{"m.new_content": new, "m.relates_to": relation})
        screen = await self.alice.shows("see you at noon")
        expect_that("the old text is gone", "see you at noom" not in screen, screen)

    async def replies(self):
        """read an answer to a certain message, a reaction and what is taken back"""
        answer = await self.bob.says(self.room, "yes, at noon", **{"m.relates_to": {"m.in_reply_to": {"event_id": self.first}}})
        await self.alice.shows("yes, at noon")
        relation = {"rel_type": "m.annotation", "event_id": self.first, "key": "👍"}
        await self.bob.send(self.room, {"m.relates_to": relation}, "m.reaction")
        await self.alice.logs("RECV", "urn:xmpp:reactions:0")
        await self.bob.redact(self.room, answer)
        await self.alice.logs("RECV", "urn:xmpp:message-retract:1")

    async def files(self):
        """send a file, both ways"""
        letter = self.alice.home / "letter.txt"
        letter.write_text("dear Bob")
        self.alice.says(f"/sendfile {letter}")
        event = await self.bob.event(self.room, "a file", lambda e: "url" in e["content"])
        server, media = event["content"]["url"].removeprefix("mxc://").split("/")
        seen = await self.bob.call("GET", f"/_matrix/client/v1/media/download/{server}/{media}")
        expect("the letter", b"dear Bob", seen)
        uploaded = await self.bob.call("POST", "/_matrix/media/v3/upload?filename=answer.txt", raw=b"dear Alice")
        content = {"msgtype": "m.file", "body": "answer.txt", "url": uploaded["content_uri"], "info": {"mimetype": "text/plain", "size": 10}}
        await self.bob.send(self.room, content)
        screen = await self.alice.shows("answer.txt")
        words = [word for word in screen.split() if word.startswith("http") and word.endswith("answer.txt")]
        expect_that("there is an address to fetch it from", words, screen)
        async with self.session.get(words[-1]) as response:
            expect("the answer", b"dear Alice", await response.read())

    async def typing(self):
        """typing, both ways"""
        self.alice.types("let me th")
        await self.bob.ephemeral(self.room, "m.typing", lambda content: self.alice_id in content["user_ids"])
        self.alice.says("ink")
        await self.bob.hears_said(self.room, "let me think")
        path = self.bob.room(self.room, "typing", self.bob.user)
        await self.bob.call("PUT", path, {"typing": True, "timeout": 30000})
        # It shows this of sessions alone, and Bob has none.
        await self.alice.logs("RECV", "composing", self.jid("bob"))
        await self.bob.call("PUT", path, {"typing": False})

    async def receipts(self):
        """receipts between two who use XMPP, and a read marker of one who does not"""
        self.alice.says(f"/msg {self.jid('carol')} did you get this?")
        await self.carol.logs("RECV", "did you get this?")
        await self.alice.logs("RECV", "urn:xmpp:receipts", "received")
        self.alice.says(f"/msg {self.jid('bob')} and have you read this?")
        event = (await self.bob.hears_said(self.room, "and have you read this?"))["event_id"]
        await self.bob.call("POST", self.bob.room(self.room, "receipt", "m.read", event), {})
        await self.alice.logs("RECV", "urn:xmpp:chat-markers:0", "displayed")

    async def history(self):
        """come back, and read what was said meanwhile"""
        self.alice.says("/disconnect")
        await self.alice.shows("logged out")
        await self.bob.says(self.room, "while you were away")
        self.alice.says("/mam on")
        self.alice.says(f"/connect {self.jid('alice')} server 127.0.0.1 port {self.port} tls trust")
        await self.alice.shows("Enter password:")
        from people import PASSWORD

        self.alice.says(PASSWORD)
        await self.alice.logs("RECV", "while you were away")
        self.alice.says(f"/msg {self.jid('bob')}")
        await self.alice.shows("while you were away")

    async def make_room(self):
        """make a room, which Bob enters by Matrix and Carol by XMPP"""
        name = f"den-{self.suffix}"
        self.muc = f"{name}@rooms.{self.host}"
        self.alice.says(f"/join {self.muc} nick Alice")
        await self.alice.shows("Room locked")
        self.alice.says("/room accept")
        await self.alice.shows("Room unlocked")
        self.den = await self.bob.join(f"#{name}:{self.domain}")
        await self.alice.shows("has joined")
        self.carol.says(f"/join {self.muc} nick Carol")
        await self.alice.shows("Carol has joined")

    async def in_room(self):
        """speak and correct in the room, both ways"""
        self.alice.says("welcome to the den")
        await self.carol.shows("Alice: welcome to the den")
        event = await self.bob.hears_said(self.den, "welcome to the den")
        self.alice.says("/correct be welcome in the den")
        holds = lambda e: e["content"].get("m.relates_to", {}).get("rel_type") == "m.replace"
        seen = await self.bob.event(self.den, "an edit", holds)
        expect("what is edited", event["event_id"], seen["content"]["m.relates_to"]["event_id"])
        said = await self.bob.says(self.den, "thank yuo")
        for client in (self.alice, self.carol):
            await client.shows("thank yuo")
        new = {"msgtype": "m.text", "body": "thank you"}
        await self.bob.says(self.den, "* thank you", **{"m.new_content": new, "m.relates_to": {"rel_type": "m.replace", "event_id": said}})
        await self.carol.shows("thank you")
        relation = {"rel_type": "m.annotation", "event_id": event["event_id"], "key": "🎈"}
        await self.bob.send(self.den, {"m.relates_to": relation}, "m.reaction")
        await self.carol.logs("RECV", "urn:xmpp:reactions:0", "groupchat")

    async def subject(self):
        """change the subject, both ways"""
        self.alice.says('/subject set "On dens"')
        topic = await self.bob.event(self.den, "a topic", lambda e: e["type"] == "m.room.topic")
        expect("the topic", "On dens", topic["content"]["topic"])
        await self.carol.shows("On dens")

    async def invite(self):
        """be asked into a room by Matrix, and ask somebody in"""
        made = await self.bob.call("POST", "/_matrix/client/v3/createRoom", {"name": "Quiet", "preset": "private_chat", "invite": [f"@{self.jid('carol').split('@')[0]}:{self.domain}"]})
        self.carol.says("/win 1")
        await self.carol.logs("RECV", "jabber:x:conference")
        await self.carol.shows("invite")
        words = [word for word in self.carol.log().split('"') if "@rooms." in word and "/" not in word]
        self.carol.says(f"/join {words[-1]} nick Carol")
        await self.bob.sync_until("Carol in the room", lambda seen: any(
            e["type"] == "m.room.member" and e["content"]["membership"] == "join" and e["sender"].startswith("@carol")
            for e in seen.get("rooms", {}).get("join", {}).get(made["room_id"], {}).get("timeline", {}).get("events", [])
        ))
        self.alice.says(f"/win {self.muc}")
        made = await self.bob.call("POST", self.bob.room(self.den, "leave"), {})
        await self.alice.shows("has left the room")
        self.alice.says(f"/invite send {self.jid('bob')} come-back")
        expect("where he is asked in", self.den, await self.bob.invitation())
        await self.bob.join(self.den)

    async def kick_and_ban(self):
        """make somebody leave, and keep somebody out"""
        self.carol.says(f"/win {self.muc}")
        self.alice.says("/kick Carol noise")
        await self.carol.shows("Kicked from")
        self.alice.says(f"/ban {self.jid('bob')} and quiet now")
        holds = lambda seen: next((e for e in seen.get("rooms", {}).get("leave", {}).get(self.den, {}).get("timeline", {}).get("events", []) if e["type"] == "m.room.member" and e["content"]["membership"] == "ban"), None)
        event = await self.bob.sync_until("to be banned", holds)
        expect("by whom", self.alice_id, event["sender"])

    STEPS = [
        register, log_in, contacts, first_words, edits, replies, files, typing, receipts, history, make_room, in_room,
        subject, invite, kick_and_ban,
    ]  # fmt: skip

    async def take(self):
        try:
            for step in self.STEPS:
                print(step.__doc__, flush=True)
                await step(self)
        finally:
            for client in (self.alice, self.carol):
                client.end()


async def main(base_url):
    async with client_session() as session:
        await Walk(base_url, session).take()


if __name__ == "__main__":
    began = time.monotonic()
    try:
        asyncio.run(main(sys.argv[1]))
    except Wrong as wrong:
        print(f"WRONG: {wrong}", file=sys.stderr)
        sys.exit(1)
    print(f"all well after {time.monotonic() - began:.1f} s")
