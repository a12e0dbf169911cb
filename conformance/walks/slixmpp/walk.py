"""A walk through an ordinary day with slixmpp: Alice with two sessions and Carol by XMPP, Bob by Matrix, one server.

usage: walk.py BASE_URL

Prints one line per step. Ends with status 1 at the first wrong thing, saying what was expected and what was seen.
"""

import asyncio
import hashlib
import io
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse
import zlib
from xml.etree import ElementTree

import slixmpp
from people import CLIENT, SEEN_WITHIN_S, Matrix, Wrong, Xmpp, client_session, expect, expect_that, said, stanza_id

# koine listens for XMPP beside its web server: three ports further with STARTTLS, four with TLS from the beginning.
STARTTLS, DIRECT_TLS = 3, 4
MESSAGES = 25

CARBON = {kind: f"{{urn:xmpp:carbons:2}}{kind}" for kind in ("sent", "received")}
REACTIONS, REACTION = "{urn:xmpp:reactions:0}reactions", "{urn:xmpp:reactions:0}reaction"
REPLACE = "{urn:xmpp:message-correct:0}replace"
RETRACT, MODERATED = "{urn:xmpp:message-retract:1}retract", "{urn:xmpp:message-moderate:1}moderated"
REPLY = "{urn:xmpp:reply:0}reply"
DISPLAYED = "{urn:xmpp:chat-markers:0}displayed"
RECEIVED = "{urn:xmpp:receipts}received"
COMPOSING, PAUSED = (f"{{http://jabber.org/protocol/chatstates}}{state}" for state in ("composing", "paused"))
OOB_URL = "{jabber:x:oob}x/{jabber:x:oob}url"
MUC_USER = "{http://jabber.org/protocol/muc#user}"
ITEM, STATUS = f"{MUC_USER}x/{MUC_USER}item", f"{MUC_USER}x/{MUC_USER}status"
SUBJECT = f"{CLIENT}subject"
EVENT_ITEMS = "{http://jabber.org/protocol/pubsub#event}event/{http://jabber.org/protocol/pubsub#event}items"
BOOKMARKS = "urn:xmpp:bookmarks:1"


def reactions_in(message):
    child = message.find(REACTIONS)
    return None if child is None else {reaction.text for reaction in child.findall(REACTION)}


def reacts(*keys):
    return lambda message: reactions_in(message) == set(keys)


def codes_in(stanza):
    return {status.get("code") for status in stanza.findall(STATUS)}


def png(side):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(v for x in range(side) for v in (x * 4, y * 4, 99)) for y in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


async def refused(what, condition, answer):
    """That a request is answered with that error."""
    try:
        await answer
    except slixmpp.exceptions.IqError as error:
        expect(what, condition, error.condition)
    else:
        raise Wrong(f"{what}: expected {condition}, seen success")


