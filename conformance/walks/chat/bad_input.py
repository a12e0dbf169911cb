"""Steps of the walk in which somebody means ill: a server, a member of a room, another client of the account, or chance.

What a client of good faith would not send is sent with plain requests under the tokens of the accounts that koine-chat keeps.
"""

import base64
import concurrent.futures
import json
import pathlib
import secrets
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from nacl.signing import SigningKey
from people import Screen, expect, expect_that, register

V3 = "/_matrix/client/v3"
# Messages to one device; a hundred of them come with one answer. `conformance/hostile` sends 100,000.
FLOOD, FLOODING = 2_500, 8
# Messages in a room whose sessions expire at once: each may meet one that expires while it is encrypted.
EXPIRING = 40


def quote(part):
    return urllib.parse.quote(part, safe="")


class Api:
    """An account, for plain requests."""

    def __init__(self, base, token=None):
        self.base, self.token = base, token

    @classmethod
    def of(cls, chat):
        """With the token of a device of koine-chat."""
        account = pathlib.Path(chat.folder, "accounts", chat.account, "account.json")
        return cls(chat.base, json.loads(account.read_text())["access_token"])

    def call(self, method, path, body=None, status=200):
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                seen, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            seen, text = error.code, error.read()
        expect(f"status of {method} {path}: {text[:200]!r}", status, seen)
        return json.loads(text)

    def put_event(self, room, content, kind="m.room.encrypted"):
        path = f"{V3}/rooms/{quote(room)}/send/{kind}/{secrets.token_hex(8)}"
        return self.call("PUT", path, content)["event_id"]


