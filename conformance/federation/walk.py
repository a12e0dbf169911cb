"""Two Koine servers and two Synapse servers share rooms: people on each do what people do, and all must see the same.

usage: walk.py --koine PROGRAM --folder FOLDER [--known FILE] [STEP]...

FOLDER gets the servers' data and logs. Prints a line for each step and goes on after one that went wrong. FILE lists steps that
go wrong with the reason, one a line; a listed step that goes well is wrong, too. Ends with 0 when all is as it should be.
"""

import argparse
import os
import sys
import time
import traceback

from keys import Device, cross_signing_keys
from people import PASSWORD, V1, V3, Person, Wrong, expect, quoted, until
from servers import Servers

BACKFILLED = 500
STEPS = []


def step(*pairs):
    """A step that is walked once for each pair of servers, as `maker > guest`."""
    def add(function):
        STEPS.extend((f"{function.__name__} {pair}".strip(), function, pair) for pair in pairs or BOTH_WAYS)
        return function
    return add


BOTH_WAYS = ("koine > synapse", "synapse > koine", "koine > koine")
VERSIONS = tuple(str(number) for number in range(1, 13))


class Town:
    """The servers by their kind."""

    def __init__(self, servers):
        self.servers = servers

    def pair(self, pair):
        """Somebody of each of two servers."""
        maker, guest = pair.split(" > ")
        kinds = {"koine": list(self.servers.koines), "synapse": list(self.servers.synapses)}
        return Person(kinds[maker].pop(0), "maker"), Person(kinds[guest].pop(0), "guest")

    def everybody(self):
        return [Person(server, "one") for server in self.servers.all]


def shared(maker, guest, **wanted):
    """A room of the maker with the guest in it, both seeing each other there."""
    room = maker.create(preset="public_chat", **wanted)
    guest.join(room, maker)
    until("the maker sees the guest in the room", lambda: maker.membership(room, guest) == "join")
    guest.sync(), maker.sync()
    return room


def agree(room, *people):
    """All see the same state."""
    def same():
        first, *others = (person.whole_state(room) for person in people)
        return all(other == first for other in others)
    try:
        until("all see the same state", same)
    except Wrong as wrong:
        states = [person.whole_state(room) for person in people]
        keys = sorted(set().union(*states))
        differ = [key for key in keys if len({state.get(key) for state in states}) > 1]
        told = [(key, [state.get(key) for state in states]) for key in differ[:5]]
        raise Wrong(f"{wrong}: {told}") from None


@step(*(f"{way} in {version}" for version in VERSIONS for way in ("koine", "synapse")))
def version(town, way):
    """Four servers in a room of this version; each says something and sets something."""
    kind, number = way.split(" in ")
    people = sorted(town.everybody(), key=lambda person: person.server.kind != kind)
    maker, *guests = people
    powers = {"users": {guest.id: 50 for guest in guests}, "state_default": 50}
    if int(number) < 12:
        powers["users"][maker.id] = 100
    room = maker.create(preset="public_chat", room_version=number, power_level_content_override=powers)
    for place, guest in enumerate(guests):
        # The second comes in through the first, the third through the second, once that can help: it may not know
        # the whole room yet.
        until(f"{guest} comes in", lambda: guest.try_join(room, people[place]).status == 200)
    for person in people:
        until(f"{person} sees all", lambda: all(person.membership(room, other) == "join" for other in people))
        person.sync()
    for person in people:
        said = person.say(room, f"hello from {person.id}")
        for other in people:
            other.hears(room, said)
    people[1].set(room, "m.room.topic", {"topic": "one"})
    people[2].set(room, "m.room.topic", {"topic": "two"})
    people[3].set(room, "test.thing", {"thing": "three"}, "key")
    agree(room, *people)


@step()
def invitations(town, way):
    """Asked in, refused; asked again, come in."""
    maker, guest = town.pair(way)
    room = maker.create(preset="private_chat", name="By invitation")
    maker.act(room, "invite", guest)
    shown = guest.sees("the invitation", lambda: guest.invites.get(room))
    names = [event["content"].get("name") for event in shown if event["type"] == "m.room.name"]
    expect("the name shown with the invitation", ["By invitation"], names)
    guest.act(room, "leave")
    until("the maker sees the refusal", lambda: maker.membership(room, guest) == "leave")
    guest.invites.clear()
    maker.act(room, "invite", guest)
    guest.sees("the second invitation", lambda: guest.invites.get(room))
    guest.join(room, maker)
    until("the maker sees the guest", lambda: maker.membership(room, guest) == "join")
    agree(room, maker, guest)


