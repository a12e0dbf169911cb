"""Killed in the midst of everything: what was acknowledged is there afterwards, exactly once."""

import asyncio
import itertools
import json
import os
import random
import statistics

import slixmpp
from koines import Authority, Growing, Koine, Person, V3, Wrong, exactly_once, temporary_folder, until
from people import Xmpp, client_session, quote
from told import Told

SENDERS = 4
# So that the room's state stays a size at which reading all of it is quick.
STATE_KEYS = 300
TO_DEVICE_PAUSE_S = 0.1
# Kills come this long after the load began, at another moment each time.
LOAD_S = (0.2, 1.5)
AGREE_WITHIN_S = 90
# Whoever did not take something is asked again after one, two, four seconds.
TOLD_WITHIN_S = 60
# In long runs, how far it is.
TELL_EVERY = 25


class Load:
    """What people do until their server dies, and what they were told was done."""

    def __init__(self, koine, session, told):
        self.koine, self.session, self.told = koine, session, told
        self.numbers = itertools.count()
        # Texts of messages with the transaction ids they had; those of which nobody knows.
        self.messages, self.unsure, self.latest = {}, {}, {}
        # By state key: what was acknowledged, and what was said to be written later.
        self.states, self.unsure_states, self.state_count = {}, {}, 0
        self.events = Growing("events")
        self.to_device, self.received = Growing("messages to a device"), []
        self.stanzas, self.archived = Growing("stanzas"), Growing("stanzas in the archive")
        self.newest = {}
        self.keys, self.receipt = set(), None
        # In the order of sending: a receipt that was not acknowledged may have been taken all the same.
        self.receipts_sent = []
        # Events that the application service and the push gateway have to have.
        self.to_tell, self.to_push = [], []
        self.counted = {"messages": 0, "messages to a device": 0, "stanzas": 0, "notifications": 0}

    async def prepare(self):
        person = lambda: Person(self.koine.url, self.session)
        self.alice, self.bob = await person().register("alice"), await person().register("bob")
        self.carol, self.dave = await person().register("carol"), await person().register("dave")
        self.erin = await person().register("erin")
        self.room = (await self.alice.call("POST", f"{V3}/createRoom", {"preset": "public_chat"}))["room_id"]
        self.quiet = (await self.alice.call("POST", f"{V3}/createRoom", {"preset": "public_chat"}))["room_id"]
        await self.bob.join(self.room)
        await self.erin.join(self.quiet)
        whoami = await self.bob.call("GET", f"{V3}/account/whoami")
        self.bobs_device, self.domain = whoami["device_id"], self.bob.user.split(":", 1)[1]
        self.bob.since = (await self.bob.call("GET", f"{V3}/sync"))["next_batch"]
        names = {"app_id": "koine.faults", "pushkey": "erin", "app_display_name": "faults", "device_display_name": "erin's"}
        where = {"url": f"{self.told.url}/_matrix/push/v1/notify"}
        await self.erin.call("POST", f"{V3}/pushers/set", {"kind": "http", "lang": "en", "data": where, **names})

    def host(self):
        return self.domain.split(":")[0]

    async def sends(self):
        while self.koine.runs:
            txn = f"message {next(self.numbers)}"
            self.unsure[txn] = None
            if event := await self.alice.put(self.room, txn, txn):
                self.acknowledged(txn, event)

    def acknowledged(self, txn, event):
        del self.unsure[txn]
        self.latest[txn] = event
        self.events.acknowledge(event)
        self.to_tell.append(event)
        self.counted["messages"] += 1

    async def sets_state(self):
        while self.koine.runs:
            number = next(self.numbers)
            key = str(number % STATE_KEYS)
            self.unsure_states[key] = number
            path = self.alice.room(self.room, "state", "koine.faults", key)
            if (done := await self.alice.tries("PUT", path, {"number": number})) is not None:
                self.states[key] = number
                del self.unsure_states[key]
                self.events.acknowledge(done["event_id"])
                self.to_tell.append(done["event_id"])
                self.state_count += 1

    async def sends_to_device(self):
        while self.koine.runs:
            number = next(self.numbers)
            body = {"messages": {self.bob.user: {self.bobs_device: {"number": number}}}}
            if await self.alice.tries("PUT", f"{V3}/sendToDevice/koine.faults/{number}", body) is not None:
                self.to_device.acknowledge(number)
                self.counted["messages to a device"] += 1

    async def notifies(self):
        """Says something, not too often, to somebody whose push gateway is told of each."""
        while self.koine.runs:
            txn = f"notify {next(self.numbers)}"
            if event := await self.alice.put(self.quiet, txn, txn):
                self.to_push.append(event)
                self.to_tell.append(event)
                self.counted["notifications"] += 1
            await asyncio.sleep(0.05)

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
            if self.latest:
                event = next(reversed(self.latest.values()))
                self.receipts_sent.append(event)
                if await self.bob.tries("POST", self.bob.room(self.room, "receipt", "m.read", event), {}) is not None:
                    self.receipt = len(self.receipts_sent) - 1
            await asyncio.sleep(0.02)

    def xmpp(self, name):
        return Xmpp(f"{name}@{self.host()}/faults", self.koine.starttls_port, None)

    async def speaks_by_xmpp(self):
        """Carol writes to Dave; a stanza counts when stream management has counted it. [XEP-0198 §4]"""
        carol = self.xmpp("carol")
        carol.slix.add_event_handler("stanza_acked", self.acked)
        try:
            await carol.log_in()
            while self.koine.runs:
                await carol.sends(f"dave@{self.host()}", f"stanza {next(self.numbers)}")
                carol["xep_0198"].request_ack()
                await asyncio.sleep(0.005)
        except (OSError, slixmpp.exceptions.IqTimeout, PermissionError, asyncio.TimeoutError):
            pass
        finally:
            carol.slix.abort()

    def acked(self, stanza):
        if stanza.name == "message" and stanza["body"].startswith("stanza "):
            self.stanzas.acknowledge(stanza["body"])
            self.archived.acknowledge(stanza["body"])
            self.counted["stanzas"] += 1

    async def all_at_once_until_killed(self):
        does = [self.sets_state, self.sends_to_device, self.syncs, self.uploads_keys, self.reads, self.speaks_by_xmpp, self.notifies]
        tasks = [asyncio.ensure_future(do()) for do in does + [self.sends] * SENDERS]
        before = self.counted["messages"]
        await asyncio.sleep(random.uniform(*LOAD_S))
        # A busy machine gets to nothing in that time.
        await until("messages to be acknowledged", 30, lambda: asyncio.sleep(0, self.counted["messages"] > before + 20))
        self.koine.kill()
        await asyncio.gather(*tasks)

    async def check(self):
        """Everything acknowledged since the last time is there, once."""
        for txn in list(self.unsure):
            # Whoever had no answer asks again under the same transaction id.
            if not (event := await self.alice.put(self.room, txn, txn)):
                raise Wrong(f"{txn} was not taken by a server that is well")
            self.acknowledged(txn, event)
        for txn, event in list(self.latest.items())[-20:]:
            again = await self.alice.put(self.room, txn, txn)
            if again != event:
                raise Wrong(f"{txn} sent again: expected {event}, seen {again}")
        said = await self.new_in(self.alice, self.room)
        self.events.check([event for event, _ in said])
        exactly_once("texts", self.latest, [text for _, text in said if text])
        self.latest = {}

        await self.check_state()
        while await self.sync_once(0):
            pass
        self.to_device.check(self.received)
        if self.received != sorted(self.received):
            raise Wrong("messages to a device came in another order than they were sent")
        self.received = []

        counted = (await self.bob.call("POST", f"{V3}/keys/upload", {}))["one_time_key_counts"].get("curve25519", 0)
        if counted < len(self.keys):
            raise Wrong(f"one-time keys: {len(self.keys)} were acknowledged, {counted} are there")
        await self.check_receipt()
        if self.stanzas.acknowledged:
            self.stanzas.check(await self.said_to_dave())
            self.archived.check(await self.archive_of_dave())
        await self.check_told()

    async def new_in(self, person, room):
        """What that person sees in a room since this was asked the last time."""
        said = await person.said_since(room, self.newest.get(room))
        if said:
            self.newest[room] = said[0][0]
        return said

    async def check_state(self):
        state = await self.alice.call("GET", self.alice.room(self.room, "state"))
        kept = {event["state_key"]: event["content"]["number"] for event in state if event["type"] == "koine.faults"}
        for key, number in self.unsure_states.items():
            if kept.get(key) == number:
                self.states[key] = number
        self.unsure_states.clear()
        if wrong := [key for key, number in self.states.items() if kept.get(key) != number]:
            raise Wrong(f"state: {len(wrong)} of {len(self.states)} acknowledged are not there, such as {wrong[:3]}")

    async def check_receipt(self):
        if self.receipt is None:
            return
        seen = await self.bob.call("GET", f"{V3}/sync")
        room = seen["rooms"]["join"][self.room]
        receipts = [event["content"] for event in room["ephemeral"]["events"] if event["type"] == "m.receipt"]
        at = {event for content in receipts for event, kinds in content.items() if self.bob.user in kinds.get("m.read", {})}
        if not at & set(self.receipts_sent[self.receipt :]):
            raise Wrong(f"the receipt: expected one at {self.receipts_sent[self.receipt]} or later, seen {at}")

    async def said_to_dave(self):
        """What is new in the conversation of Carol and Dave as a Matrix client sees it."""
        said = []
        for room in (await self.carol.call("GET", f"{V3}/joined_rooms"))["joined_rooms"]:
            said += await self.new_in(self.carol, room)
        return [text for _, text in said if text and text.startswith("stanza ")]

    async def archive_of_dave(self):
        """What is new in Dave's archive, from where he was the last time. [XEP-0313 §4.3.2]"""
        dave = self.xmpp("dave")
        try:
            await dave.log_in()
            # Whoever is there takes the conversations that they are asked into.
            await dave.be_here()
            said = []
            while True:
                rsm = {"max": "200", "after": self.archived_until} if self.archived_until else {"max": "200"}
                page = await dave["xep_0313"].retrieve(rsm=rsm, timeout=30)
                results = page["mam"]["results"]
                said += [result["mam_result"]["forwarded"]["stanza"]["body"] for result in results]
                if results:
                    self.archived_until = results[-1]["mam_result"]["id"]
                if len(results) < 200:
                    return [text for text in said if text.startswith("stanza ")]
        finally:
            dave.slix.abort()

    archived_until = None

    async def check_told(self):
        """The application service has each event under one transaction id; the push gateway was told of each."""
        for what, wanted, has in (("application service", self.to_tell, self.told.events), ("push gateway", self.to_push, self.told.pushed)):
            everything = lambda: asyncio.sleep(0, all(event in has for event in wanted))
            await until(f"the {what} to be told of {len(wanted)} events", TOLD_WITHIN_S, everything)
            wanted.clear()
        doubled = [event for event, count in self.told.events.items() if count > 1]
        if doubled or self.told.wrong:
            wrong = [*self.told.wrong, *doubled]
            raise Wrong(f"the application service was told of {len(doubled)} events under two transaction ids; {wrong[:3]}")

    async def check_everything(self):
        """The whole history once more, at the end."""
        exactly_once("events of the whole history", self.events.seen, [event for event, _ in await self.alice.said_since(self.room, None)])

    def summary(self):
        told = self.told
        doubled = sum(count - 1 for count in told.pushed.values())
        counts = ", ".join(f"{count} {what}" for what, count in self.counted.items())
        return (
            f"{counts}, {self.state_count} changes of state, {len(self.keys)} one-time keys: none lost, none twice; an application service: "
            f"{len(told.events)} events, each once, in {len(told.transactions)} transactions, {told.repeated} of which came again under "
            f"their ids; a push gateway: none lost, {doubled} told again"
        )


