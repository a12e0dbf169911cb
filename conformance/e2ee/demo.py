"""The life of encrypted rooms, shown: two federating servers, real clients, and what goes over the wire.

usage: demo.py --koine PROGRAM --devices SCRIPT [SCENE]...

SCRIPT is devices.mjs where its packages are. Prints what happens as it happens. Ends with 1 at the first scene in which
something was wrong; the scenes after it are not played then, since each goes on from the one before.
"""

import argparse
import asyncio
import json
import logging
import os
import secrets
import signal
import sys
import time

from stage import Device, Robot, Stage, UNREAD_WITHIN_MS, Wrong
from koines import Person, V3, exactly_once, temporary_folder, until
from people import client_session, quote

ROTATION_MSGS = 4
ONE_TIME_KEYS, CLAIMS = 20, 60
TO_DEVICE = 60


def say(text):
    print(f"       {text}", flush=True)


def short(session):
    return session[:8] + "…"


class Demo:
    """The scenes, in order. Each method is one; its first line of documentation is what is printed."""

    def __init__(self, stage, robot, session):
        self.stage, self.robot, self.session = stage, robot, session
        self.hs1, self.hs2 = stage.koines
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
        carol, alice = self.person(self.carol), self.alice
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
            await until("the invitation at the other server", 60, lambda: carol.tries("POST", f"{V3}/join/{quote(self.room)}?server_name=hs1", {}))
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
        dave = self.person(self.dave)
        await until("the invitation at the other server", 60, lambda: dave.tries("POST", f"{V3}/join/{quote(self.room)}?server_name=hs1", {}))
        self.devices.append(self.dave)
        for device in self.devices:
            await device.do("knows", room=self.room, joined=4)
        event, _, body = await self.said(self.alice, "after dave")
        await self.everybody_reads(event, body, self.devices)
        why = await self.dave.cannot_decrypt(await self.raw(self.bob, before))
        say(f"dave reads what is said now; handed what was said before: {why}")

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
        erin = await Person(self.hs1.url, self.session).register("erin")
        device = (await erin.call("GET", f"{V3}/account/whoami"))["device_id"]
        keys = {f"curve25519:{n:04}": secrets.token_urlsafe(32) for n in range(ONE_TIME_KEYS)}
        fallback = {"curve25519:fallback": secrets.token_urlsafe(32)}
        await erin.call("POST", f"{V3}/keys/upload", {"one_time_keys": keys, "fallback_keys": fallback})
        claim = {"one_time_keys": {erin.user: {device: "curve25519"}}}

        async def claims(asker):
            seen = await self.person(asker).call("POST", f"{V3}/keys/claim", claim)
            mine = seen["one_time_keys"].get(erin.user, {}).get(device)
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
        await erin.call("POST", f"{V3}/keys/upload", {"fallback_keys": new})
        name, _ = await gets_one(self.carol)
        if name != "curve25519:second":
            raise Wrong(f"expected the new fallback key, seen {name}")
        say(f"{CLAIMS} claims from both servers at once: {len(once)} keys once each, then the fallback key, then the new one")

    async def device_lists(self):
        """a device comes while the other server is away; nobody stays unable to decrypt"""
        self.hs2.kill()
        away, _, body = await self.said(self.alice, "while hs2 is away")
        tablet = await self.device(self.hs1, "bob's new tablet", "bob").begin()
        await self.alice.do("sees_devices", user=self.bob.user_id, count=2)
        await self.hs2.begin()
        await self.everybody_reads(away, body, [self.carol, self.dave])
        await self.carol.do("sees_devices", user=self.bob.user_id, count=2)
        event, _, body = await self.said(self.carol, "hello again")
        await self.everybody_reads(event, body, [*self.devices, tablet])
        await tablet.do("log_out")
        await self.carol.do("sees_devices", user=self.bob.user_id, count=1)
        event, _, body = await self.said(self.carol, "and again")
        await self.everybody_reads(event, body, self.devices)
        say("what was said meanwhile is read after the restart, and both servers agree about bob's devices")

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
        keys_are_shared, nothing_in_the_clear, renewal, leaving, joining, new_device, one_time_keys, device_lists, kills,
        nothing_in_the_clear,
    ]  # fmt: skip


def alice_room(demo, what):
    return demo.person(demo.alice).room(demo.room, what)


async def alice_invites(demo, device):
    await demo.person(demo.alice).call("POST", alice_room(demo, "invite"), {"user_id": device.user_id})


async def play(options):
    with temporary_folder() as folder:
        stage = Stage(options.koine, folder)
        robot = await Robot.begin(options.devices)
        try:
            await stage.begin()
            async with client_session() as session:
                demo = Demo(stage, robot, session)
                for scene in demo.SCENES:
                    began = time.monotonic()
                    print(f"{scene.__doc__}", flush=True)
                    try:
                        await scene(demo)
                    except Wrong as wrong:
                        print(f"WRONG  {wrong}", flush=True)
                        return 1
                    print(f"ok     ({time.monotonic() - began:.1f} s)", flush=True)
        finally:
            await robot.end()
            stage.end()
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--koine", required=True)
    parser.add_argument("--devices", required=True)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    return asyncio.run(play(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
