"""The life of encrypted rooms, shown: two federating servers, real clients, and what goes over the wire.

usage: demo.py --koine PROGRAM --devices SCRIPT [--chat PROGRAM] [--nio PYTHON]

SCRIPT is devices.mjs where its packages are, PYTHON an interpreter that has matrix-nio. Prints what happens as it happens. Ends with 1 at
the first scene in which something was wrong; the scenes after it are not played then, since each goes on from the one before. Without
koine-chat or matrix-nio the others play alone, and that is said.
"""

import argparse
import asyncio
import base64
import logging
import os
import secrets
import signal
import sys
import time

from stage import PASSWORD, Device, Robot, Stage, UNREAD_WITHIN_MS, Wrong
from terminal import Terminals
from koines import Person, V3, exactly_once, temporary_folder, until
from people import client_session, quote

ROTATION_MSGS, ROTATION_MS = 4, 4_000
# The SDK keeps whole seconds of when a session began.
GRAIN_MS = 1_000
ONE_TIME_KEYS, CLAIMS = 20, 60
TO_DEVICE = 60


def say(text):
    print(f"       {text}", flush=True)


def short(session):
    return session[:8] + "…"


class Demo:
    """The scenes, in order. Each method is one; its first line of documentation is what is printed."""

    def __init__(self, stage, robot, terminals, nio, session):
        self.stage, self.robot, self.terminals, self.nio, self.session = stage, robot, terminals, nio, session
        self.hs1, self.hs2 = stage.koines
        # Of bob, beside those that come and go.
        self.bobs = 1
        # Texts that nobody but their readers may ever see.
        self.secret = []

    def device(self, koine, name, user):
        return Device(self.robot, koine, name, user)

    def text(self, what):
        text = f"{what} {secrets.token_hex(12)}"
        self.secret.append(text.rsplit(" ", 1)[1].encode())
        return text

    def person(self, device):
        """The same account, for plain requests."""
        person = Person(device.koine.url, self.session)
        person.token, person.user = device.token, device.user_id
        return person

    async def said(self, device, what):
        body = self.text(what)
        event, session = await device.say(self.room, body)
        return event, session, body

    async def everybody_reads(self, event, body, devices):
        for device in devices:
            await device.reads(self.room, event, body)

    async def raw(self, device, event):
        """All that a server would give of an event."""
        return await self.person(device).call("GET", self.person(device).room(self.room, "event", event))

    async def joins(self, device):
        person = self.person(device)
        return await person.tries("POST", f"{V3}/join/{quote(self.room)}?server_name=hs1", {})

    async def keys_are_shared(self):
        """alice starts an encrypted room with people of two servers; its key goes to each device"""
        self.alice = await self.device(self.hs1, "alice's laptop", "alice").begin(make=True)
        self.alices_phone = await self.device(self.hs1, "alice's phone", "alice").begin()
        self.bob = await self.device(self.hs1, "bob", "bob").begin(make=True)
        self.carol = await self.device(self.hs2, "carol", "carol").begin(make=True)
        self.recovery_key = (await self.alice.do("back_up"))["recovery_key"]
        invite = [self.bob.user_id, self.carol.user_id]
        self.room = (await self.alice.do("create", invite=invite, rotation_msgs=ROTATION_MSGS, history="joined"))["room"]
        await self.bob.do("join", room=self.room)
        await self.carol.do("join", room=self.room, via=["hs1"])
        self.devices = [self.alice, self.alices_phone, self.bob, self.carol]
        for device in self.devices:
            await device.do("knows", room=self.room, joined=3)
        heard = len(self.stage.wire)
        event, self.session_id, body = await self.said(self.alice, "hello")
        await self.everybody_reads(event, body, self.devices)
        raw = await self.raw(self.carol, event)
        if raw["type"] != "m.room.encrypted" or raw["content"]["session_id"] != self.session_id:
            raise Wrong(f"expected an encrypted event of the session, seen {raw}")
        over = b"".join(self.stage.wire[heard:])
        for what in (b"m.direct_to_device", b"m.olm.v1.curve25519-aes-sha2", self.carol.device_id.encode()):
            if what not in over:
                raise Wrong(f"expected {what.decode()} on the wire between the servers")
        if b"m.room_key" in over:
            raise Wrong("expected the kind of the key's message to be hidden on the wire")
        say(f"session {short(self.session_id)}; its key went to carol's device as m.direct_to_device, by Olm")

    async def nothing_in_the_clear(self):
        """neither the servers' disks nor the wire between them hold what was written"""
        marker = f"open {secrets.token_hex(12)}"
        await self.person(self.alice).call("POST", f"{V3}/createRoom", {"topic": marker})
        if not self.stage.found([marker.rsplit(" ", 1)[1].encode()]):
            raise Wrong("what is not encrypted was to be found, or the search proves nothing")
        if found := self.stage.found(self.secret):
            raise Wrong(f"{len(found)} texts stand in the clear")
        say(f"looked for {len(self.secret)} texts in {sum(map(len, self.stage.wire)) >> 10} KiB of wire and both data folders")

    async def renewal(self):
        """the session is renewed after so many messages, and for nothing else"""
        sessions = []
        for number in range(2 * ROTATION_MSGS):
            event, session, body = await self.said(self.bob, f"message {number}")
            sessions.append(session)
        await self.everybody_reads(event, body, self.devices)
        runs = [len([s for s in sessions if s == session]) for session in dict.fromkeys(sessions)]
        if runs != [ROTATION_MSGS] * 2:
            raise Wrong(f"expected a new session after {ROTATION_MSGS} messages, seen runs of {runs}")
        _, before, _ = await self.said(self.bob, "before")
        await self.alice.do("rename", name="Alice in Wonderland")
        tablet = await self.device(self.hs1, "bob's tablet", "bob").begin()
        await self.bob.do("sees_devices", user=self.bob.user_id, count=2)
        event, after, body = await self.said(self.bob, "after")
        if before != after:
            raise Wrong("a new name and a new login changed the session")
        await tablet.reads(self.room, event, body)
        self.tablet = tablet
        self.devices.append(tablet)
        say(f"sessions {' '.join(short(s) for s in dict.fromkeys(sessions))}; a new name and a new login changed none, and the new device reads on")

    async def leaving(self):
        """whoever leaves, by whatever door, cannot read what comes after"""
        alice = self.alice
        for how in ("leave", "kick", "ban", "in a gap"):
            event, before, body = await self.said(alice, f"before {how}")
            await self.carol.reads(self.room, event, body)
            if how == "in a gap":
                await alice.do("network", away=True)
                await self.carol.do("member", room=self.room, how="leave")
                await alice.do("network", away=False)
            else:
                actor = self.carol if how == "leave" else alice
                await actor.do("member", room=self.room, user=self.carol.user_id, how=how)
            for device in (alice, self.bob):
                await device.do("knows", room=self.room, joined=2)
            event, after, body = await self.said(alice, f"after {how}")
            if before == after:
                raise Wrong(f"{how}: the session was not discarded")
            await self.everybody_reads(event, body, [d for d in self.devices if d is not self.carol])
            why = await self.carol.cannot_decrypt(await self.raw(self.bob, event))
            say(f"{how}: {short(before)} is followed by {short(after)}; carol's device, handed the event: {why}")
            if how == "ban":
                await self.person(alice).call("POST", alice_room(self, "unban"), {"user_id": self.carol.user_id})
            await alice_invites(self, self.carol)
            await until("the invitation at the other server", 60, lambda: self.joins(self.carol))
            for device in self.devices:
                await device.do("knows", room=self.room, joined=3)
        # A device that logs out is no member that leaves; the session is discarded all the same.
        event, before, body = await self.said(alice, "before logging out")
        await self.tablet.reads(self.room, event, body)
        await self.tablet.do("log_out")
        self.devices.remove(self.tablet)
        await alice.do("sees_devices", user=self.bob.user_id, count=1)
        _, after, _ = await self.said(alice, "after logging out")
        if before == after:
            raise Wrong("logging out: the session was not discarded")
        say(f"a device logs out: {short(before)} is followed by {short(after)}")

    async def joining(self):
        """whoever joins reads from there on, and nothing before"""
        before, _, _ = await self.said(self.alice, "before dave")
        self.dave = await self.device(self.hs2, "dave", "dave").begin(make=True)
        await alice_invites(self, self.dave)
        await until("the invitation at the other server", 60, lambda: self.joins(self.dave))
        self.devices.append(self.dave)
        for device in self.devices:
            await device.do("knows", room=self.room, joined=4)
        event, _, body = await self.said(self.alice, "after dave")
        await self.everybody_reads(event, body, self.devices)
        why = await self.dave.cannot_decrypt(await self.raw(self.bob, before))
        say(f"dave reads what is said now; handed what was said before: {why}")

    async def other_clients(self):
        """koine-chat, as another device of bob, and somebody with matrix-nio read and are read"""
        members, came = 4, []
        if self.terminals:
            self.terminal = await Device(self.terminals, self.hs1, "bob's terminal", "bob").begin()
            self.bobs += 1
            came.append(self.terminal)
        if self.nio:
            erin = await Device(self.nio, self.hs2, "erin with nio", "erin").begin(make=True)
            await alice_invites(self, erin)
            await until("the invitation at the other server", 60, lambda: self.joins(erin))
            members += 1
            came.append(erin)
        self.members = members
        self.devices += came
        for device in self.devices:
            await device.do("knows", room=self.room, joined=members)
        if self.terminals:
            for device in (self.alice, self.carol):
                await device.do("sees_devices", user=self.bob.user_id, count=self.bobs)
        for device in [self.carol, *came]:
            event, session, body = await self.said(device, f"from {device}")
            await self.everybody_reads(event, body, self.devices)
            say(f"{device}, in session {short(session)}: read by all {len(self.devices)} devices")

    async def restart_and_time(self):
        """a restart keeps the session; time renews it, where the room says so"""
        alice, terminal = self.alice, self.terminal

        async def room(**more):
            made = (await terminal.do("create", invite=[alice.user_id], **more))["room"]
            await alice.do("join", room=made)
            await alice.do("knows", room=made, joined=2)
            return made

        where = await room()
        _, before = await terminal.say(where, self.text("before a restart"))
        await terminal.do("restart")
        event, after = await terminal.say(where, body := self.text("after a restart"))
        if before != after:
            raise Wrong("a restart changed the session")
        await alice.reads(where, event, body)
        where = await room(rotation_ms=ROTATION_MS)
        began = time.monotonic()
        _, first = await terminal.say(where, self.text("first"))
        _, session = await terminal.say(where, self.text("at once"))
        if session != first and (time.monotonic() - began) * 1e3 < ROTATION_MS - GRAIN_MS:
            raise Wrong(f"a session for {ROTATION_MS} ms was renewed before")
        # Once is enough here; the walk `chat` lets sessions expire while they are used.
        await asyncio.sleep((ROTATION_MS + GRAIN_MS) / 1e3)
        event, session = await terminal.say(where, body := self.text("later"))
        if session == first:
            raise Wrong("time did not renew the session; was koine-chat built with fast-rotation?")
        await alice.reads(where, event, body)
        say(f"killed and begun again: still {short(before)}; {ROTATION_MS} ms: {short(first)} is followed by {short(session)}")

    async def attachments(self):
        """a file is encrypted before it leaves; the servers hold ciphertext only"""
        clear = secrets.token_bytes(24)
        data = clear * 2000
        self.secret.append(clear)
        sent = await self.terminal.do("upload", room=self.room, data=base64.b64encode(data).decode())
        for device in (self.alice, self.carol):
            seen = await device.do("fetch", room=self.room, event=sent["event_id"])
            if base64.b64decode(seen["data"]) != data:
                raise Wrong(f"{device} did not get the file that was sent")
            kept = base64.b64decode(seen["kept"])
        if not self.stage.found([kept[1000:1024]]):
            raise Wrong("the ciphertext was to be found at the servers, or the search proves nothing")
        if self.stage.found([clear]):
            raise Wrong("the file stands in the clear")
        say(f"{len(data) >> 10} KiB from koine-chat, decrypted by devices of both servers; what the servers keep is ciphertext")

    async def new_device(self):
        """a new device of alice reads old messages with the recovery key, and says why it cannot without"""
        event, _, body = await self.said(self.bob, "old")
        await self.alice.reads(self.room, event, body)
        fresh = await self.device(self.hs1, "alice's desktop", "alice").begin(recovery_key=self.recovery_key)
        why = await fresh.cannot_read(self.room, event)

        async def recovers():
            imported = (await fresh.do("recover"))["imported"]
            seen = await fresh.do("read", room=self.room, event=event, within_ms=UNREAD_WITHIN_MS)
            return imported if seen.get("body") == body else None

        # alice's other device puts keys into the backup when it gets to it.
        imported = await until("the old message to be read out of the backup", 60, recovers)
        self.devices.append(fresh)
        say(f"before: {why}; with the recovery key: {imported} sessions from the backup")

    async def one_time_keys(self):
        """one-time keys are given out once, however many ask; then the fallback key serves"""
        heidi = await Person(self.hs1.url, self.session).register("heidi")
        device = (await heidi.call("GET", f"{V3}/account/whoami"))["device_id"]
        keys = {f"curve25519:{n:04}": secrets.token_urlsafe(32) for n in range(ONE_TIME_KEYS)}
        fallback = {"curve25519:fallback": secrets.token_urlsafe(32)}
        await heidi.call("POST", f"{V3}/keys/upload", {"one_time_keys": keys, "fallback_keys": fallback})
        claim = {"one_time_keys": {heidi.user: {device: "curve25519"}}}

        async def claims(asker):
            seen = await self.person(asker).call("POST", f"{V3}/keys/claim", claim)
            mine = seen["one_time_keys"].get(heidi.user, {}).get(device)
            return next(iter(mine.items())) if mine else None

        async def gets_one(asker):
            # A server that did not answer in time may have given a key out; whoever asks again gets another.
            return await until("a key", 60, lambda: claims(asker))

        askers = [self.bob, self.carol, self.dave]
        given = await asyncio.gather(*(gets_one(askers[n % len(askers)]) for n in range(CLAIMS)))
        once = [name for name, _ in given if "fallback" not in name]
        if len(set(once)) != len(once) or not 0 < len(once) <= ONE_TIME_KEYS:
            raise Wrong(f"expected at most {ONE_TIME_KEYS} keys, each once; seen {len(once)}, {len(set(once))} of them different")
        if any(value != fallback["curve25519:fallback"] for name, value in given if "fallback" in name):
            raise Wrong("what served at the end is not the fallback key")
        new = {"curve25519:second": secrets.token_urlsafe(32)}
        await heidi.call("POST", f"{V3}/keys/upload", {"fallback_keys": new})
        name, _ = await gets_one(self.carol)
        if name != "curve25519:second":
            raise Wrong(f"expected the new fallback key, seen {name}")
        say(f"{CLAIMS} claims from both servers at once: {len(once)} keys once each, then the fallback key, then the new one")

    async def device_lists(self):
        """a device comes while the other server is away; nobody stays unable to decrypt"""
        self.hs2.kill()
        away, _, body = await self.said(self.alice, "while hs2 is away")
        tablet = await self.device(self.hs1, "bob's new tablet", "bob").begin()
        await self.alice.do("sees_devices", user=self.bob.user_id, count=self.bobs + 1)
        await self.hs2.begin()
        await self.everybody_reads(away, body, [self.carol, self.dave])
        await self.carol.do("sees_devices", user=self.bob.user_id, count=self.bobs + 1)
        event, _, body = await self.said(self.carol, "hello again")
        await self.everybody_reads(event, body, [*self.devices, tablet])
        await tablet.do("log_out")
        await self.carol.do("sees_devices", user=self.bob.user_id, count=self.bobs)
        event, _, body = await self.said(self.carol, "and again")
        await self.everybody_reads(event, body, self.devices)
        say("what was said meanwhile is read after the restart, and both servers agree about bob's devices")

    async def begins_anew(self):
        """somebody loses all devices and begins anew; both servers know the new ones alone"""
        lost = [await self.device(self.hs2, f"judy's lost {name}", "judy").begin(make=name == "laptop") for name in ("laptop", "phone")]
        await lost[0].do("back_up")
        await alice_invites(self, lost[0])
        await until("the invitation at the other server", 60, lambda: self.joins(lost[0]))
        await self.alice.do("knows", room=self.room, joined=self.members + 1)
        event, _, body = await self.said(self.alice, "hello judy")
        await self.everybody_reads(event, body, lost)
        before = await self.keys_of(self.alice, lost[0].user_id)

        await self.person(lost[0]).call("POST", f"{V3}/logout/all")
        anew = await self.device(self.hs2, "judy's new phone", "judy").begin()
        await anew.do("begin_anew", user="judy", password=PASSWORD)
        for device in (self.alice, self.carol):
            await device.do("sees_devices", user=anew.user_id, count=1)
        event, session, body = await self.said(self.alice, "hello again, judy")
        await self.everybody_reads(event, body, [*self.devices, anew])
        event, _, body = await self.said(anew, "here I am")
        await self.everybody_reads(event, body, self.devices)
        for device in lost:
            if await self.person(device).tries("GET", f"{V3}/account/whoami"):
                raise Wrong(f"{device} is still logged in")

        async def alike():
            there, here = [await self.keys_of(device, anew.user_id) for device in (self.alice, self.carol)]
            return there == here and (there, here)

        after, _ = await until("the same keys at both servers", 60, alike)
        if list(after["devices"]) != [anew.device_id] or after["master"] == before["master"]:
            raise Wrong(f"expected one device and another identity, seen {after}")
        say(f"device {anew.device_id} and another identity at both servers; session {short(session)} goes to it and to no lost one")

    async def keys_of(self, device, user):
        """As the server of `device` knows them."""
        seen = await self.person(device).call("POST", f"{V3}/keys/query", {"device_keys": {user: []}})
        devices = {name: known["keys"] for name, known in seen["device_keys"].get(user, {}).items()}
        return {"devices": devices, "master": seen.get("master_keys", {}).get(user)}

    async def kills(self):
        """messages to devices survive kills of either server, each once and in order"""
        frank, grace = [await Person(koine.url, self.session).register(name) for koine, name in ((self.hs1, "frank"), (self.hs2, "grace"))]
        device = (await grace.call("GET", f"{V3}/account/whoami"))["device_id"]
        room = (await frank.call("POST", f"{V3}/createRoom", {"preset": "public_chat", "room_alias_name": "kills"}))["room_id"]
        await grace.join("#kills:hs1")
        received, since = [], (await grace.call("GET", f"{V3}/sync"))["next_batch"]
        going = True

        async def listens():
            nonlocal since
            while going or len(set(received)) < TO_DEVICE:
                seen = await grace.tries("GET", f"{V3}/sync?timeout=200&since={quote(since)}")
                if seen:
                    since = seen["next_batch"]
                    received.extend(event["content"]["number"] for event in seen.get("to_device", {}).get("events", []))
                else:
                    await asyncio.sleep(0.05)

        listening = asyncio.ensure_future(listens())
        for number in range(TO_DEVICE):
            body = {"messages": {grace.user: {device: {"number": number}}}}
            while await frank.tries("PUT", f"{V3}/sendToDevice/koine.demo/{number}", body) is None:
                await asyncio.sleep(0.05)
            if number % 20 == 10:
                victim = self.stage.koines[number // 20 % 2]
                victim.kill()
                await victim.begin()
        going = False
        await asyncio.wait_for(listening, 120)
        await asyncio.sleep(UNREAD_WITHIN_MS / 1e3)
        exactly_once("messages to a device", range(TO_DEVICE), received)
        if received != sorted(received):
            raise Wrong("messages to a device came in another order than they were sent")
        say(f"{TO_DEVICE} messages over three kills, each once and in order")

    SCENES = [
        keys_are_shared, nothing_in_the_clear, renewal, leaving, joining, other_clients, restart_and_time, attachments, new_device,
        one_time_keys, device_lists, begins_anew, kills, nothing_in_the_clear,
    ]  # fmt: skip
    # Those that koine-chat alone plays.
    BY_KOINE_CHAT = {restart_and_time, attachments}


def alice_room(demo, what):
    return demo.person(demo.alice).room(demo.room, what)


async def alice_invites(demo, device):
    await demo.person(demo.alice).call("POST", alice_room(demo, "invite"), {"user_id": device.user_id})


async def play(options):
    with temporary_folder() as folder:
        stage = Stage(options.koine, folder)
        robots = [await Robot.begin("node", options.devices)]
        terminals = nio = None
        try:
            if options.chat:
                robots.append(terminals := Terminals(options.chat, os.path.join(folder, "chat")))
            if options.nio:
                script = os.path.join(os.path.dirname(__file__), "devices.py")
                robots.append(nio := await Robot.begin(options.nio, "-B", script))
            await stage.begin()
            async with client_session() as session:
                return await play_scenes(Demo(stage, robots[0], terminals, nio, session))
        finally:
            for robot in robots:
                await robot.end()
            stage.end()


async def play_scenes(demo):
    for name, there in (("koine-chat", demo.terminals), ("matrix-nio", demo.nio)):
        if not there:
            print(f"NOT RUN  {name} IS NOT HERE: the others play without it", flush=True)
    for scene in demo.SCENES:
        began = time.monotonic()
        print(f"{scene.__doc__}", flush=True)
        if scene in demo.BY_KOINE_CHAT and not demo.terminals:
            print("NOT RUN  (without koine-chat)", flush=True)
            continue
        try:
            await scene(demo)
        except Wrong as wrong:
            print(f"WRONG  {wrong}", flush=True)
            return 1
        print(f"ok     ({time.monotonic() - began:.1f} s)", flush=True)
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--koine", required=True)
    parser.add_argument("--devices", required=True)
    parser.add_argument("--chat")
    parser.add_argument("--nio")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    return asyncio.run(play(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
