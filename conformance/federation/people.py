"""People with an account each, as little of a client as the walk needs."""

import http.client
import itertools
import json
import time
import urllib.parse

from servers import CLIENT_PORT

PASSWORD = "correct horse battery staple"
# How long something that happened on one server may take until another shows it.
SEEN_WITHIN_S = 30
ANSWER_WITHIN_S = 60
LOOKS_EVERY_S = 0.2
V1 = "/_matrix/client/v1"
V3 = "/_matrix/client/v3"


class Wrong(Exception):
    """A server did something else than it should."""


class Answer:
    """Status, body and headers; `json` if the body is."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        try:
            self.json = json.loads(body)
        except ValueError:
            self.json = None

    @property
    def errcode(self):
        return self.json.get("errcode") if isinstance(self.json, dict) else None

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


def quoted(text):
    return urllib.parse.quote(text, safe="")


class Person:
    """Somebody on a server."""

    numbers = itertools.count(1)

    def __init__(self, server, name):
        self.server = server
        self.local = f"{name}{next(self.numbers)}"
        self.token = None
        self.since = None
        # What came by sync: timelines, typing, receipts, presence, invitations, rooms that they are out of.
        self.timelines, self.ephemeral, self.presence, self.invites = {}, {}, {}, {}
        self.left = set()
        body = {"username": self.local, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
        first = self.ask("POST", f"{V3}/register", body)
        if first.status == 401:
            body["auth"]["session"] = first.json["session"]
            first = self.ask("POST", f"{V3}/register", body)
        answer = self.fine(first, "register")
        self.id, self.token = answer["user_id"], answer["access_token"]

    def __repr__(self):
        return f"{self.local} of {self.server.kind}"

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(self.server.address, CLIENT_PORT, timeout=ANSWER_WITHIN_S)
        headers = dict(headers or {})
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), response.read())
        connection.close()
        return answer

    def fine(self, answer, what):
        """The JSON of an answer that has to be a success."""
        if answer.status != 200:
            raise Wrong(f"{self}: {what}: expected 200, seen {answer!r}")
        return answer.json

    def get(self, path):
        return self.fine(self.ask("GET", path), f"GET {path}")

    def put(self, path, body):
        return self.fine(self.ask("PUT", path, body), f"PUT {path}")

    def post(self, path, body=None):
        return self.fine(self.ask("POST", path, body or {}), f"POST {path}")

    # Rooms

    def create(self, **wanted):
        return self.post(f"{V3}/createRoom", wanted)["room_id"]

    def join(self, room, *via):
        names = "&".join(f"server_name={quoted(person.server.name)}&via={quoted(person.server.name)}" for person in via)
        return self.post(f"{V3}/join/{quoted(room)}?{names}")["room_id"]

    def try_join(self, room, via):
        return self.ask("POST", f"{V3}/join/{quoted(room)}?server_name={quoted(via.server.name)}", {})

    def act(self, room, verb, target=None, **more):
        """invite, kick, ban, unban, leave"""
        body = {**({"user_id": target.id} if target else {}), **more}
        return self.post(f"{V3}/rooms/{quoted(room)}/{verb}", body)

    def send(self, room, content, kind="m.room.message"):
        txn = f"t{next(self.numbers)}"
        return self.put(f"{V3}/rooms/{quoted(room)}/send/{kind}/{txn}", content)["event_id"]

    def say(self, room, text, **more):
        return self.send(room, {"msgtype": "m.text", "body": text, **more})

    def set(self, room, kind, content, key=""):
        return self.put(f"{V3}/rooms/{quoted(room)}/state/{kind}/{quoted(key)}", content)["event_id"]

    def state(self, room, kind, key=""):
        """The content of a piece of state, or None."""
        answer = self.ask("GET", f"{V3}/rooms/{quoted(room)}/state/{kind}/{quoted(key)}")
        return answer.json if answer.status == 200 else None

    def whole_state(self, room):
        """Ids of the events of the state, by type and state key."""
        events = self.get(f"{V3}/rooms/{quoted(room)}/state")
        return {(event["type"], event["state_key"]): event["event_id"] for event in events}

    def event(self, room, event_id):
        answer = self.ask("GET", f"{V3}/rooms/{quoted(room)}/event/{quoted(event_id)}")
        return answer.json if answer.status == 200 else None

    def membership(self, room, person):
        return (self.state(room, "m.room.member", person.id) or {}).get("membership")

    def page(self, room, frm=None, limit=100):
        query = f"dir=b&limit={limit}" + (f"&from={quoted(frm)}" if frm else "")
        return self.get(f"{V3}/rooms/{quoted(room)}/messages?{query}")

    # What comes by itself

    def sync(self, timeout_ms=0):
        query = f"timeout={timeout_ms}" + (f"&since={quoted(self.since)}" if self.since else "")
        seen = self.get(f"{V3}/sync?{query}")
        self.since = seen["next_batch"]
        for room, part in seen.get("rooms", {}).get("join", {}).items():
            self.timelines.setdefault(room, []).extend(part.get("timeline", {}).get("events", []))
            for event in part.get("ephemeral", {}).get("events", []):
                self.ephemeral.setdefault(room, {}).setdefault(event["type"], []).append(event["content"])
        for room, part in seen.get("rooms", {}).get("invite", {}).items():
            self.invites[room] = part["invite_state"]["events"]
        self.left.update(seen.get("rooms", {}).get("leave", {}))
        for event in seen.get("presence", {}).get("events", []):
            self.presence[event["sender"]] = event["content"]
        return seen

    def sees(self, what, find):
        """Syncs until `find` gives something."""
        return until(f"{self} sees {what}", lambda: (self.sync(500), find())[1])

    def hears(self, room, event_id):
        """The event, as it comes down the timeline."""
        def find():
            return next((event for event in self.timelines.get(room, []) if event["event_id"] == event_id), None)
        return self.sees(f"the event {event_id}", find)


def until(what, find):
    """What `find` gives, once it gives something."""
    deadline = time.monotonic() + SEEN_WITHIN_S
    while True:
        found = find()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Wrong(f"within {SEEN_WITHIN_S} s it did not come about that {what}")
        time.sleep(LOOKS_EVERY_S)


def expect(what, wanted, seen):
    if wanted != seen:
        raise Wrong(f"{what}: expected {wanted!r}, seen {seen!r}")