@step()
def invitation_taken_back(town, way):
    maker, guest = town.pair(way)
    room = maker.create(preset="private_chat")
    maker.act(room, "invite", guest)
    guest.sees("the invitation", lambda: guest.invites.get(room))
    maker.act(room, "kick", guest)
    guest.sees("that it is gone", lambda: room in guest.left)
    refused = guest.try_join(room, maker)
    expect("coming in without invitation", (403, "M_FORBIDDEN"), (refused.status, refused.errcode))


@step()
def knocks(town, way):
    maker, guest = town.pair(way)
    room = maker.create(preset="private_chat", initial_state=[
        {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}])
    guest.post(f"{V3}/knock/{quoted(room)}?server_name={quoted(maker.server.name)}&via={quoted(maker.server.name)}")
    until("the maker hears the knock", lambda: maker.membership(room, guest) == "knock")
    maker.act(room, "invite", guest)
    guest.sees("the answer", lambda: guest.invites.get(room))
    guest.join(room, maker)
    until("the maker sees the guest", lambda: maker.membership(room, guest) == "join")


@step()
def restricted_rooms(town, way):
    """Who is in one room may come into the other."""
    maker, guest = town.pair(way)
    door = shared(maker, guest)
    rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": door}]}
    room = maker.create(preset="private_chat", room_version="11", initial_state=[
        {"type": "m.room.join_rules", "state_key": "", "content": rule}])
    stranger = Person(guest.server, "stranger")
    refused = stranger.try_join(room, maker)
    expect("a stranger's join", 403, refused.status)
    guest.join(room, maker)
    until("the maker sees the guest", lambda: maker.membership(room, guest) == "join")
    agree(room, maker, guest)


@step()
def kicks_and_bans(town, way):
    maker, guest = town.pair(way)
    room = shared(maker, guest)
    maker.act(room, "kick", guest, reason="out")
    guest.sees("that they are out", lambda: room not in guest.get(f"{V3}/joined_rooms")["joined_rooms"])
    guest.join(room, maker)
    until("the guest is back", lambda: maker.membership(room, guest) == "join")
    maker.act(room, "ban", guest)
    until("the guest is out", lambda: room not in guest.get(f"{V3}/joined_rooms")["joined_rooms"])
    refused = guest.try_join(room, maker)
    expect("a banned one's join", (403, "M_FORBIDDEN"), (refused.status, refused.errcode))
    maker.act(room, "unban", guest)
    guest.join(room, maker)
    until("the guest is back again", lambda: maker.membership(room, guest) == "join")
    agree(room, maker, guest)


@step()
def leaving(town, way):
    maker, guest = town.pair(way)
    room = shared(maker, guest)
    guest.act(room, "leave")
    until("the maker sees it", lambda: maker.membership(room, guest) == "leave")
    guest.join(room, maker)
    until("the maker sees the guest", lambda: maker.membership(room, guest) == "join")
    agree(room, maker, guest)


@step()
def power_levels(town, way):
    maker, guest = town.pair(way)
    room = shared(maker, guest)
    refused = guest.ask("PUT", f"{V3}/rooms/{quoted(room)}/state/m.room.topic/", {"topic": "not mine"})
    expect("setting the topic without power", (403, "M_FORBIDDEN"), (refused.status, refused.errcode))
    levels = maker.state(room, "m.room.power_levels")
    levels["users"][guest.id] = 50
    maker.set(room, "m.room.power_levels", levels)
    until("the guest has power", lambda: guest.state(room, "m.room.power_levels")["users"].get(guest.id) == 50)
    guest.set(room, "m.room.topic", {"topic": "mine"})
    until("the maker sees the topic", lambda: (maker.state(room, "m.room.topic") or {}).get("topic") == "mine")
    agree(room, maker, guest)


@step()
def edits_and_reactions(town, way):
    maker, guest = town.pair(way)
    room = shared(maker, guest)
    first = maker.say(room, "frist")
    guest.hears(room, first)
    content = {"m.new_content": {"msgtype": "m.text", "body": "first"}, "m.relates_to": {"rel_type": "m.replace", "event_id": first}}
    edit = maker.say(room, "* first", **content)
    guest.hears(room, edit)
    seen = guest.event(room, first)["unsigned"]["m.relations"]["m.replace"]
    expect("the edit that is bundled", edit, seen.get("event_id"))
    reaction = guest.send(room, {"m.relates_to": {"rel_type": "m.annotation", "event_id": first, "key": "👍"}}, "m.reaction")
    maker.hears(room, reaction)
    found = maker.get(f"{V1}/rooms/{quoted(room)}/relations/{quoted(first)}/m.annotation")["chunk"]
    expect("reactions", [reaction], [event["event_id"] for event in found])