class Walk:
    """The steps, in order. Each method is one; its first line of documentation is what is printed."""

    def __init__(self, base_url, session):
        self.base_url, self.session = base_url, session
        self.port = urllib.parse.urlsplit(base_url).port
        # Several walks may visit the same server.
        self.suffix = format(time.time_ns() // 1000, "x")
        self.sessions = []

    def xmpp(self, name, resource, password=None, port=STARTTLS, **more):
        more |= {} if password is None else {"password": password}
        jid = f"{name}-{self.suffix}@{self.host}/{resource}"
        client = Xmpp(jid, self.port + port, None, direct_tls=port == DIRECT_TLS, **more)
        self.sessions.append(client)
        return client

    async def register(self):
        """register three accounts"""
        people = {}
        for name in ("alice", "bob", "carol"):
            people[name] = await Matrix(self.base_url, self.session).register(f"{name}-{self.suffix}")
        self.bob, self.alice_by_matrix = people["bob"], people["alice"]
        self.host = self.bob.user.split(":")[1]
        self.alice_id, self.carol_id = people["alice"].user, people["carol"].user
        self.bob_jid = f"bob-{self.suffix}@{self.host}"

    async def log_in(self):
        """log in with STARTTLS and with TLS, and not with a wrong password"""
        self.alice, self.carol = self.xmpp("alice", "one"), self.xmpp("carol", "desk")
        self.other = self.xmpp("alice", "two", port=DIRECT_TLS)
        for client in (self.alice, self.other, self.carol):
            mechanism = await client.log_in()
            expect_that("SCRAM is used", mechanism.startswith("SCRAM-SHA-"), mechanism)
            await client.be_here()
        for client in (self.alice, self.other):
            await client["xep_0280"].enable()
        wrong = self.xmpp("alice", "thief", password="a guess")
        try:
            await wrong.log_in()
        except PermissionError:
            pass
        else:
            raise Wrong("expected that a wrong password is refused")
        seen = await self.alice_by_matrix.call("GET", "/_matrix/client/v3/devices")
        names = [device.get("display_name") for device in seen["devices"]]
        expect_that("sessions are in the list of devices", "XMPP (one)" in names, names)

    async def contacts(self):
        """subscribe to each other's presence"""
        self.alice.send(f"<presence to='{self.carol.bare}' type='subscribe'/>")
        await self.carol.hears("a subscription", lambda s: s.get("type") == "subscribe")
        self.carol.send(f"<presence to='{self.alice.bare}' type='subscribed'/>")
        self.carol.send(f"<presence to='{self.alice.bare}' type='subscribe'/>")
        here = lambda who: lambda s: s.tag == f"{CLIENT}presence" and s.get("from") == who.jid and not s.get("type")
        await self.alice.hears("presence of Carol", here(self.carol))
        self.alice.send(f"<presence to='{self.carol.bare}' type='subscribed'/>")
        await self.carol.hears("presence of Alice", here(self.alice))

    async def first_words(self):
        """write to somebody who uses Matrix, who is asked in and answers"""
        self.first_id = await self.alice.sends(self.bob_jid, "hello from XMPP")
        self.room = await self.bob.invitation()
        await self.bob.join(self.room)
        event = await self.bob.hears_said(self.room, "hello from XMPP")
        self.first_event = event["event_id"]
        expect("its sender", self.alice_id, event["sender"])
        self.answer = await self.bob.says(self.room, "hello from Matrix")
        for client in (self.alice, self.other):
            heard = await client.hears_said("hello from Matrix")
            expect("who said it", self.bob_jid, slixmpp.JID(heard.get("from")).bare)
            expect("its stanza-id", self.answer, stanza_id(heard))

    async def copies(self):
        """other sessions get copies of what one says"""
        await self.alice.sends(self.bob_jid, "said once")
        copy = await self.other.hears("a carbon", lambda m: m.find(CARBON["sent"]) is not None)
        inner = copy.find(f"{CARBON['sent']}/{{urn:xmpp:forward:0}}forwarded/{CLIENT}message")
        expect("what is copied", "said once", said(inner))
        event = await self.bob.hears_said(self.room, "said once")
        expect("the copy's stanza-id", event["event_id"], stanza_id(inner))

    async def edits(self):
        """correct what was said, both ways"""
        correction = self.alice["xep_0308"].build_correction(self.first_id, self.bob_jid, mbody="hello, corrected")
        correction.send()
        holds = lambda e: e["content"].get("m.relates_to", {}).get("rel_type") == "m.replace"
        event = await self.bob.event(self.room, "an edit", holds)
        expect("what is edited", self.first_event, event["content"]["m.relates_to"]["event_id"])
        expect("the new text", "hello, corrected", event["content"]["m.new_content"]["body"])
        relation = {"rel_type": "m.replace", "event_id": self.answer}
        new = {"msgtype": "m.text", "body": "hello, edited"}
        await self.bob.says(self.room, "* hello, edited", **{"m.new_content": new, "m.relates_to": relation})
        heard = await self.alice.hears_said("hello, edited")
        expect("what is corrected", self.answer, heard.find(REPLACE).get("id"))

    async def reactions(self):
        """react, and take a reaction back, both ways"""
        react = self.alice["xep_0444"].send_reactions
        react(slixmpp.JID(self.bob_jid), self.answer, ["👍", "🎉"])
        keys = {}
        while len(keys) < 2:
            event = await self.bob.event(self.room, "a reaction", lambda e: e["type"] == "m.reaction")
            keys[event["content"]["m.relates_to"]["key"]] = event["event_id"]
        expect("the reactions", {"👍", "🎉"}, set(keys))
        react(slixmpp.JID(self.bob_jid), self.answer, ["🎉"])
        event = await self.bob.event(self.room, "a redaction", lambda e: e["type"] == "m.room.redaction")
        expect("what is taken back", keys["👍"], event.get("redacts") or event["content"]["redacts"])
        relation = {"rel_type": "m.annotation", "event_id": self.first_event, "key": "❤️"}
        reaction = await self.bob.send(self.room, {"m.relates_to": relation}, "m.reaction")
        heard = await self.alice.hears("a reaction", reacts("❤️"))
        expect("what it is for", self.first_id, heard.find(REACTIONS).get("id"))
        await self.bob.redact(self.room, reaction)
        await self.alice.hears("no reaction any more", reacts())

    async def retractions(self):
        """take back what was said, both ways"""
        said_id = await self.alice.sends(self.bob_jid, "not what I meant")
        event = await self.bob.hears_said(self.room, "not what I meant")
        self.alice["xep_0424"].send_retraction(slixmpp.JID(self.bob_jid), said_id)
        seen = await self.bob.event(self.room, "a redaction", lambda e: e["type"] == "m.room.redaction")
        expect("what is redacted", event["event_id"], seen.get("redacts") or seen["content"]["redacts"])
        slip = await self.bob.says(self.room, "a slip")
        await self.alice.hears_said("a slip")
        await self.bob.redact(self.room, slip)
        heard = await self.alice.hears_child(RETRACT)
        expect("what is retracted", slip, heard.find(RETRACT).get("id"))

    async def replies(self):
        """answer a certain message, both ways"""
        send = self.alice["xep_0461"].send_reply
        send(self.bob_jid, self.answer, "hello, edited", "Bob", mto=self.bob_jid, mbody="I answer", mtype="chat")
        event = await self.bob.event(self.room, "an answer", lambda e: "m.in_reply_to" in e["content"].get("m.relates_to", {}))
        expect("what is answered", self.answer, event["content"]["m.relates_to"]["m.in_reply_to"]["event_id"])
        expect("the words", "I answer", event["content"]["body"].strip())
        relation = {"m.in_reply_to": {"event_id": self.first_event}}
        await self.bob.says(self.room, "and so do I", **{"m.relates_to": relation})
        heard = await self.alice.hears_child(REPLY)
        expect("what is answered", self.first_id, heard.find(REPLY).get("id"))
        expect_that("the words are there", said(heard).endswith("and so do I"), said(heard))

    async def files(self):
        """send a file, both ways"""
        picture = png(48)
        url = await self.alice["xep_0363"].upload_file("picture.png", domain=slixmpp.JID(self.host), input_file=io.BytesIO(picture), size=len(picture), content_type="image/png")
        message = self.alice.slix.make_message(mto=self.bob_jid, mbody=url, mtype="chat")
        message["oob"]["url"] = url
        message.send()
        event = await self.bob.event(self.room, "a picture", lambda e: e["content"].get("msgtype") == "m.image")
        server, media = event["content"]["url"].removeprefix("mxc://").split("/")
        seen = await self.bob.call("GET", f"/_matrix/client/v1/media/download/{server}/{media}")
        expect_that("the picture arrives whole", seen == picture, len(seen))
        uploaded = await self.bob.call("POST", "/_matrix/media/v3/upload?filename=letter.txt", raw=b"dear Alice")
        content = {"msgtype": "m.file", "body": "letter.txt", "url": uploaded["content_uri"], "info": {"mimetype": "text/plain", "size": 10}}
        await self.bob.send(self.room, content)
        heard = await self.alice.hears("a file", lambda m: m.find(OOB_URL) is not None)
        async with self.session.get(heard.findtext(OOB_URL)) as response:
            expect("the letter", b"dear Alice", await response.read())

    async def receipts(self):
        """markers and receipts, both ways"""
        marked = await self.alice.sends(self.bob_jid, "have you read this?")
        event = (await self.bob.hears_said(self.room, "have you read this?"))["event_id"]
        await self.bob.call("POST", self.bob.room(self.room, "receipt", "m.read", event), {})
        heard = await self.alice.hears_child(DISPLAYED)
        expect("what was read", marked, heard.find(DISPLAYED).get("id"))
        event = await self.bob.says(self.room, "and you this?")
        await self.alice.hears_said("and you this?")
        self.alice["xep_0333"].send_marker(slixmpp.JID(self.bob_jid), event, "displayed")
        holds = lambda content: self.alice_id in content.get(event, {}).get("m.read", {})
        await self.bob.ephemeral(self.room, "m.receipt", holds)
        # Between two who use XMPP, receipts go from client to client.
        message = self.alice.slix.make_message(mto=self.carol.bare, mbody="received?", mtype="chat")
        message["request_receipt"] = True
        message["id"] = "receipt-1"
        message.send()
        heard = await self.carol.hears_said("received?")
        self.carol.send(f"<message to='{heard.get('from')}' type='chat'><received xmlns='urn:xmpp:receipts' id='receipt-1'/></message>")
        heard = await self.alice.hears_child(RECEIVED)
        expect("what was received", "receipt-1", heard.find(RECEIVED).get("id"))

    async def typing(self):
        """typing, both ways"""
        typing = self.bob.room(self.room, "typing", self.bob.user)
        await self.bob.call("PUT", typing, {"typing": True, "timeout": 30000})
        await self.alice.hears_child(COMPOSING)
        await self.bob.call("PUT", typing, {"typing": False})
        await self.alice.hears_child(PAUSED)
        chat = "http://jabber.org/protocol/chatstates"
        self.alice.send(f"<message to='{self.bob_jid}' type='chat'><composing xmlns='{chat}'/></message>")
        await self.bob.ephemeral(self.room, "m.typing", lambda content: self.alice_id in content["user_ids"])
        self.alice.send(f"<message to='{self.bob_jid}' type='chat'><active xmlns='{chat}'/></message>")
        await self.bob.ephemeral(self.room, "m.typing", lambda content: self.alice_id not in content["user_ids"])

    async def cut_connection(self):
        """a connection is cut: nothing is lost, nothing comes twice"""
        await self.alice.cut()
        for number in range(3):
            await self.bob.says(self.room, f"while you were cut off {number}")
        resumed = self.alice.slix.wait_until("session_resumed", 15)
        self.alice.slix.connect("127.0.0.1", self.port + STARTTLS)
        await resumed
        for number in range(3):
            await self.alice.hears_said(f"while you were cut off {number}")
        await self.bob.says(self.room, "and after")
        await self.alice.hears_said("and after")
        twice = [said(m) for m in self.alice.heard if (said(m) or "").startswith("while")]
        expect("what came twice", [], twice)

    async def to_oneself(self):
        """write to oneself"""
        await self.alice.sends(self.alice.bare, "a note")
        await self.other.hears_said("a note")
        pages = [m async for m in self.alice["xep_0313"].iterate(with_jid=slixmpp.JID(self.alice.bare), rsm={"max": 5})]
        bodies = [m["mam_result"]["forwarded"]["stanza"]["body"] for m in pages]
        expect("the archive with oneself", ["a note"], bodies)

    async def archive(self):
        """page through the archive, forwards and backwards"""
        last = None
        for number in range(MESSAGES):
            last = await self.bob.says(self.room, f"number {number}")
        await self.alice.hears("the last message", lambda m: stanza_id(m) == last)
        mam = self.alice["xep_0313"]
        backwards = [m async for m in mam.iterate(with_jid=slixmpp.JID(self.bob_jid), reverse=True, rsm={"max": 10}, total=MESSAGES)]
        bodies = [m["mam_result"]["forwarded"]["stanza"]["body"] for m in backwards]
        expect("the newest messages, backwards", [f"number {n}" for n in reversed(range(MESSAGES))], bodies)
        forwards = [m async for m in mam.iterate(with_jid=slixmpp.JID(self.bob_jid), rsm={"max": 10})]
        ids = [m["mam_result"]["id"] for m in forwards]
        expect("ids are ids of events", [], [i for i in ids if not i.startswith("$")])
        expect("the same, forwards", list(reversed([m["mam_result"]["id"] for m in backwards])), ids[-MESSAGES:])
        after = await mam.retrieve(with_jid=slixmpp.JID(self.bob_jid), rsm={"max": 10, "after": ids[-4]})
        expect("what is after one", ids[-3:], [m["mam_result"]["id"] for m in after["mam"]["results"]])

    async def search(self):
        """look for words in the archive"""
        query = "urn:xmpp:mam:2"
        form = f"""<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>{query}</value></field>
            <field var='{{urn:xmpp:fulltext:0}}fulltext'><value>corrected</value></field></x>"""
        iq = self.alice.slix.make_iq_set()
        iq.append(ElementTree.fromstring(f"<query xmlns='{query}' queryid='words'>{form}</query>"))
        self.alice.heard.clear()
        await iq.send()
        found = [m for m in self.alice.heard if m.find(f"{{{query}}}result") is not None]
        bodies = [m.findtext(f".//{CLIENT}body") for m in found]
        expect("what is found", ["hello, corrected"], bodies)

    async def make_room(self):
        """make a room, which Bob enters by Matrix and Carol by XMPP"""
        name = f"den-{self.suffix}"
        self.muc = slixmpp.JID(f"{name}@rooms.{self.host}")
        muc = self.alice["xep_0045"]
        muc.join_muc(self.muc, "Alice")
        own = await self.alice.hears("one's own presence", lambda s: "110" in codes_in(s))
        expect_that("the room is new", "201" in codes_in(own), codes_in(own))
        form = await muc.get_room_config(self.muc)
        form["type"] = "submit"
        form.set_values({"muc#roomconfig_roomname": "The den"})
        await muc.set_room_config(self.muc, form)
        self.den = await self.bob.join(f"#{name}:{self.bob.user.split(':', 1)[1]}")
        shown = await self.alice.hears("presence of Bob", lambda s: s.tag == f"{CLIENT}presence" and s.find(ITEM) is not None and (s.find(ITEM).get("jid") or "").startswith(self.bob_jid))
        self.bob_nick = slixmpp.JID(shown.get("from")).resource
        self.carol["xep_0045"].join_muc(self.muc, "Carol")
        await self.carol.hears("one's own presence", lambda s: "110" in codes_in(s))
        await self.carol.hears("the subject", lambda m: m.find(SUBJECT) is not None)
        await self.alice.hears("presence of Carol", lambda s: s.get("from") == f"{self.muc}/Carol")

    async def in_room(self):
        """speak, correct, react, answer and take back in the room"""
        first = await self.alice.sends(self.muc, "welcome", "groupchat")
        heard = await self.carol.hears_said("welcome")
        expect("who said it", f"{self.muc}/Alice", heard.get("from"))
        event = await self.bob.hears_said(self.den, "welcome")
        expect("its stanza-id", event["event_id"], stanza_id(heard))
        answer = await self.bob.says(self.den, "thank you")
        for client in (self.alice, self.carol):
            heard = await client.hears_said("thank you")
            expect("who said it", f"{self.muc}/{self.bob_nick}", heard.get("from"))
        # Corrected by Matrix, and by XMPP.
        relation = {"rel_type": "m.replace", "event_id": answer}
        new = {"msgtype": "m.text", "body": "thank you all"}
        await self.bob.says(self.den, "* thank you all", **{"m.new_content": new, "m.relates_to": relation})
        heard = await self.carol.hears_said("thank you all")
        expect("what is corrected", answer, heard.find(REPLACE).get("id"))
        self.alice["xep_0308"].build_correction(first, self.muc, mtype="groupchat", mbody="be welcome").send()
        seen = await self.bob.event(self.den, "an edit", lambda e: e["content"].get("m.relates_to", {}).get("rel_type") == "m.replace" and e["sender"] == self.alice_id)
        expect("what is edited", event["event_id"], seen["content"]["m.relates_to"]["event_id"])
        # A reaction by Matrix, and taken back; one by XMPP.
        relation = {"rel_type": "m.annotation", "event_id": event["event_id"], "key": "🎈"}
        reaction = await self.bob.send(self.den, {"m.relates_to": relation}, "m.reaction")
        heard = await self.carol.hears("a reaction", reacts("🎈"))
        expect("what it is for", event["event_id"], heard.find(REACTIONS).get("id"))
        await self.bob.redact(self.den, reaction)
        await self.carol.hears("no reaction any more", reacts())
        message = self.carol.slix.make_message(mto=self.muc, mtype="groupchat")
        self.carol["xep_0444"].set_reactions(message, answer, ["👋"])
        message.send()
        seen = await self.bob.event(self.den, "a reaction", lambda e: e["type"] == "m.reaction" and e["sender"] == self.carol_id)
        expect("the reaction", "👋", seen["content"]["m.relates_to"]["key"])
        await self.alice.hears("Carol's reaction", reacts("👋"))
        # Answers.
        await self.bob.says(self.den, "an answer", **{"m.relates_to": {"m.in_reply_to": {"event_id": event["event_id"]}}})
        heard = await self.alice.hears_child(REPLY)
        expect("what is answered", event["event_id"], heard.find(REPLY).get("id"))
        # Taken back by its author, and by a moderator.
        await self.bob.redact(self.den, answer)
        heard = await self.carol.hears_child(RETRACT)
        expect("what is retracted", answer, heard.find(RETRACT).get("id"))
        rude = await self.bob.says(self.den, "something rude")
        await self.carol.hears_said("something rude")
        await self.alice["xep_0425"].moderate(self.muc, rude, "be kind")
        heard = await self.carol.hears_child(RETRACT)
        expect("what is moderated", rude, heard.find(RETRACT).get("id"))
        expect_that("it is said who did", heard.find(RETRACT).find(MODERATED) is not None)
        seen = await self.bob.event(self.den, "a redaction", lambda e: e["type"] == "m.room.redaction" and e["sender"] == self.alice_id)
        expect("the reason", "be kind", seen["content"].get("reason"))

    async def subject_and_history(self):
        """change the subject, read what was said before, in pages"""
        self.alice["xep_0045"].set_subject(self.muc, "On dens")
        await self.carol.hears("the subject", lambda m: m.findtext(SUBJECT) == "On dens")
        topic = await self.bob.event(self.den, "a topic", lambda e: e["type"] == "m.room.topic")
        expect("the topic", "On dens", topic["content"]["topic"])
        mam = self.carol["xep_0313"]
        pages = [m async for m in mam.iterate(jid=self.muc, rsm={"max": 3})]
        # Without what is quoted for programs that know no answers.
        bodies = {m["mam_result"]["forwarded"]["stanza"]["body"].split("\n")[-1] for m in pages}
        expect_that("what was said is in the room's archive", {"welcome", "be welcome", "an answer"} <= bodies, bodies)
        expect_that("what was taken back is not", "something rude" not in bodies, bodies)
        # Again, as if a device had been away.
        back = self.xmpp("carol", "phone")
        await back.log_in()
        await back.be_here()
        back["xep_0045"].join_muc(self.muc, "Carol", maxhistory="50")
        await back.hears_said("be welcome")
        await back.hears("the subject", lambda m: m.findtext(SUBJECT) == "On dens")
        await back.leave()

    async def invite_and_kick(self):
        """ask somebody in, make somebody leave, keep somebody out"""
        quiet = await self.bob.call("POST", "/_matrix/client/v3/createRoom", {"name": "Quiet", "preset": "private_chat", "invite": [self.carol_id]})
        quiet = quiet["room_id"]
        heard = await self.carol.hears("an invitation", lambda m: m.find("{jabber:x:conference}x") is not None or m.find(f"{MUC_USER}x/{MUC_USER}invite") is not None)
        direct = heard.find("{jabber:x:conference}x")
        address = slixmpp.JID(direct.get("jid") if direct is not None else heard.get("from"))
        self.carol["xep_0045"].join_muc(address, "Carol")
        await self.carol.hears("one's own presence", lambda s: s.get("from") == f"{address}/Carol" and "110" in codes_in(s))
        await self.carol.sends(address, "so quiet", "groupchat")
        await self.bob.hears_said(quiet, "so quiet")
        await self.bob.call("POST", self.bob.room(quiet, "kick"), {"user_id": self.carol_id, "reason": "shh"})
        gone = await self.carol.hears("being sent out", lambda s: s.get("from") == f"{address}/Carol" and s.get("type") == "unavailable")
        expect_that("it is said so", codes_in(gone) & {"307", "321"}, codes_in(gone))
        # And from the room that Alice has.
        await self.alice["xep_0045"].set_affiliation(self.muc, "outcast", jid=self.bob_jid, reason="enough")
        left = await self.bob.sync_until("a ban", lambda seen: seen.get("rooms", {}).get("leave", {}).get(self.den))
        events = left["timeline"]["events"] + left.get("state", {}).get("events", [])
        expect_that("Bob is banned", any(e["content"].get("membership") == "ban" for e in events), events)
        await self.alice["xep_0045"].set_affiliation(self.muc, "none", jid=self.bob_jid)
        self.den = await self.bob.join(self.den)

    async def bookmarks(self):
        """bookmarks are the rooms that one is in"""
        made = await self.alice_by_matrix.call("POST", "/_matrix/client/v3/createRoom", {"name": "By Matrix", "preset": "public_chat"})
        bookmarked = lambda room: lambda m: any(room in (item.get("id") or "") or "By Matrix" in ElementTree.tostring(item, "unicode") for item in m.findall(f"{EVENT_ITEMS}/*"))
        await self.other.hears("a bookmark", lambda m: m.find(EVENT_ITEMS) is not None and m.find(EVENT_ITEMS).get("node") == BOOKMARKS and bookmarked(made["room_id"])(m))
        seen = await self.alice["xep_0060"].get_items(None, BOOKMARKS)
        names = {item["conference"]["name"] for item in seen["pubsub"]["items"]}
        expect_that("the room made in Matrix is among the bookmarks", "By Matrix" in names, names)

    async def avatars(self):
        """a picture of oneself, both ways"""
        picture = png(32)
        digest = hashlib.sha1(picture).hexdigest()
        await self.alice["xep_0084"].publish_avatar(picture)
        await self.alice["xep_0084"].publish_avatar_metadata([{"id": digest, "type": "image/png", "bytes": len(picture)}])
        profile = await self.bob.call("GET", f"/_matrix/client/v3/profile/{urllib.parse.quote(self.alice_id)}")
        server, media = profile["avatar_url"].removeprefix("mxc://").split("/")
        expect_that("the picture is the profile's", await self.bob.call("GET", f"/_matrix/client/v1/media/download/{server}/{media}") == picture)
        vcard = await self.carol["xep_0054"].get_vcard(slixmpp.JID(self.alice.bare))
        expect_that("the picture is on the card", vcard["vcard_temp"]["PHOTO"]["BINVAL"] == picture)
        # And by Matrix.
        other = png(40)
        uploaded = await self.alice_by_matrix.call("POST", "/_matrix/media/v3/upload", raw=other)
        path = f"/_matrix/client/v3/profile/{urllib.parse.quote(self.alice_id)}/avatar_url"
        await self.alice_by_matrix.call("PUT", path, {"avatar_url": uploaded["content_uri"]})
        digest = hashlib.sha1(other).hexdigest()
        told = lambda m: m.find(EVENT_ITEMS) is not None and m.find(EVENT_ITEMS).get("node") == "urn:xmpp:avatar:metadata" and any(i.get("id") == digest for i in m.findall(f"{EVENT_ITEMS}/*"))
        await self.other.hears("the new picture", told)
        seen = await self.carol["xep_0084"].retrieve_avatar(slixmpp.JID(self.alice.bare), digest)
        items = list(seen["pubsub"]["items"])
        expect_that("the new picture is in the node", items and items[0]["avatar_data"]["value"] == other)

    async def blocking(self):
        """block somebody, and let them speak again"""
        await self.alice["xep_0191"].block({slixmpp.JID(self.carol.bare)})
        expect("the block list", {self.carol.bare}, {jid.bare for jid in await self.alice["xep_0191"].get_blocked_jids()})
        await self.carol.sends(self.alice.bare, "can you hear me?")
        await self.carol.hears("an error", lambda m: m.get("type") == "error")
        ignored = await self.alice_by_matrix.call("GET", f"/_matrix/client/v3/user/{urllib.parse.quote(self.alice_id)}/account_data/m.ignored_user_list")
        expect("the list of ignored people", [self.carol_id], list(ignored["ignored_users"]))
        await self.alice["xep_0191"].unblock({slixmpp.JID(self.carol.bare)})
        await self.carol.sends(self.alice.bare, "and now?")
        await self.alice.hears_said("and now?")

    async def commands(self):
        """what the server says about itself, and ad-hoc commands"""
        await self.alice["xep_0199"].ping(slixmpp.JID(self.host))
        version = await self.alice["xep_0092"].get_version(slixmpp.JID(self.host))
        expect_that("the server has a name", version["software_version"]["name"])
        info = await self.alice["xep_0030"].get_info(slixmpp.JID(self.host))
        expect_that("it blocks", "urn:xmpp:blocking" in info["disco_info"]["features"])
        await self.alice["xep_0050"].get_commands(slixmpp.JID(self.host))
        node = "http://jabber.org/protocol/admin#get-online-users-num"
        command = self.alice["xep_0050"].send_command(slixmpp.JID(self.host), node)
        await refused("a command for administrators", "forbidden", command)

    async def certificates(self):
        """come in by a certificate of one's own, until it is revoked"""
        with tempfile.TemporaryDirectory() as folder:
            key, file = f"{folder}/key.pem", f"{folder}/certificate.pem"
            new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=a bot of Alice"]
            words = ["openssl", "req", "-x509", *new, "-days", "2", "-keyout", key, "-out", file]
            if not shutil.which("openssl"):
                return print("NOT RUN: openssl is not there", flush=True)
            subprocess.run(words, check=True, capture_output=True)
            with open(file) as pem:
                body = "".join(line.strip() for line in pem if "-----" not in line)
            thief = lambda port: self.xmpp("alice", "bot", password="a guess", port=port, shows=(file, key))
            try:
                await thief(STARTTLS).log_in()
            except PermissionError:
                pass
            else:
                raise Wrong("expected that a certificate which nobody has listed is no proof")
            await self.alice["xep_0257"].add_cert("bot", body)
            bot = thief(STARTTLS)
            expect("the proof", "EXTERNAL", await bot.log_in())
            await bot["xep_0199"].ping(slixmpp.JID(self.host))
            listed = {(name, users) for name, _, users in await self.alice["xep_0257"].get_certs()}
            expect("the list", {("bot", ("bot",))}, listed)
            await bot.leave()
            bot = thief(DIRECT_TLS)
            expect("the proof", "EXTERNAL", await bot.log_in())
            gone = bot.slix.wait_until("disconnected", SEEN_WITHIN_S)
            bot.slix.auto_reconnect = False
            await self.alice["xep_0257"].revoke_cert("bot")
            await gone
            try:
                await thief(STARTTLS).log_in()
            except PermissionError:
                pass
            else:
                raise Wrong("expected that a certificate which was revoked is no proof")

    STEPS = [
        register, log_in, contacts, first_words, copies, edits, reactions, retractions, replies, files, receipts, typing,
        cut_connection, to_oneself, archive, search, make_room, in_room, subject_and_history, invite_and_kick, bookmarks,
        avatars, blocking, commands, certificates,
    ]  # fmt: skip

    async def take(self, only):
        for step in self.STEPS:
            if only and step.__name__ not in only:
                continue
            print(step.__doc__, flush=True)
            await step(self)
        for client in self.sessions:
            await client.leave()


async def main(base_url, only):
    async with client_session() as session:
        await Walk(base_url, session).take(only)


if __name__ == "__main__":
    began = time.monotonic()
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2:]))
    except Wrong as wrong:
        print(f"WRONG: {wrong}", file=sys.stderr)
        sys.exit(1)
    print(f"all well after {time.monotonic() - began:.1f} s")