async def crash(w):
    """killed under load of both protocols, again and again"""
    with temporary_folder() as folder:
        koine, told = Koine(w.koine, folder), Told()
        starts = []
        try:
            await told.begin()
            registration = os.path.join(folder, "service.yaml")
            with open(registration, "w", encoding="utf-8") as out:
                # JSON is YAML.
                json.dump(told.registration("@alice:.*"), out)
            koine.more = ["--appservice", registration]
            async with client_session() as session:
                load = Load(koine, session, told)
                await koine.begin()
                await load.prepare()
                for number in range(w.kills):
                    await load.all_at_once_until_killed()
                    starts.append(await koine.begin())
                    await load.check()
                    if (number + 1) % TELL_EVERY == 0:
                        print(f"       {number + 1} kills: {load.summary()}", flush=True)
                await load.check_everything()
        finally:
            koine.end()
            await told.end()
        return f"{w.kills} kills; {load.summary()}; starts took {max(starts):.2f} s at most, {statistics.median(starts):.2f} s in the median"


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

                devices = [Device(person) for person in people]
                for device in devices:
                    await device.begin()

                async def sends_to(person, device):
                    for number in itertools.count():
                        body = {"messages": {device.person.user: {device.id: {"number": number}}}}
                        while await person.tries("PUT", f"{V3}/sendToDevice/koine.faults/{number}", body) is None:
                            await asyncio.sleep(0.05)
                        device.sent.append(number)
                        if not going:
                            return
                        await asyncio.sleep(TO_DEVICE_PAUSE_S)

                async def reads(device):
                    while going:
                        await device.sync_once(1000)
                        await asyncio.sleep(0.05)

                tasks = [asyncio.ensure_future(sends(person, name)) for person, name in zip(people, ("first", "second"))]
                tasks += [asyncio.ensure_future(sends_to(person, device)) for person, device in zip(people, devices[::-1])]
                tasks += [asyncio.ensure_future(reads(device)) for device in devices]
                for number in range(w.kills):
                    await asyncio.sleep(random.uniform(*LOAD_S))
                    koines[number % 2].kill()
                    await asyncio.sleep(random.uniform(0, 0.5))
                    await koines[number % 2].begin()
                    if (number + 1) % TELL_EVERY == 0:
                        print(f"       {number + 1} kills: {len(acknowledged)} messages", flush=True)
                going = False
                await asyncio.gather(*tasks)
                await all_agree(people, room, acknowledged, AGREE_WITHIN_S)
                for device in devices:
                    await until("all messages to devices", AGREE_WITHIN_S, device.has_all)
                    exactly_once("messages to a device of the other server", device.sent, device.received)
        finally:
            for koine in koines:
                koine.end()
        to_device = sum(len(device.sent) for device in devices)
        return f"{w.kills} kills; {len(acknowledged)} messages, each once at both servers, {to_device} messages to devices of the other, each once"


class Device:
    """Of somebody, to whom the other server sends messages."""

    def __init__(self, person):
        self.person, self.sent, self.received = person, [], []

    async def begin(self):
        self.id = (await self.person.call("GET", f"{V3}/account/whoami"))["device_id"]
        self.since = (await self.person.call("GET", f"{V3}/sync"))["next_batch"]

    async def sync_once(self, timeout_ms):
        if seen := await self.person.tries("GET", f"{V3}/sync?timeout={timeout_ms}&since={quote(self.since)}"):
            self.since = seen["next_batch"]
            self.received += [event["content"]["number"] for event in seen.get("to_device", {}).get("events", [])]

    async def has_all(self):
        await self.sync_once(0)
        return set(self.sent) <= set(self.received)


async def in_one_room(koines, session):
    """Somebody of each server, and a room with both."""
    people = [await koine.person(session).register(f"person{number}") for number, koine in enumerate(koines)]
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
