"""Two Koine servers, Prosody and ejabberd talk to each other; people on each do what people do.

usage: walk.py --koine PROGRAM --folder FOLDER [--known FILE] [STEP]...

Runs in a network and with mounts of its own (`unshare --net --mount`), where it may be the name server and use the usual ports.
FOLDER gets the servers' data and logs. Prints a line for each step and goes on after one that went wrong. FILE lists steps that go
wrong with the reason, one a line; a listed step that goes well is wrong, too. Ends with 0 when all is as it should be.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import traceback
from xml.etree import ElementTree

import slixmpp

from names import Names
from servers import BLOCKED, COMPONENT_SECRET, DIALBACK, EJABBERD, LIAR, NAME_SERVER, ONE, PROSODY, TWO, Servers

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../walks/slixmpp"))

from people import CLIENT, PASSWORD, SEEN_WITHIN_S, Matrix, Wrong, Xmpp, client_session, expect, expect_that, quote, said  # noqa: E402

ERRORS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
MUC_USER = "{http://jabber.org/protocol/muc#user}"
ALL_OTHERS = (TWO, PROSODY, EJABBERD)
STEP_WITHIN_S = 120
STEPS = []


def step(*variants):
    """A step that is walked once for each variant."""

    def add(function):
        STEPS.extend((f"{function.__name__} {variant}".strip(), function, variant) for variant in variants or ("",))
        return function

    return add


class Person(Xmpp):
    """Somebody of one of the servers; the account is made when they first log in."""

    def __init__(self, town, jid):
        host = jid.split("@")[1].split("/")[0]
        super().__init__(jid, 5222, None if host == LIAR else town.servers.authority.file)
        self.address = town.address_of(host)
        self.slix.register_plugin("xep_0077")
        # Whom to connect to is settled; DNS has nothing to add.
        self.slix.use_aiodns = False

    async def log_in(self):
        ends = {name: self.slix.wait_until(name, SEEN_WITHIN_S * 2) for name in ("session_start", "failed_all_auth")}
        tasks = {asyncio.ensure_future(wait): name for name, wait in ends.items()}
        self.slix.connect(self.address, self.port)
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if "session_start" not in {tasks[task] for task in done if not task.exception()}:
            raise Wrong(f"{self.jid} is not let in")

    async def register(self):
        """Makes the account in the stream (XEP-0077), before logging in."""

        async def make(_form):
            request = self.slix.Iq()
            request["type"] = "set"
            request["register"]["username"] = self.slix.boundjid.user
            request["register"]["password"] = PASSWORD
            try:
                await request.send(timeout=SEEN_WITHIN_S)
            except slixmpp.exceptions.IqError as error:
                # Somebody who is there already.
                if error.condition != "conflict":
                    raise

        self.slix.plugin["xep_0077"].force_registration = True
        self.slix.add_event_handler("register", make)

    async def error_for(self, wanted):
        """The condition of the error that the stanza with this id comes back with."""
        stanza = await self.hears(f"an error for {wanted}", lambda s: s.get("id") == wanted and s.get("type") == "error")
        error = stanza.find(f"{CLIENT}error")
        return next(child.tag.removeprefix(ERRORS) for child in error if child.tag.startswith(ERRORS))

    async def asks(self, to, payload):
        """The answer to a request."""
        iq = self.slix.make_iq_get(ito=to)
        iq.append(ElementTree.fromstring(payload))
        return (await iq.send(timeout=SEEN_WITHIN_S)).xml

    async def sets(self, to, payload):
        iq = self.slix.make_iq_set(ito=to)
        iq.append(ElementTree.fromstring(payload))
        await iq.send(timeout=SEEN_WITHIN_S)

    async def enters(self, room, nick):
        presence = f"<presence to='{room}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
        self.send(presence)
        mine = await self.hears(
            f"to be in {room}",
            lambda s: s.tag == f"{CLIENT}presence"
            and s.get("from") == f"{room}/{nick}"
            and (s.get("type") == "error" or any(x.get("code") == "110" for x in s.iter(f"{MUC_USER}status"))),
        )
        if mine.get("type") == "error":
            raise Wrong(f"{self.jid} is not let into {room}: {ElementTree.tostring(mine)}")
        return mine

    async def makes(self, room, nick):
        """A room as it comes."""
        await self.enters(room, nick)
        form = "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>"
        await self.sets(room, form)

    async def hears_in(self, room, nick, body):
        return await self.hears(
            f"{nick} say {body!r} in {room}", lambda m: said(m) == body and m.get("from") == f"{room}/{nick}"
        )

    def sends_in(self, room, body):
        return self.sends(room, body, kind="groupchat")


class Town:
    """The servers and whoever lives there."""

    def __init__(self, servers, session):
        self.servers, self.session = servers, session
        self.people, self.made = {}, set()
        self.numbers = iter(range(1, 10_000))

    def address_of(self, host):
        host = {DIALBACK: PROSODY, BLOCKED: PROSODY, LIAR: PROSODY}.get(host, host)
        return self.servers.all[host].address

    async def person(self, name, host):
        """Somebody who is there, connected and visible; nothing of before is heard any more."""
        jid = f"{name}@{host}"
        if jid not in self.people:
            if host in (ONE, TWO):
                await self.matrix(name, host)
            person = Person(self, f"{jid}/walk")
            if host not in (ONE, TWO):
                await person.register()
            await person.log_in()
            await person.be_here()
            self.people[jid] = person
        person = self.people[jid]
        person.heard.clear()
        return person

    async def matrix(self, name, host):
        """The same somebody with a Matrix client."""
        jid = f"{name}@{host} by Matrix"
        if jid not in self.people:
            person = Matrix(f"http://{self.address_of(host)}:8008", self.session)
            self.people[jid] = await person.register(name)
        return self.people[jid]

    def room(self, host):
        """The address of a new room."""
        service = "rooms" if host in (ONE, TWO) else "conference"
        return f"hall{next(self.numbers)}@{service}.{host}"

    async def leave(self):
        for person in self.people.values():
            if isinstance(person, Person):
                await person.leave()


async def both_say(one, other, mark):
    await one.sends(other.bare, f"{mark} there")
    heard = await other.hears_said(f"{mark} there")
    expect("who said so", one.bare, heard.get("from").split("/")[0])
    await other.sends(one.bare, f"{mark} and back")
    heard = await one.hears_said(f"{mark} and back")
    expect("who answered", other.bare, heard.get("from").split("/")[0])


async def logged(server, *parts):
    """The server's log says so, sooner or later."""
    for _ in range(100):
        if server.has_logged(*parts):
            return
        await asyncio.sleep(0.1)
    raise Wrong(f"the log of {server.name} does not say {parts}")