@step()
def redactions(town, way):
    maker, guest = town.pair(way)
    room = shared(maker, guest)
    for who, other in ((maker, guest), (guest, maker)):
        said = who.say(room, "a secret")
        other.hears(room, said)
        who.put(f"{V3}/rooms/{quoted(room)}/redact/{quoted(said)}/r{said[1:9]}", {"reason": "too much"})
        until("it is empty there", lambda: other.event(room, said)["content"] == {})
    said = guest.say(room, "rude")
    maker.hears(room, said)
    maker.put(f"{V3}/rooms/{quoted(room)}/redact/{quoted(said)}/m{said[1:9]}", {})
    until("the guest's words are gone", lambda: guest.event(room, said)["content"] == {})


@step()
def receipts_and_typing(town, way):
    maker, guest = town.pair(way)
    room = shared(maker, guest)
    for who, other in ((maker, guest), (guest, maker)):
        said = other.say(room, "read this")
        who.hears(room, said)
        who.post(f"{V3}/rooms/{quoted(room)}/receipt/m.read/{quoted(said)}")
        def receipt():
            all_receipts = other.ephemeral.get(room, {}).get("m.receipt", [])
            return any(who.id in content.get(said, {}).get("m.read", {}) for content in all_receipts)
        other.sees("the receipt", receipt)
        who.put(f"{V3}/rooms/{quoted(room)}/typing/{quoted(who.id)}", {"typing": True, "timeout": 20000})
        other.sees("the typing", lambda: any(who.id in seen["user_ids"] for seen in other.ephemeral.get(room, {}).get("m.typing", [])))
        who.put(f"{V3}/rooms/{quoted(room)}/typing/{quoted(who.id)}", {"typing": False})
        other.sees("the end of it", lambda: who.id not in other.ephemeral[room]["m.typing"][-1]["user_ids"])


@step()
def presence(town, way):
    maker, guest = town.pair(way)
    shared(maker, guest)
    for who, other in ((maker, guest), (guest, maker)):
        who.put(f"{V3}/presence/{quoted(who.id)}/status", {"presence": "online", "status_msg": f"here, {who.local}"})
        other.sees("the status", lambda: other.presence.get(who.id, {}).get("status_msg") == f"here, {who.local}")


@step()
def profiles(town, way):
    maker, guest = town.pair(way)
    maker.put(f"{V3}/profile/{quoted(maker.id)}/displayname", {"displayname": "The Maker"})
    expect("the name as the other server has it", "The Maker", guest.get(f"{V3}/profile/{quoted(maker.id)}").get("displayname"))
    room = shared(maker, guest)
    guest.put(f"{V3}/profile/{quoted(guest.id)}/displayname", {"displayname": "The Guest"})
    until("the maker sees the name", lambda: maker.state(room, "m.room.member", guest.id).get("displayname") == "The Guest")
    missing = guest.ask("GET", f"{V3}/profile/{quoted('@nobody:' + maker.server.name)}")
    expect("the profile of nobody", (404, "M_NOT_FOUND"), (missing.status, missing.errcode))


@step()
def aliases_and_directory(town, way):
    maker, guest = town.pair(way)
    room = maker.create(preset="public_chat", room_alias_name=maker.local, name=f"Room of {maker.local}", visibility="public")
    alias = f"#{maker.local}:{maker.server.name}"
    expect("where the alias leads", room, guest.get(f"{V3}/directory/room/{quoted(alias)}")["room_id"])
    def listed():
        answer = guest.post(f"{V3}/publicRooms?server={quoted(maker.server.name)}", {"limit": 50})
        return any(entry["room_id"] == room and entry.get("name") == f"Room of {maker.local}" for entry in answer["chunk"])
    until("the room is in the other server's list", listed)
    expect("the room joined by its alias", room, guest.post(f"{V3}/join/{quoted(alias)}")["room_id"])


@step()
def backfill(town, way):
    """Hundreds of messages from before the guest came."""
    maker, guest = town.pair(way)
    room = maker.create(preset="public_chat")
    for number in range(BACKFILLED):
        maker.say(room, str(number))
    guest.join(room, maker)
    found, place = [], None
    for _ in range(BACKFILLED):
        page = guest.page(room, place)
        found.extend(event["content"].get("body") for event in page["chunk"] if event["type"] == "m.room.message")
        place = page.get("end")
        if not place:
            break
    expect("messages from before", [str(number) for number in reversed(range(BACKFILLED))], found)