class BadInput:
    """A part of the walk; `alice`, `bob` and the room of both are there."""

    def ciphertext_that_is_sent_again(self):
        said = self.alice.one("send", self.room, "said once")["event_id"]
        alice, bob = Api.of(self.alice), Api.of(self.bob)
        content = alice.call("GET", f"{V3}/rooms/{quote(self.room)}/event/{quote(said)}")["content"]
        tail = self.bob.begin("tail", self.room, "--missed", "--timeout", "60", "--count", "2")
        expect("what was said", ("said once", "decrypted"), self._of(tail, said))
        again = alice.put_event(self.room, content)
        expect("as a fresh event", (None, "replayed"), self._of(tail, again))
        tail.end()
        by_bob = bob.put_event(self.room, content)
        for reader, more in ((self.bob, ()), (self.bob, ("--offline",)), (self.alice, ())):
            lines = {line["event_id"]: line for line in reader.messages(self.room, *more)}
            expect("the first", "said once", lines[said].get("body"))
            for event in (again, by_bob) if not more else (again,):
                seen = (lines[event]["kind"], lines[event].get("body"), lines[event]["encryption"]["code"])
                expect("what is no message", ("undecryptable", None, "replayed"), seen)
        screen = Screen(self.program, f"{self.folder}/bob")
        screen.shows("Heronry")
        screen.type("\x0bHeronry\r\r")
        seen = screen.until(lambda seen: seen.count("somebody sent what was encrypted again") >= 1, "that it is no message")
        expect("shown once", 1, screen.text().count("said once"))
        expect("it closes in order", 0, screen.close())

    def _of(self, tail, event):
        line = tail.until(lambda line: line.get("event_id") == event)
        state = line["encryption"]["state"]
        return line.get("body"), line["encryption"]["code"] if state == "undecryptable" else state

    def sessions_that_expire_while_they_are_used(self):
        room = self.alice.one("create", "Expiring", "--rotation-ms", "1", "--invite", self.bob_id)["room_id"]
        self.bob.run("join", room)
        lines = self.alice.begin("run")
        for number in range(EXPIRING):
            lines.say(json.dumps(["send", room, f"message {number}"]))
            lines.kind("sent")
            expect("it is said", 0, lines.kind("ran")["code"])
        lines.end()
        bodies = [line.get("body") for line in self.bob.messages(room, "--limit", "200")]
        expect("bob reads all", [f"message {number}" for number in range(EXPIRING)], [body for body in bodies if body])

    def a_flood_of_messages_to_a_device(self):
        flooder = Api(self.base)
        account = {"username": "flooder", "password": "pw-flooder", "auth": {"type": "m.login.dummy"}}
        flooder.token = flooder.call("POST", f"{V3}/register", account)["access_token"]
        kinds = ("m.dummy", "m.room.encrypted", "m.room_key", "m.room_key_request")

        def flood(number):
            # Ciphertext of nobody, keys that are none, requests without an end.
            content = {"algorithm": "m.olm.v1.curve25519-aes-sha2", "sender_key": "A" * 43, "ciphertext": {"B" * 43: {"type": 0, "body": "AAAA"}}}
            body = {"messages": {self.bob_id: {self.bob_desk: {**content, "number": number}}}}
            flooder.call("PUT", f"{V3}/sendToDevice/{kinds[number % len(kinds)]}/f{number}", body)

        with concurrent.futures.ThreadPoolExecutor(FLOODING) as pool:
            list(pool.map(flood, range(FLOOD)))
        sent = self.alice.one("send", self.room, "through the flood")["event_id"]
        seen = {line["event_id"]: line for line in self.bob.messages(self.room)}[sent]
        expect("bob reads what came behind the flood", "through the flood", seen.get("body"))
        left = Api.of(self.bob).call("GET", f"{V3}/sync?timeout=0").get("to_device", {}).get("events", [])
        expect("nothing of the flood is left on the server", 0, len(left))

    def keys_with_wrong_signatures(self):
        mallory_id = register(self.base, "mallory")
        mallory = self.chat("mallory", "desk")
        device = mallory.log_in("mallory", "pw-mallory")["device_id"]
        room = self.alice.one("create", "Signatures", "--invite", mallory_id)["room_id"]
        mallory.run("join", room)
        # A second device whose keys nobody signed, and a third of which nothing is in order.
        login = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "mallory"}, "password": "pw-mallory"}
        bad = []
        for keys in ({"curve25519": "A" * 43, "ed25519": "B" * 43}, {"curve25519": "not base64!", "ed25519": ""}):
            api = Api(self.base)
            made = api.call("POST", f"{V3}/login", login)
            api.token, name = made["access_token"], made["device_id"]
            device_keys = {
                "user_id": mallory_id, "device_id": name, "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
                "keys": {f"{kind}:{name}": value for kind, value in keys.items()},
                "signatures": {mallory_id: {f"ed25519:{name}": "C" * 86}},
            }  # fmt: skip
            api.call("POST", f"{V3}/keys/upload", {"device_keys": device_keys})
            bad.append((api, name))
        # One-time keys of the good device whose signatures are not its own: the good ones are claimed by somebody else first.
        api, bob = Api.of(mallory), Api.of(self.bob)
        claim = {"one_time_keys": {mallory_id: {device: "signed_curve25519"}}}
        while not self._is_fallback(bob.call("POST", f"{V3}/keys/claim", claim)):
            pass
        forged = {"key": "D" * 43, "signatures": {mallory_id: {f"ed25519:{device}": "E" * 86}}}
        keys = {"one_time_keys": {f"signed_curve25519:AAAA{n}": forged for n in range(5)}}
        fallback = {"fallback_keys": {"signed_curve25519:AAAAF": {**forged, "fallback": True}}}
        api.call("POST", f"{V3}/keys/upload", {**keys, **fallback})
        sent = self.alice.one("send", room, "for devices that are what they say")["event_id"]
        known = {line["device_id"]: line["encrypts"] for line in self.alice.run("devices", mallory_id)}
        expect("devices that alice knows of", {device: True}, known)
        for api, name in bad:
            came = api.call("GET", f"{V3}/sync?timeout=0").get("to_device", {}).get("events", [])
            expect_that(f"no key for {name}", not [event for event in came if event["type"] == "m.room.encrypted"], came)
        seen = {line["event_id"]: line for line in mallory.messages(room)}[sent]
        expect("what the good device can read", ("undecryptable", "no-key"), (seen["kind"], seen["encryption"]["code"]))

    def a_device_whose_identity_key_changes(self):
        api = Api(self.base)
        account = {"username": "frank", "password": "pw-frank", "auth": {"type": "m.login.dummy"}}
        made = api.call("POST", f"{V3}/register", account)
        api.token, frank_id, device = made["access_token"], made["user_id"], made["device_id"]
        seen = []
        for _ in range(2):
            key = SigningKey.generate()
            public = {f"ed25519:{device}": _base64(key.verify_key.encode()), f"curve25519:{device}": _base64(secrets.token_bytes(32))}
            device_keys = {
                "user_id": frank_id, "device_id": device, "keys": public,
                "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            }  # fmt: skip
            signed = json.dumps(device_keys, sort_keys=True, separators=(",", ":")).encode()
            device_keys["signatures"] = {frank_id: {f"ed25519:{device}": _base64(key.sign(signed).signature)}}
            api.call("POST", f"{V3}/keys/upload", {"device_keys": device_keys})
            seen.append((public[f"ed25519:{device}"], [line["ed25519"] for line in self.alice.run("devices", frank_id)]))
        (first, known), (_, later) = seen
        expect("the keys of the device", [first], known)
        expect("the keys of the device, after it came with others", [first], later)

    def _is_fallback(self, claimed):
        keys = [key for of_user in claimed["one_time_keys"].values() for of_device in of_user.values() for key in of_device.values()]
        return all(key.get("fallback") for key in keys)

    def an_identity_that_changed(self):
        erin_id = register(self.base, "erin")
        erin = self.chat("erin", "desk")
        erin.log_in("erin", "pw-erin")
        room = self.alice.one("create", "Identities", "--invite", erin_id)["room_id"]
        erin.run("join", room)
        self.alice.run("send", room, "before")
        erin.run("recover", "--start-over", KOINE_CHAT_PASSWORD="pw-erin")

        def trust():
            return {line["user_id"]: line["trust"] for line in self.alice.run("members", room)}[erin_id]

        expect("erin is another", "changed", trust())
        expect("whoever writes is told", [erin_id], self.alice.one("send", room, "after")["identity_changed"])
        screen = Screen(self.program, f"{self.folder}/alice", "--account", "desk")
        screen.shows("Identities")
        screen.type("\x0bIdentities\r\r")
        screen.shows(f"the identity of {erin_id} is another than it was")
        expect("it closes in order", 0, screen.close())
        self.alice.run("verify", erin_id, "--accept-change")
        expect("believed", "unverified", trust())
        expect_that("nobody is told any more", "identity_changed" not in self.alice.one("send", room, "and on"))
        # Somebody who was verified: what they say carries the warning.
        waiting = self.alice.begin("verify", erin_id, "--accept", "--emoji-match", "--timeout", "90")
        waiting.kind("verification")
        erin.run("verify", self.alice_id, "--emoji-match", "--timeout", "90")
        waiting.kind("verified")
        waiting.end()
        expect("verified", "verified", trust())
        erin.run("recover", "--start-over", KOINE_CHAT_PASSWORD="pw-erin")
        expect("changed again", "changed", trust())
        sent = erin.one("send", room, "it is me")["event_id"]
        seen = {line["event_id"]: line for line in self.alice.messages(room)}[sent]
        expect("beside what she says", "identity-changed", seen["encryption"]["code"])

    def names_and_pastes_that_act(self):
        evil = "\x1b[2J\x1b]0;title\x07Evil \u202egpj.exe\u2066\u200f"
        room = self.alice.one("create", evil, "--invite", self.bob_id)["room_id"]
        self.bob.run("join", room)
        screen = Screen(self.program, f"{self.folder}/bob")
        screen.until(lambda seen: "␛[2J␛]0;title␇Evil" in seen, "the room's name, harmless")
        screen.type("\x0bEvil\r\r")
        screen.shows("Write an encrypted message")
        screen.type(f"\x1b[200~pasted {evil}\r\nsecond line\x1b[201~")
        screen.until(lambda seen: "pasted ␛[2J" in seen and "second line" in seen, "the paste, harmless and not sent yet")
        screen.resize(0, 0)
        screen.resize(100, 30)
        screen.type("\r")
        screen.until(lambda seen: "pasted ␛[2J" in seen and "sending" not in seen and "Write an encrypted" in seen, "what was sent")
        expect("it closes in order", 0, screen.close())
        words = [word for word in self.alice.words(["read", room]) if word != "--json"]
        shown = subprocess.run(words, capture_output=True, text=True, timeout=60, env=self.alice.environment()).stdout
        expect_that("a person's reading is harmless too", "pasted" in shown and "\x1b" not in shown and "\u202e" not in shown, shown)

    def a_backup_that_was_tampered_with(self):
        room = self.alice.one("create", "Backup", "--rotation-msgs", "1")["room_id"]
        said = [self.alice.one("send", room, f"kept {number}") for number in range(3)]
        api = Api.of(self.alice)
        version = api.call("GET", f"{V3}/room_keys/version")["version"]
        path = f"{V3}/room_keys/keys/{quote(room)}/{quote(said[1]['session_id'])}?version={version}"
        key = api.call("GET", path)
        mac = key["session_data"]["mac"]
        key["session_data"]["mac"] = ("A" if mac[0] != "A" else "B") + mac[1:]
        api.call("DELETE", path)
        api.call("PUT", path, key)
        fresh = self.chat("alice-fresh", "fresh")
        fresh.log_in("alice", "pw-alice")
        fresh.one("recover", KOINE_CHAT_RECOVERY_KEY=self.recovery_key)
        lines = {line["event_id"]: line for line in fresh.messages(room)}
        seen = [(lines[one["event_id"]].get("body"), lines[one["event_id"]]["encryption"]["code"]) for one in said]
        expect("the damaged one is told, the others are read", (None, "backup-damaged"), seen[1])
        expect("the others", ["kept 0", "kept 2"], [seen[0][0], seen[2][0]])
        expect("how many do not open", 1, fresh.one("backup", "fetch", room)["damaged"])
        fresh.run("logout")
        # A backup that belongs to another key, as a server or another client could put it there.
        other = {"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {"public_key": "F" * 42 + "A", "signatures": {}}}
        foreign = api.call("POST", f"{V3}/room_keys/version", other)["version"]
        refused = api.call("PUT", path, key, status=403)
        expect("an old version", ("M_WRONG_ROOM_KEYS_VERSION", foreign), (refused["errcode"], refused["current_version"]))
        fresh.log_in("alice", "pw-alice")
        done = fresh.one("recover", KOINE_CHAT_RECOVERY_KEY=self.recovery_key)
        expect_that("it is not used", done["backup"] != "on", done)
        expect("and that is said", ("another-key", True), (done.get("problem"), done["verified"]))
        kept = Api.of(fresh).call("GET", f"{V3}/room_keys/keys?version={foreign}")
        expect("no key was put into it", {}, kept["rooms"])
        api.call("DELETE", f"{V3}/room_keys/version/{foreign}")
        for number, malformed in enumerate(({"public_key": "no key at all"}, {"public_key": ""}, {"public_key": 7}, {})):
            made = api.call("POST", f"{V3}/room_keys/version", {**other, "auth_data": malformed})["version"]
            done = fresh.one("recover", KOINE_CHAT_RECOVERY_KEY=self.recovery_key)
            expect_that("a backup without a key is not used", done["backup"] != "on" and done["verified"], done)
            self.alice.one("send", room, f"beside malformed backup {number}")
            api.call("DELETE", f"{V3}/room_keys/version/{made}")
        expect("with the old one back", "on", fresh.one("recover", KOINE_CHAT_RECOVERY_KEY=self.recovery_key)["backup"])
        fresh.run("logout")

    def keys_of_a_device_that_are_damaged(self):
        broken = self.chat("alice-broken", "broken")
        broken.log_in("alice", "pw-alice")
        store = self.account_file("alice-broken", "broken").parent / "store"
        for companion in store.glob("matrix-sdk-crypto.sqlite3-*"):
            companion.unlink()
        (store / "matrix-sdk-crypto.sqlite3").write_bytes(b"this is no database" * 500)
        broken.run("rooms", code=8)
        failure = broken.run("repair", code=8)[-1]
        expect_that("the way out is told", "logout --forget" in failure["message"] and "recover" in failure["message"], failure)
        broken.run("logout", "--forget")
        broken.log_in("alice", "pw-alice")
        broken.one("recover", KOINE_CHAT_RECOVERY_KEY=self.recovery_key)
        old = {line["event_id"]: line for line in broken.messages(self.room, "--limit", "200")}[self.first]
        expect_that("and old messages are back", old.get("body"), old)
        broken.run("logout")


def _base64(data):
    return base64.b64encode(data).decode().rstrip("=")


def steps():
    return [name for name in vars(BadInput) if not name.startswith("_")]
