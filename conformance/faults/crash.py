"""Killed in the midst of everything: what was acknowledged is there afterwards, exactly once."""

import asyncio
import itertools
import os
import random

import slixmpp
from koines import Authority, Koine, Person, V3, Wrong, exactly_once, temporary_folder, until
from people import PASSWORD, Xmpp, client_session, quote

SENDERS = 4
# Kills come this long after the load began, at another moment each time.
LOAD_S = (0.2, 1.5)
AGREE_WITHIN_S = 90


class Load:
    """What people do until their server dies, and what they were told was done."""

    def __init__(self, koine, session):
        self.koine, self.session = koine, session
        self.numbers = itertools.count()
        self.messages, self.unsure, self.to_device, self.stanzas = {}, {}, [], []
        self.states, self.keys, self.receipt = {}, set(), None
        # In the order of sending: a receipt that was not acknowledged may have been taken all the same.
        self.receipts_sent = []
        self.received = []

    async def prepare(self):
        person = lambda: Person(self.koine.url, self.session)
        self.alice, self.bob = await person().register("alice"), await person().register("bob")
        self.carol, self.dave = await person().register("carol"), await person().register("dave")
        self.room = (await self.alice.call("POST", f"{V3}/createRoom", {"preset": "public_chat"}))["room_id"]
        await self.bob.join(self.room)
        whoami = await self.bob.call("GET", f"{V3}/account/whoami")
        self.bobs_device, self.domain = whoami["device_id"], self.bob.user.split(":", 1)[1]
        self.bob.since = (await self.bob.call("GET", f"{V3}/sync"))["next_batch"]

    async def sends(self):
        while self.koine.runs:
            txn = f"message {next(self.numbers)}"
            self.unsure[txn] = None
            if event := await self.alice.put(self.room, txn, txn):
                self.messages[txn] = event
                del self.unsure[txn]

    async def sets_state(self):
        while self.koine.runs:
            number = next(self.numbers)
            path = self.alice.room(self.room, "state", "koine.faults", str(number))
            if await self.alice.tries("PUT", path, {"number": number}) is not None:
                self.states[str(number)] = number

    async def sends_to_device(self):
        while self.koine.runs:
            number = next(self.numbers)
            body = {"messages": {self.bob.user: {self.bobs_device: {"number": number}}}}
            if await self.alice.tries("PUT", f"{V3}/sendToDevice/koine.faults/{number}", body) is not None:
                self.to_device.append(number)

    async def syncs(self):
        while self.koine.runs:
            await self.sync_once(300)

    async def sync_once(self, timeout_ms):
        """One look of Bob's; whether anything was for his device."""
        seen = await self.bob.tries("GET", f"{V3}/sync?timeout={timeout_ms}&since={quote(self.bob.since)}")
        if not seen:
            return False
        self.bob.since = seen["next_batch"]
        came = [event["content"]["number"] for event in seen.get("to_device", {}).get("events", [])]
        self.received += came
        return bool(came)

    async def uploads_keys(self):
        while self.koine.runs:
            name = f"curve25519:K{next(self.numbers)}"
            if await self.bob.tries("POST", f"{V3}/keys/upload", {"one_time_keys": {name: "A" * 43}}) is not None:
                self.keys.add(name)
            await asyncio.sleep(0.02)

    async def reads(self):
        while self.koine.runs:
            if self.messages:
                event = next(reversed(self.messages.values()))
                self.receipts_sent.append(event)
                if await self.bob.tries("POST", self.bob.room(self.room, "receipt", "m.read", event), {}) is not None:
                    self.receipt = len(self.receipts_sent) - 1
            await asyncio.sleep(0.02)

    async def speaks_by_xmpp(self):
        """Carol writes to Dave; a stanza counts when stream management has counted it. [XEP-0198 §4]"""
        carol = Xmpp(f"carol@{self.domain.split(':')[0]}/faults", self.koine.starttls_port, None)
        carol.slix.add_event_handler("stanza_acked", self.acked)
        try:
            await carol.log_in()
            while self.koine.runs:
                await carol.sends(f"dave@{self.domain.split(':')[0]}", f"stanza {next(self.numbers)}")
                carol["xep_0198"].request_ack()
                await asyncio.sleep(0.005)
        except (OSError, slixmpp.exceptions.IqTimeout, PermissionError, asyncio.TimeoutError):
            pass
        finally:
            carol.slix.abort()

    def acked(self, stanza):
        if stanza.name == "message" and stanza["body"].startswith("stanza "):
            self.stanzas.append(stanza["body"])

    async def all_at_once_until_killed(self):
        does = [self.sets_state, self.sends_to_device, self.syncs, self.uploads_keys, self.reads, self.speaks_by_xmpp]
        tasks = [asyncio.ensure_future(do()) for do in does + [self.sends] * SENDERS]
        before = len(self.messages)
        await asyncio.sleep(random.uniform(*LOAD_S))
        # A busy machine gets to nothing in that time.
        await until("messages to be acknowledged", 30, lambda: asyncio.sleep(0, len(self.messages) > before + 20))
        self.koine.kill()
        await asyncio.gather(*tasks)

    async def check(self):
        """Everything acknowledged so far is there, once."""
        for txn in list(self.unsure):
            # Whoever had no answer asks again under the same transaction id.
            self.messages[txn] = await self.alice.put(self.room, txn, txn)
            del self.unsure[txn]
        for txn, event in list(self.messages.items())[-20:]:
            again = await self.alice.put(self.room, txn, txn)
            if again != event:
                raise Wrong(f"{txn} sent again: expected {event}, seen {again}")
        exactly_once("messages", self.messages, await self.alice.everything_said(self.room))

        state = await self.alice.call("GET", self.alice.room(self.room, "state"))
        kept = {event["state_key"]: event["content"]["number"] for event in state if event["type"] == "koine.faults"}
        if wrong := [key for key, number in self.states.items() if kept.get(key) != number]:
            raise Wrong(f"state: {len(wrong)} of {len(self.states)} acknowledged are not there, such as {wrong[:3]}")

        while await self.sync_once(0):
            pass
        exactly_once("messages to a device", self.to_device, self.received)
        if self.received != sorted(self.received):
            raise Wrong("messages to a device came in another order than they were sent")

        counted = (await self.bob.call("POST", f"{V3}/keys/upload", {}))["one_time_key_counts"].get("curve25519", 0)
        if counted < len(self.keys):
            raise Wrong(f"one-time keys: {len(self.keys)} were acknowledged, {counted} are there")

        if self.receipt is not None:
            seen = await self.bob.call("GET", f"{V3}/sync")
            room = seen["rooms"]["join"][self.room]
            receipts = [event["content"] for event in room["ephemeral"]["events"] if event["type"] == "m.receipt"]
            at = {event for content in receipts for event, kinds in content.items() if self.bob.user in kinds.get("m.read", {})}
            if not at & set(self.receipts_sent[self.receipt :]):
                raise Wrong(f"the receipt: expected one at {self.receipts_sent[self.receipt]} or later, seen {at}")

        if self.stanzas:
            exactly_once("stanzas", self.stanzas, await self.said_to_dave())

    async def said_to_dave(self):
        """The conversation of Carol and Dave as a Matrix client sees it."""
        said = []
        for room in (await self.carol.call("GET", f"{V3}/joined_rooms"))["joined_rooms"]:
            said += await self.carol.everything_said(room)
        return [text for text in said if text and text.startswith("stanza ")]