@step()
def moments(town, way):
    """What was said around a time, of which the guest's server has nothing."""
    maker, guest = town.pair(way)
    room = maker.create(preset="public_chat")
    first = maker.say(room, "long ago")
    time.sleep(0.05)
    at = int(time.time() * 1000)
    time.sleep(0.05)
    for number in range(30):
        maker.say(room, str(number))
    guest.join(room, maker)
    seen = guest.get(f"{V1}/rooms/{quoted(room)}/timestamp_to_event?ts={at}&dir=b")
    expect("the event before that time", first, seen["event_id"])


@step()
def media(town, way):
    maker, guest = town.pair(way)
    content = os.urandom(100_000)
    headers = {"Content-Type": "application/x-thing"}
    uploaded = maker.fine(maker.ask("POST", "/_matrix/media/v3/upload?filename=thing", content, headers), "upload")
    place = uploaded["content_uri"].removeprefix("mxc://")
    seen = guest.ask("GET", f"{V1}/media/download/{place}")
    if seen.status != 200 or seen.body != content:
        raise Wrong(f"expected the file, seen {seen.status} with {len(seen.body)} bytes: {seen.body[:200]!r}")


@step()
def both_at_once(town, way):
    """Both change the same things at the same time, and agree in the end."""
    maker, guest = town.pair(way)
    levels = {"users": {guest.id: 50, maker.id: 100}}
    room = shared(maker, guest, room_version="11", power_level_content_override=levels)
    for number in range(10):
        maker.set(room, "m.room.topic", {"topic": f"maker's {number}"})
        guest.set(room, "m.room.topic", {"topic": f"guest's {number}"})
        guest.set(room, "m.room.name", {"name": f"guest's {number}"})
        maker.set(room, "m.room.name", {"name": f"maker's {number}"})
    guest.hears(room, maker.say(room, "done"))
    maker.hears(room, guest.say(room, "done, too"))
    agree(room, maker, guest)


@step()
def devices_and_keys(town, way):
    """Messages to a device of another server, and its keys."""
    maker, guest = town.pair(way)
    shared(maker, guest)
    device = guest.get(f"{V3}/devices")["devices"][0]["device_id"]
    maker.put(f"{V3}/sendToDevice/test.kind/x{guest.local}", {"messages": {guest.id: {device: {"word": "psst"}}}})
    got = []
    def arrived():
        got.extend(guest.sync(500).get("to_device", {}).get("events", []))
        return any(event["content"] == {"word": "psst"} for event in got)
    until("it arrived", arrived)
    keys = {"user_id": guest.id, "device_id": device, "algorithms": ["m.megolm.v1.aes-sha2"], "signatures": {},
            "keys": {f"ed25519:{device}": "a" * 43}}
    guest.post(f"{V3}/keys/upload", {"device_keys": keys})
    def known():
        answer = maker.post(f"{V3}/keys/query", {"device_keys": {guest.id: []}})
        return device in answer.get("device_keys", {}).get(guest.id, {})
    until("the maker's server knows the keys", known)


class Listener:
    """Whose devices somebody was told to look at again, or to forget."""

    def __init__(self, person):
        self.person, self.changed, self.left = person, set(), set()
        person.sync()

    def hears(self, what, find):
        def look():
            lists = self.person.sync(500).get("device_lists", {})
            self.changed.update(lists.get("changed", []))
            self.left.update(lists.get("left", []))
            return find()
        until(f"{self.person} hears of {what}", look)
        self.changed.clear(), self.left.clear()

    def devices(self, of):
        """The devices of somebody, with their public keys and names."""
        # Synapse names the other server as failed while it is being told of a change.
        def asked():
            answer = self.person.post(f"{V3}/keys/query", {"device_keys": {of.id: []}})
            return None if answer.get("failures") else answer
        found = until("the other server answers", asked)["device_keys"].get(of.id, {})
        return {id: (keys["keys"][f"ed25519:{id}"], keys.get("unsigned", {}).get("device_display_name"))
                for id, keys in found.items()}