@step(*ALL_OTHERS)
async def certificates(town, other):
    """Messages both ways; servers prove themselves by their certificates."""
    await both_say(await town.person("alice", ONE), await town.person("bob", other), "proven")
    if other == PROSODY:
        await logged(town.servers.all[PROSODY], "SASL EXTERNAL", ONE)
    if other == EJABBERD:
        await logged(town.servers.all[EJABBERD], "EXTERNAL authentication", ONE)


@step()
async def dialback(town, _):
    """The same with a server that knows no certificates of servers; here it asks back, and is asked."""
    await both_say(await town.person("alice", ONE), await town.person("dora", DIALBACK), "dialled back")
    await logged(town.servers.all[PROSODY], "ialback", ONE)
    hall = town.room(ONE)
    alice, dora = await town.person("alice", ONE), await town.person("dora", DIALBACK)
    await alice.makes(hall, "alice")
    await dora.enters(hall, "dora")
    await logged(town.servers.all[ONE], "proven by dialback", DIALBACK)


@step()
async def begins_with_tls(town, _):
    """Records for TLS from the first byte are heeded: the other way is cut off."""
    one, two = await town.person("alice", ONE), await town.person("bob", TWO)
    await both_say(one, two, "tls")
    way = town.servers.ways[f"{TWO} by TLS"]
    expect_that("a connection begins with TLS", way.was_used)