async def crash(w):
    """killed under load of both protocols, again and again"""
    with temporary_folder() as folder:
        koine = Koine(w.koine, folder)
        slowest = 0.0
        try:
            async with client_session() as session:
                load = Load(koine, session)
                await koine.begin()
                await load.prepare()
                for _ in range(w.kills):
                    await load.all_at_once_until_killed()
                    slowest = max(slowest, await koine.begin())
                    await load.check()
        finally:
            koine.end()
        return (
            f"{w.kills} kills; {len(load.messages)} messages, {len(load.states)} changes of state, {len(load.to_device)} messages "
            f"to a device, {len(load.keys)} one-time keys, {len(load.stanzas)} stanzas, none lost, none twice; "
            f"slowest start {slowest:.2f} s"
        )


async def crash_federation(w):
    """killed in turns while two servers talk"""
    with temporary_folder() as folder:
        authority = Authority(folder)
        koines = [Koine(w.koine, os.path.join(folder, name), name) for name in ("hs1", "hs2")]
        for koine, other in (koines, koines[::-1]):
            certificate, key = authority.certify(koine.name)
            koine.more = ["--tls-cert", certificate, "--tls-key", key, "--federation-ca", authority.file]
            koine.more += ["--server-at", f"{other.name}=127.0.0.1:{other.tls_port}"]
        try:
            for koine in koines:
                await koine.begin()
            async with client_session() as session:
                people, room = await in_one_room(koines, session)
                acknowledged, going = {}, True

                async def sends(person, name):
                    for number in itertools.count():
                        txn = f"{name} {number}"
                        # Whoever had no answer asks again under the same transaction id.
                        while not await person.put(room, txn, txn):
                            if not going:
                                return
                            await asyncio.sleep(0.05)
                        acknowledged[txn] = True
                        if not going:
                            return

                tasks = [asyncio.ensure_future(sends(person, name)) for person, name in zip(people, ("first", "second"))]
                for number in range(w.kills):
                    await asyncio.sleep(random.uniform(*LOAD_S))
                    koines[number % 2].kill()
                    await asyncio.sleep(random.uniform(0, 0.5))
                    await koines[number % 2].begin()
                going = False
                await asyncio.gather(*tasks)
                await all_agree(people, room, acknowledged, AGREE_WITHIN_S)
        finally:
            for koine in koines:
                koine.end()
        return f"{w.kills} kills; {len(acknowledged)} messages, each once at both servers"


async def in_one_room(koines, session):
    """Somebody of each server, and a room with both."""
    people = [await Person(koine.url, session).register(f"person{number}") for number, koine in enumerate(koines)]
    body = {"preset": "public_chat", "room_alias_name": "faults"}
    room = (await people[0].call("POST", f"{V3}/createRoom", body))["room_id"]
    for person in people[1:]:
        await person.join(f"#faults:{koines[0].name}")
    return people, room


async def all_agree(people, room, acknowledged, within_s):
    """Everybody has everything that anybody was told was sent, once."""
    for person in people:

        async def has_all(person=person):
            said = set(await person.everything_said(room))
            return all(text in said for text in acknowledged)

        await until(f"all {len(acknowledged)} messages at the server of {person.user}", within_s, has_all)
        exactly_once(f"messages at the server of {person.user}", acknowledged, await person.everything_said(room))


CASES = (crash, crash_federation)