@step()
def device_lists(town, way):
    """Devices that come, are named, and go, and people who share the first room or leave the last."""
    maker, guest = town.pair(way)
    first = Device(guest).upload()
    room = maker.create(preset="public_chat")
    listener = Listener(maker)
    guest.join(room, maker)
    listener.hears("the guest's coming", lambda: guest.id in listener.changed)
    expect("the devices", {first.id: first.public}, {id: key for id, (key, _) in listener.devices(guest).items()})
    second = Device.log_in(guest, PASSWORD).upload()
    listener.hears("a second device", lambda: guest.id in listener.changed and second.id in listener.devices(guest))
    guest.put(f"{V3}/devices/{second.id}", {"display_name": "Desk"})
    if guest.server.kind == "koine":  # the others keep names of devices to themselves
        until("the name is known", lambda: listener.devices(guest)[second.id] == (second.public, "Desk"))
    second.ask("POST", f"{V3}/logout", {})
    listener.hears("its end", lambda: guest.id in listener.changed and second.id not in listener.devices(guest))
    guest.act(room, "leave")
    listener.hears("the guest's leaving", lambda: guest.id in listener.left)
    third = Device.log_in(guest, PASSWORD).upload()
    expect("the devices of a stranger", {first.id, third.id}, set(listener.devices(guest)))
    guest.join(room, maker)
    listener.hears("the guest's return", lambda: guest.id in listener.changed)
    expect("the devices of who is back", {first.id, third.id}, set(listener.devices(guest)))


@step()
def one_time_keys(town, way):
    """Each is given out once, whoever asks."""
    maker, guest = town.pair(way)
    device = Device(guest).upload(one_time=2)
    shared(maker, guest)
    given = []
    for _ in range(3):
        claims = {guest.id: {device.id: "signed_curve25519"}}
        answer = maker.post(f"{V3}/keys/claim", {"one_time_keys": claims})
        expect("servers that did not answer", {}, answer.get("failures", {}))
        given.extend(answer["one_time_keys"].get(guest.id, {}).get(device.id, {}))
    expect("the keys", ["signed_curve25519:0", "signed_curve25519:1"], sorted(given))


@step()
def cross_signing(town, way):
    """The keys that vouch for a user's devices are known to who shares a room, and so is their change."""
    maker, guest = town.pair(way)
    Device(guest).upload()
    shared(maker, guest)
    listener = Listener(maker)
    listener.devices(guest)
    keys = cross_signing_keys(guest)
    guest.post(f"{V3}/keys/device_signing/upload", keys)
    def known():
        answer = maker.post(f"{V3}/keys/query", {"device_keys": {guest.id: []}})
        found = answer.get("master_keys", {}).get(guest.id, {}), answer.get("self_signing_keys", {}).get(guest.id, {})
        return found[0].get("keys") == keys["master_key"]["keys"] and found[1].get("keys") == keys["self_signing_key"]["keys"]
    listener.hears("the new keys", lambda: guest.id in listener.changed)
    until("the new keys are known", known)


def known_failures(file):
    if not file:
        return {}
    with open(file, encoding="utf-8") as lines:
        rows = (line.rstrip("\n").split("\t", 1) for line in lines if line.strip() and not line.startswith("#"))
        return {name: reason for name, reason in rows}


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--koine", required=True)
    options.add_argument("--folder", required=True)
    options.add_argument("--known")
    options.add_argument("steps", nargs="*", help="beginnings of steps' names")
    options = options.parse_args()
    known = known_failures(options.known)
    chosen = [row for row in STEPS if not options.steps or any(row[0].startswith(begin) for begin in options.steps)]
    servers = Servers(options.folder, os.path.abspath(options.koine))
    failed = 0
    try:
        servers.start()
        town = Town(servers)
        for name, function, way in chosen:
            began, wrong = time.monotonic(), None
            try:
                function(town, way)
            except Wrong as error:
                wrong = str(error)
            except Exception:  # what cannot be read off an answer is the server's fault, too
                wrong = traceback.format_exc()
            if wrong and name in known:
                verdict = f"known   {name}: {known[name]}"
            elif wrong:
                verdict, failed = f"WRONG   {name}: {wrong}", failed + 1
            elif name in known:
                verdict, failed = f"WRONG   {name}: goes well, and is listed as known to fail", failed + 1
            else:
                verdict = f"well    {name} ({time.monotonic() - began:.1f} s)"
            print(verdict, flush=True)
        for server in servers.all:
            if server.process.poll() is not None:
                print(f"WRONG   {server.kind} {server.name} ended by itself ({server.process.returncode}); see {server.log}")
                failed += 1
    finally:
        servers.stop()
    print(f"{len(chosen) - failed} of {len(chosen)} steps are as they should be; logs are in {options.folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