@step(*ALL_OTHERS)
async def subscriptions(town, other):
    """Both see whether the other is there."""
    alice, bob = await town.person("carol", ONE), await town.person("dave", other)

    async def subscribe(who, whom):
        who.send(f"<presence to='{whom.bare}' type='subscribe'/>")
        await whom.hears("the wish", lambda s: s.get("type") == "subscribe" and s.get("from") == who.bare)
        whom.send(f"<presence to='{who.bare}' type='subscribed'/>")
        await who.hears("the consent", lambda s: s.get("type") == "subscribed" and s.get("from") == whom.bare)
        here = f"{CLIENT}presence"
        await who.hears("them", lambda s: s.tag == here and s.get("from") == whom.jid and s.get("type") is None)

    # Some servers ask for consent that was given already.
    for person in (alice, bob):
        person.slix.auto_authorize = None
    await subscribe(alice, bob)
    await subscribe(bob, alice)
    bob.send("<presence type='x'><show>dnd</show><status>not now</status></presence>".replace(" type='x'", " xml:lang='en'"))
    away = await alice.hears("bob", lambda s: s.get("from") == bob.jid and s.findtext(f"{CLIENT}show") == "dnd")
    expect("what bob says", "not now", away.findtext(f"{CLIENT}status"))
    alice.send("<presence xml:lang='en'><show>away</show></presence>")
    await bob.hears("alice", lambda s: s.get("from") == alice.jid and s.findtext(f"{CLIENT}show") == "away")
    alice.send(f"<presence to='{bob.bare}' type='unsubscribe'/>")
    await bob.hears("the end of it", lambda s: s.get("type") == "unsubscribe" and s.get("from") == alice.bare)


@step(*ALL_OTHERS)
async def what_messages_carry(town, other):
    """Typing, receipts, edits, reactions, retractions: to the other server, from there, and to a Matrix client."""
    alice, bob = await town.person("alice", ONE), await town.person("bob", other)
    device = await town.matrix("alice", ONE)
    bob.send(
        f"<message to='{alice.jid}' type='chat' id='c1'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"
    )
    await alice.hears_child("{http://jabber.org/protocol/chatstates}composing")
    bob.send(
        f"<message to='{alice.jid}' type='chat' id='b1-{other}'><body>first of {other}</body>"
        "<request xmlns='urn:xmpp:receipts'/></message>"
    )
    heard = await alice.hears_said(f"first of {other}")
    expect("the id", f"b1-{other}", heard.get("id"))
    alice.send(
        f"<message to='{bob.jid}' type='chat' id='r1'><received xmlns='urn:xmpp:receipts' id='b1-{other}'/></message>"
    )
    receipt = await bob.hears_child("{urn:xmpp:receipts}received")
    expect("what was received", f"b1-{other}", receipt.find("{urn:xmpp:receipts}received").get("id"))
    bob.send(
        f"<message to='{alice.jid}' type='chat' id='b2-{other}'><body>better of {other}</body>"
        f"<replace xmlns='urn:xmpp:message-correct:0' id='b1-{other}'/></message>"
    )
    edited = await alice.hears_child("{urn:xmpp:message-correct:0}replace")
    expect("the edit", f"better of {other}", said(edited))
    room = await device.sync_until(
        "the conversation",
        lambda _: next(
            (room for room, events in device.heard.items() if any(e["content"].get("body") == f"first of {other}" for e in events)),
            None,
        ),
    )
    seen = await device.event(room, "the edit", lambda e: "m.new_content" in e["content"])
    expect("the edit in Matrix", f"better of {other}", seen["content"]["m.new_content"]["body"])
    # And from the Matrix client to the other server.
    said_by_matrix = await device.says(room, f"from Matrix to {other}")
    first = await bob.hears_said(f"from Matrix to {other}")
    relation = {"rel_type": "m.replace", "event_id": said_by_matrix}
    new = {"msgtype": "m.text", "body": "edited in Matrix"}
    await device.send(room, {**new, "body": "* edited in Matrix", "m.new_content": new, "m.relates_to": relation})
    edited = await bob.hears_child("{urn:xmpp:message-correct:0}replace")
    expect("what is edited", first.get("id"), edited.find("{urn:xmpp:message-correct:0}replace").get("id"))
    expect("the edit", "edited in Matrix", said(edited))
    await device.redact(room, said_by_matrix)
    await bob.hears_child("{urn:xmpp:message-retract:1}retract")


@step(*ALL_OTHERS)
async def questions(town, other):
    """Ping, discovery and cards across servers, both ways."""
    alice, bob = await town.person("alice", ONE), await town.person("bob", other)
    for who, host, whom in ((alice, other, bob), (bob, ONE, alice)):
        await who.asks(host, "<ping xmlns='urn:xmpp:ping'/>")
        info = await who.asks(host, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
        identities = [i.get("category") for i in info.iter("{http://jabber.org/protocol/disco#info}identity")]
        expect_that("a server says that it is one", "server" in identities, identities)
        items = await who.asks(host, "<query xmlns='http://jabber.org/protocol/disco#items'/>")
        rooms = [i.get("jid") for i in items.iter("{http://jabber.org/protocol/disco#items}item")]
        if other != TWO:
            expect_that("it has rooms", any("rooms" in jid or "conference" in jid for jid in rooms), rooms)
        await who.asks(whom.jid, "<query xmlns='jabber:iq:version'/>")
    for who, whom, name in ((bob, alice, "Robert"), (alice, bob, "Alice")):
        iq = who.slix.make_iq_set()
        iq.append(ElementTree.fromstring(f"<vCard xmlns='vcard-temp'><FN>{name}</FN></vCard>"))
        await iq.send(timeout=SEEN_WITHIN_S)
        card = await whom.asks(who.bare, "<vCard xmlns='vcard-temp'/>")
        expect("the name on the card", name, card.findtext("{vcard-temp}vCard/{vcard-temp}FN"))


@step(*ALL_OTHERS)
async def our_room_with_theirs(town, other):
    """Somebody of each kind in a room of ours: XMPP here, XMPP elsewhere, Matrix."""
    alice, bob = await town.person("alice", ONE), await town.person("bob", other)
    mary = await town.matrix("mary", ONE)
    hall = town.room(ONE)
    await alice.makes(hall, "alice")
    await bob.enters(hall, "bob")
    await logged(town.servers.all[ONE], "proven by its certificate", other)
    await alice.hears("bob come", lambda s: s.tag == f"{CLIENT}presence" and s.get("from") == f"{hall}/bob")
    room = await mary.join(f"#{hall.split('@')[0]}:{ONE}")
    await bob.sends_in(hall, "from elsewhere")
    await alice.hears_in(hall, "bob", "from elsewhere")
    await bob.hears_in(hall, "bob", "from elsewhere")
    await mary.hears_said(room, "from elsewhere")
    await mary.says(room, "from Matrix")
    for person in (alice, bob):
        await person.hears("mary", lambda m: said(m) == "from Matrix" and m.get("from").startswith(f"{hall}/mary"))
    await alice.sends_in(hall, "from here")
    await bob.hears_in(hall, "alice", "from here")
    await mary.hears_said(room, "from here")
    bob.send(f"<presence to='{hall}/robert' xml:lang='en'/>")
    await alice.hears("the new name", lambda s: s.get("from") == f"{hall}/robert" and s.get("type") is None)
    await bob.sends(f"{hall}/alice", "a word in private")
    heard = await alice.hears_said("a word in private")
    expect("who whispers", f"{hall}/robert", heard.get("from"))
    bob.send(f"<presence to='{hall}/robert' type='unavailable'/>")
    await alice.hears("bob go", lambda s: s.get("from") == f"{hall}/robert" and s.get("type") == "unavailable")


@step(*ALL_OTHERS)
async def their_room_with_ours(town, other):
    """Somebody of ours in a room elsewhere."""
    alice, bob = await town.person("alice", ONE), await town.person("bob", other)
    hall = town.room(other)
    await bob.makes(hall, "bob")
    await alice.enters(hall, "alice")
    await bob.hears("alice come", lambda s: s.tag == f"{CLIENT}presence" and s.get("from") == f"{hall}/alice")
    await alice.sends_in(hall, "good day")
    await bob.hears_in(hall, "alice", "good day")
    await alice.hears_in(hall, "alice", "good day")
    await bob.sends_in(hall, "and to you")
    await alice.hears_in(hall, "bob", "and to you")
    bob.send(f"<message to='{hall}' type='groupchat' id='s1'><subject>weather</subject></message>")
    await alice.hears("the subject", lambda m: m.findtext(f"{CLIENT}subject") == "weather")
    await bob.sends(f"{hall}/alice", "a word in private")
    heard = await alice.hears_said("a word in private")
    expect("who whispers", f"{hall}/bob", heard.get("from"))
    alice.send(f"<presence to='{hall}/alice' type='unavailable'/>")
    await bob.hears("alice go", lambda s: s.get("from") == f"{hall}/alice" and s.get("type") == "unavailable")


def mirror_of(room):
    """The alias by which a Matrix client joins a room elsewhere."""
    return f"#_xmpp_{room.replace('@', '=40')}:{ONE}"


async def nick_comes(person, room, nick, kind=None):
    here = f"{CLIENT}presence"
    return await person.hears(nick, lambda s: s.tag == here and s.get("from") == f"{room}/{nick}" and s.get("type") == kind)


@step(*ALL_OTHERS)
async def their_room_by_matrix(town, other):
    """Somebody of ours with a Matrix client alone in a room elsewhere, and somebody with XMPP beside them."""
    bob, alice, mona = await town.person("bob", other), await town.person("alice", ONE), await town.matrix("mona", ONE)
    hall = town.room(other)
    await bob.makes(hall, "bob")
    bob.send(f"<message to='{hall}' type='groupchat' id='s1'><subject>tea</subject></message>")
    await bob.sends_in(hall, "before she came")
    await bob.hears_in(hall, "bob", "before she came")
    room = await mona.join(mirror_of(hall))
    await nick_comes(bob, hall, "mona")
    await mona.hears_said(room, "before she came")
    topic = await mona.call("GET", mona.room(room, "state", "m.room.topic"))
    expect("the subject", "tea", topic["topic"])
    members = await mona.call("GET", mona.room(room, "joined_members"))
    expect_that("bob is a member", any(one["display_name"] == "bob" for one in members["joined"].values()), members)
    # Both ways; each once, also with somebody else of ours who hears it with an XMPP client.
    await alice.enters(hall, "alice")
    await bob.sends_in(hall, "good day, mona")
    heard = await mona.hears_said(room, "good day, mona")
    said_by_mona = await mona.says(room, "and to you")
    for person in (bob, alice):
        await person.hears_in(hall, "mona", "and to you")
    await alice.sends_in(hall, "I am here too")
    await mona.hears_said(room, "I am here too")
    await bob.hears_in(hall, "alice", "I am here too")
    answer = {"m.relates_to": {"m.in_reply_to": {"event_id": heard["event_id"]}}}
    await mona.says(room, "an answer", **answer)
    reply = await bob.hears_child("{urn:xmpp:reply:0}reply")
    expect_that("what is answered", (said(reply) or "").endswith("an answer"), said(reply))
    new = {"msgtype": "m.text", "body": "and to all of you"}
    relation = {"rel_type": "m.replace", "event_id": said_by_mona}
    await mona.send(room, {**new, "body": "* and to all of you", "m.new_content": new, "m.relates_to": relation})
    edited = await bob.hears_child("{urn:xmpp:message-correct:0}replace")
    expect("the edit", "and to all of you", said(edited))
    await mona.redact(room, said_by_mona)
    await bob.hears_child("{urn:xmpp:message-retract:1}retract")
    await mona.call("PUT", mona.room(room, "state", "m.room.topic"), {"topic": "cake"})
    if other != EJABBERD:
        # There, only moderators change it: the old one comes back, and mona is told.
        await mona.event(room, "a refusal", lambda e: e["content"].get("msgtype") == "m.notice")
    else:
        await bob.hears("the subject", lambda m: m.findtext(f"{CLIENT}subject") == "cake")
    # Sent out there, out here, with the reason.
    kick = (
        "<query xmlns='http://jabber.org/protocol/muc#admin'>"
        "<item nick='mona' role='none'><reason>too loud</reason></item></query>"
    )
    await bob.sets(hall, kick)
    await nick_comes(bob, hall, "mona", "unavailable")
    left = await mona.sync_until(
        "that she is out", lambda seen: next((seen["rooms"]["leave"][r] for r in seen.get("rooms", {}).get("leave", {}) if r == room), None)
    )
    reasons = [e["content"].get("reason") for e in left["timeline"]["events"] if e["type"] == "m.room.member"]
    expect_that("why", any("too loud" in (reason or "") for reason in reasons), reasons)
    # She comes again, by the id of the room, and goes.
    await mona.join(room)
    await nick_comes(bob, hall, "mona")
    await mona.call("POST", mona.room(room, "leave"), {})
    await nick_comes(bob, hall, "mona", "unavailable")


@step(*ALL_OTHERS)
async def their_room_does_not_let_ours_in(town, other):
    """A Matrix client is told why; a room that is not there is not made."""
    bob, mona = await town.person("bob", other), await town.matrix("mona", ONE)
    hall = town.room(other)
    seen = await mona.call("POST", f"/_matrix/client/v3/join/{quote(mirror_of(hall))}", {}, fine=False)
    expect("what is not there", "M_NOT_FOUND", seen.get("errcode"))
    await bob.makes(hall, "bob")
    form = (
        "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>"
        "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>"
        "<field var='muc#roomconfig_membersonly'><value>1</value></field></x></query>"
    )
    await bob.sets(hall, form)
    seen = await mona.call("POST", f"/_matrix/client/v3/join/{quote(mirror_of(hall))}", {}, fine=False)
    expect("who is no member", "M_FORBIDDEN", seen.get("errcode"))
    expect_that("it says so", "members" in seen.get("error", ""), seen)


@step()
async def a_server_that_is_not_talked_to(town, _):
    """It is refused, and so is whoever wants to talk to it."""
    bella, bob = await town.person("bella", BLOCKED), await town.person("bob", TWO)
    refused = await bob.sends(bella.bare, "hello?")
    expect("the answer", "policy-violation", await bob.error_for(refused))
    refused = await bella.sends(bob.bare, "hello?")
    condition = await bella.error_for(refused)
    expect_that("they are told", condition in ("remote-server-not-found", "remote-server-timeout", "policy-violation"), condition)
    expect_that("nothing came", not any(said(s) == "hello?" for s in bob.heard), bob.heard)
    await both_say(await town.person("alice", ONE), bella, "elsewhere")


@step()
async def the_certificate_of_somebody_else(town, _):
    """A server without a certificate for its name is not talked to."""
    alice = await town.person("alice", ONE)
    refused = await alice.sends(f"larry@{LIAR}", "who are you?")
    expect("the answer", "remote-server-not-found", await alice.error_for(refused))
    larry = await town.person("larry", LIAR)
    unproven = await larry.sends(alice.bare, "let me in")
    await larry.error_for(unproven)
    expect_that("nothing came", not any(said(s) == "let me in" for s in alice.heard), alice.heard)


@step()
async def a_server_that_is_not_there(town, _):
    alice = await town.person("alice", ONE)
    lost = await alice.sends("nobody@nowhere.test", "anybody?")
    expect("the answer", "remote-server-not-found", await alice.error_for(lost))


async def all_told(alice, bob, sent):
    """Each of these arrives, or comes back."""
    for _ in range(10 * SEEN_WITHIN_S):
        came = {said(m) for m in bob.heard}
        back = {sent.get(s.get("id")) for s in alice.heard if s.get("type") == "error"}
        missing = [number for number in sent.values() if f"a{number}" not in came and number not in back]
        if not missing:
            return
        await asyncio.sleep(0.1)
    raise Wrong(f"{missing} neither arrived nor came back")


@step(*ALL_OTHERS)
async def cut_connections(town, other):
    """Connections end without a word while messages are under way: between servers that can go on with a stream none
    is lost and none comes twice; one that only counts leaves some that come back to their senders, for they may not have arrived."""
    alice, bob = await town.person("alice", ONE), await town.person("bob", other)
    await both_say(alice, bob, "before the cut")
    confirmed = other != EJABBERD
    sent = {}
    for number in range(60):
        sent[await alice.sends(bob.bare, f"a{number}")] = number
        await bob.sends(alice.bare, f"b{number}")
        if number % 20 == 10:
            if not confirmed:
                # What was written to a connection that breaks may be lost where nobody counts.
                await bob.hears_said(f"a{number}")
                await alice.hears_said(f"b{number}")
            town.servers.cut()
            await asyncio.sleep(0.05 if confirmed else 0.5)
    for person, letter in ((bob, "a"), (alice, "b")):
        if other == PROSODY and letter == "a":
            await all_told(alice, bob, sent)
            continue
        if not confirmed or other == PROSODY:
            await person.hears_said(f"{letter}59")
            continue
        numbers = []
        while len(set(numbers)) < 60:
            heard = await person.hears("what was said", lambda m: (said(m) or "").startswith(letter) and said(m)[1:].isdigit())
            numbers.append(int(said(heard)[1:]))
        expect("what came", set(range(60)), set(numbers))
        if other == TWO:
            expect("how it came", list(range(60)), numbers)


@step(ONE, *ALL_OTHERS)
async def components(town, other):
    """A program with a host of its own answers people of every server."""
    echo = slixmpp.ComponentXMPP(f"echo.{ONE}", COMPONENT_SECRET, town.address_of(ONE), 5347)
    begun = echo.wait_until("session_start", SEEN_WITHIN_S)
    echo.add_event_handler("message", lambda m: m["type"] != "error" and m.reply(f"echo of {m['body']}").send())
    echo.connect()
    await begun
    try:
        bob = await town.person("bob", other)
        await bob.sends(f"anybody@echo.{ONE}", "a mountain")
        heard = await bob.hears_said("echo of a mountain")
        expect("who answers", f"anybody@echo.{ONE}", heard.get("from").split("/")[0])
        items = await bob.asks(ONE, "<query xmlns='http://jabber.org/protocol/disco#items'/>")
        hosts = [i.get("jid") for i in items.iter("{http://jabber.org/protocol/disco#items}item")]
        expect_that("it is listed", f"echo.{ONE}" in hosts, hosts)
    finally:
        await echo.disconnect(wait=1)
    bob.heard.clear()
    lost = await bob.sends(f"anybody@echo.{ONE}", "still there?")
    expect("the answer", "service-unavailable", await bob.error_for(lost))


@step()
async def a_component_with_another_secret(town, _):
    reader, writer = await asyncio.open_connection(town.address_of(ONE), 5347)
    header = f"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='echo.{ONE}'>"
    writer.write(f"{header}<handshake>{'0' * 40}</handshake>".encode())
    answer = (await asyncio.wait_for(reader.read(), SEEN_WITHIN_S)).decode()
    expect_that("it is refused", "<not-authorized" in answer and "</stream:stream>" in answer, answer)
    writer.close()


@step(PROSODY, EJABBERD)
async def mirrors_outlive_servers(town, other):
    """Ours begins anew, then theirs: whoever is in a room elsewhere by Matrix comes back to it."""
    bob, nora = await town.person("bob", other), await town.matrix("nora", ONE)
    hall = town.room(other)
    await bob.makes(hall, "bob")
    room = await nora.join(mirror_of(hall))
    await nick_comes(bob, hall, "nora")
    for jid, person in list(town.people.items()):
        if jid.endswith(f"@{ONE}"):
            await person.leave()
            del town.people[jid]
    bob.heard.clear()
    town.servers.all[ONE].begin_again()
    await nick_comes(bob, hall, "nora")
    await nora.says(room, "I am back")
    await bob.hears_in(hall, "nora", "I am back")
    await bob.sends_in(hall, "I see")
    await nora.hears_said(room, "I see")
    # Theirs: whoever lives there comes again, and so does nora.
    await town.people.pop(bob.bare).leave()
    town.servers.all[other].begin_again()
    carl = await town.person("carl", TWO)
    for _ in range(60):
        try:
            await carl.asks(hall, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
            break
        except (slixmpp.exceptions.IqError, slixmpp.exceptions.IqTimeout):
            # Neither has forgotten the room for good: nora makes it again.
            await asyncio.sleep(1)
    carl.send(f"<presence to='{hall}/carl'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
    await nick_comes(carl, hall, "nora")
    await nora.says(room, "and again")
    await carl.hears_in(hall, "nora", "and again")
    await carl.sends_in(hall, "welcome")
    await nora.hears_said(room, "welcome")


def own_network(folder):
    """The network of this process gets its loopback, and names are asked of the walk's own server."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    names = {"resolv.conf": f"nameserver {NAME_SERVER}\n", "hosts": "127.0.0.1 localhost\n", "nsswitch.conf": "hosts: files dns\n"}
    for name, content in names.items():
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(content)
        subprocess.run(["mount", "--bind", path, f"/etc/{name}"], check=True)


def known_failures(path):
    if not path:
        return {}
    with open(path, encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t", 1) for line in lines if line.strip() and not line.startswith("#")]
    return {row[0]: row[1] for row in rows}


async def walk(arguments, names):
    wanted = arguments.steps
    servers = Servers(arguments.folder, arguments.koine, names)
    known = known_failures(arguments.known)
    wrong = 0
    try:
        await servers.start()
        print("servers are ready", flush=True)
        async with client_session() as session:
            town = Town(servers, session)
            for name, function, variant in STEPS:
                if wanted and not any(name.startswith(beginning) for beginning in wanted):
                    continue
                try:
                    await asyncio.wait_for(function(town, variant), STEP_WITHIN_S)
                    failure = None
                except Exception as error:  # noqa: BLE001 - whatever it is, the others are walked too
                    failure = f"{type(error).__name__}: {error}" if not isinstance(error, Wrong) else str(error)
                    if not isinstance(error, Wrong):
                        traceback.print_exc()
                if failure and name in known:
                    print(f"known {name}: {known[name]}", flush=True)
                elif failure or name in known:
                    wrong += 1
                    print(f"WRONG {name}: {failure or 'it is listed as going wrong, and went well'}", flush=True)
                else:
                    print(f"well  {name}", flush=True)
            await town.leave()
    finally:
        await servers.stop()
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--koine", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--known")
    parser.add_argument("steps", nargs="*")
    arguments = parser.parse_args()
    own_network(arguments.folder)
    names = Names(NAME_SERVER)
    names.start()
    return 1 if asyncio.run(walk(arguments, names)) else 0


if __name__ == "__main__":
    sys.exit(main())
