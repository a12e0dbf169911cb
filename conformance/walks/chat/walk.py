"""A day with koine-chat, as scripts use it and as people see it: two people, several devices, one encrypted room.

usage: walk.py BASE_URL   (the program is KOINE_CHAT, the server's data folder KOINE_DATA)

Prints one line per step. Ends with status 1 at the first wrong thing, saying what was expected and what was seen.
"""

import contextlib
import json
import os
import pathlib
import sys
import tempfile
import time

import bad_input
from people import Chat, Screen, Wrong, expect, expect_that, register

SECRET = "the heron leaves at dawn 5f1c"
ATTACHED = b"a file nobody else may read 77b2\n" * 200


class Walk(bad_input.BadInput):
    def __init__(self, base, folder):
        self.base, self.folder = base, folder
        self.program = os.environ["KOINE_CHAT"]
        self.alice = self.chat("alice", "desk")
        self.bob = self.chat("bob", "desk")

    def chat(self, who, account):
        return Chat(self.program, self.base, f"{self.folder}/{who}", account)

    def nobody_is_logged_in(self):
        expect("the failure", "not-logged-in", self.alice.run("whoami", code=3)[-1]["failure"])
        self.alice_id = register(self.base, "alice")
        self.bob_id = register(self.base, "bob")
        refused = self.alice.log_in("alice", "wrong", code=4)
        expect("the server's own code", "M_FORBIDDEN", refused["errcode"])

    def the_first_device_sets_up_the_identity(self):
        made = self.alice.log_in("alice", "pw-alice")
        expect("the first device is verified", True, made["verified"])
        self.recovery_key = made["recovery_key"]
        expect_that("a recovery key", len(self.recovery_key) > 40, self.recovery_key)
        self.bob.log_in(self.bob_id, "pw-bob")
        who = self.alice.one("whoami")
        expect("who it is", (self.alice_id, True, "on", "on"), (who["user_id"], who["verified"], who["backup"], who["recovery"]))
        self.alice_desk = who["device_id"]
        self.bob_desk = self.bob.one("whoami")["device_id"]

    def an_encrypted_room(self):
        made = self.alice.one("create", "Heronry", "--invite", self.bob_id)
        expect("rooms are encrypted", True, made["encrypted"])
        self.room = made["room_id"]
        invited = [line for line in self.bob.run("rooms") if line["room_id"] == self.room]
        expect("bob is invited", [("invited", self.alice_id)], [(line["membership"], line["inviter"]) for line in invited])
        self.bob.run("join", self.room)
        sent = self.alice.one("send", self.room, "-", stdin=SECRET)
        expect("it went encrypted", True, sent["encrypted"])
        seen = self.bob.messages(self.room)[-1]
        expect("what bob reads", (SECRET, "decrypted", "unverified-person"), (seen["body"], seen["encryption"]["state"], seen["encryption"]["code"]))
        expect("from alice's device", self.alice_desk, seen["encryption"]["device_id"])
        self.first = sent["event_id"]

    def following(self):
        tail = self.bob.begin("tail", "Heronry", "--count", "2", "--timeout", "60")
        tail.kind("ready")
        self.alice.run("send", self.room, "can you see this?")
        expect("what came", "can you see this?", tail.kind("event")["body"])
        self.alice.run("react", self.room, self.first, "👍")
        reaction = tail.kind("event")
        expect("the reaction", ("reaction", "👍", self.first), (reaction["kind"], reaction["body"], reaction["about"]))
        tail.end()
        self.bob.run("tail", self.room, "--count", "1", "--timeout", "1", code=10)

    def answers_edits_and_removals(self):
        reply = self.bob.one("send", self.room, "I can", "--reply", self.first)["event_id"]
        edit = self.bob.one("send", self.room, "I can indeed", "--edit", reply)["event_id"]
        gone = self.bob.one("send", self.room, "oops")["event_id"]
        self.bob.run("redact", self.room, gone)
        by_id = {line["event_id"]: line for line in self.alice.messages(self.room)}
        expect("the answer", self.first, by_id[reply]["reply_to"])
        expect("the edit", ("I can indeed", reply), (by_id[edit]["body"], by_id[edit]["about"]))
        expect("nothing is left of what was removed", None, by_id[gone].get("body"))

    def files(self):
        path = pathlib.Path(self.folder, "secret.bin")
        path.write_bytes(ATTACHED)
        sent = self.alice.one("upload", self.room, str(path))
        expect("it went encrypted", (True, len(ATTACHED)), (sent["encrypted"], sent["size"]))
        copy = pathlib.Path(self.folder, "copy.bin")
        self.bob.run("download", self.room, sent["event_id"], "-o", str(copy))
        expect_that("the same bytes arrive", copy.read_bytes() == ATTACHED)
        self.bob.run("download", self.room, sent["event_id"], "-o", str(copy), code=1)
        self.bob.run("download", self.room, self.first, code=11)

    def nothing_is_readable_on_the_server(self):
        needles = [SECRET.encode(), ATTACHED[:24]]
        searched = 0
        for file in pathlib.Path(os.environ["KOINE_DATA"]).rglob("*"):
            if file.is_file():
                data = file.read_bytes()
                searched += len(data)
                expect_that(f"no plaintext in {file}", not any(needle in data for needle in needles))
        expect_that("there was something to search", searched > 10_000, searched)

    def a_second_device_cannot_read_yet(self):
        self.phone = self.chat("alice-phone", "phone")
        made = self.phone.log_in("alice", "pw-alice")
        expect("a second device is not verified by itself", (False, False), (made["verified"], made["first_device"]))
        self.phone_id = made["device_id"]
        lines = {line["event_id"]: line for line in self.phone.messages(self.room)}
        old = lines[self.first]
        expect("and says why it cannot read", ("undecryptable", "this-device-unverified"), (old["kind"], old["encryption"]["code"]))
        self.phone.run("read", self.room, "--strict", code=6)
        sent = self.phone.one("send", self.room, "from a new device")["event_id"]
        seen = {line["event_id"]: line for line in self.bob.messages(self.room)}[sent]
        expect("bob is warned", ("from a new device", "unsigned-device"), (seen["body"], seen["encryption"]["code"]))

    def two_scripts_verify_two_devices(self):
        waiting = self.alice.begin("verify", "--accept", "--timeout", "90")
        waiting.kind("verification")
        asking = self.phone.begin("verify", "--device", self.alice_desk, "--timeout", "90")
        here, there = asking.kind("emoji")["emoji"], waiting.kind("emoji")["emoji"]
        expect("both see the same seven", here, there)
        expect("seven", 7, len(here))
        asking.say("yes")
        waiting.say("yes")
        done = asking.kind("verified")
        expect("both are trusted", (True, True), (done["verified"], done["own_device_verified"]))
        asking.end()
        waiting.kind("verified")
        waiting.end()
        old = {line["event_id"]: line for line in self.phone.messages(self.room)}[self.first]
        expect("old messages are read with the backup", SECRET, old.get("body"))
        expect("the backup is in use", "on", self.phone.one("whoami")["backup"])

    def emoji_that_differ_end_it(self):
        waiting = self.alice.begin("verify", self.bob_id, "--accept", "--timeout", "90")
        waiting.kind("verification")
        asking = self.bob.begin("verify", self.alice_id, "--expect", "dog,dog,dog,dog,dog,dog,dog", "--timeout", "90")
        asking.kind("emoji")
        asking.end(code=9)
        waiting.kind("emoji")
        waiting.end(code=9)

    def people_verify_each_other(self):
        waiting = self.alice.begin("verify", self.bob_id, "--accept", "--emoji-match", "--timeout", "90")
        waiting.kind("verification")
        self.bob.run("verify", self.alice_id, "--emoji-match", "--timeout", "90")
        waiting.kind("verified")
        waiting.end()
        members = {line["user_id"]: line["trust"] for line in self.bob.run("members", self.room)}
        expect("bob trusts alice", "verified", members[self.alice_id])
        self.alice.run("send", self.room, "verified now")
        seen = [line for line in self.bob.messages(self.room) if line.get("body") == "verified now"]
        expect("and so her messages", "verified", seen[-1]["encryption"]["code"])

    def the_recovery_key(self):
        laptop = self.chat("alice-laptop", "laptop")
        laptop.log_in("alice", "pw-alice")
        wrong = "EsTc " * 12
        laptop.run("recover", code=6, KOINE_CHAT_RECOVERY_KEY=wrong)
        done = laptop.one("recover", KOINE_CHAT_RECOVERY_KEY=self.recovery_key)
        expect("the device is verified", (True, "on"), (done["verified"], done["backup"]))
        old = {line["event_id"]: line for line in laptop.messages(self.room)}[self.first]
        expect("old messages are there", SECRET, old.get("body"))
        keys = f"{self.folder}/keys.txt"
        laptop.run("backup", "fetch")
        laptop.run("export-keys", keys, KOINE_CHAT_PASSPHRASE="a long passphrase")
        expect_that("the file holds no plain keys", "session_key" not in pathlib.Path(keys).read_text())
        laptop.run("import-keys", keys, code=6, KOINE_CHAT_PASSPHRASE="another passphrase")
        expect_that("keys are read", laptop.one("import-keys", keys, KOINE_CHAT_PASSPHRASE="a long passphrase")["total"] > 0)
        laptop.run("logout")
        laptop.run("whoami", code=3)

    def keys_are_renewed(self):
        room = self.alice.one("create", "Renewal", "--rotation-msgs", "2", "--invite", self.bob_id)["room_id"]
        self.bob.run("join", room)
        lines = self.alice.begin("run")
        sessions = []
        for number in range(4):
            lines.say(json.dumps(["send", room, f"message {number}"]))
            sessions.append(lines.kind("sent")["session_id"])
            lines.kind("ran")
        lines.end()
        expect("a new session after two messages", (True, False, True), tuple(a == b for a, b in zip(sessions, sessions[1:])))
        self.alice.run("new-session", room)
        expect_that("and after one was thrown away", self.alice.one("send", room, "m")["session_id"] != sessions[-1])

    def what_was_said_before_somebody_came(self):
        room = self.alice.one("create", "History")["room_id"]
        said = self.alice.one("send", room, "before anybody came")["event_id"]
        seen = []
        for name, more in (("gus", ()), ("hal", ("--no-history-sharing",))):
            invited = register(self.base, name)
            newcomer = self.chat(name, "desk")
            newcomer.log_in(name, f"pw-{name}")
            self.alice.run("invite", room, invited, *more)
            newcomer.run("join", room)
            line = {line["event_id"]: line for line in newcomer.messages(room)}[said]
            seen.append((line.get("body"), line["encryption"]["code"]))
        expect("with the history, who sent it is not certain", ("before anybody came", "unsure-source"), seen[0])
        expect("without", (None, "before-you-joined"), seen[1])

    def a_blocked_device_is_told(self):
        room = self.alice.one("create", "Blocked", "--invite", self.bob_id)["room_id"]
        self.bob.run("join", room)
        self.alice.run("devices", "block", self.bob_id, self.bob_desk)
        self.alice.run("send", room, "not for that device")
        seen = self.bob.messages(room)[-1]
        expect("why bob cannot read", ("undecryptable", "withheld-blocked"), (seen["kind"], seen["encryption"]["code"]))
        self.alice.run("devices", "unblock", self.bob_id, self.bob_desk)
        blocked = [line["blocked"] for line in self.alice.run("devices", self.bob_id)]
        expect("no device is blocked any more", [False], blocked)

    def one_process_at_a_time(self):
        tail = self.bob.begin("tail", "--timeout", "20")
        tail.kind("ready")
        self.bob.run("whoami", "--wait", "0", code=7)
        tail.process.send_signal(2)
        tail.end()

    def without_the_server(self):
        seen = [line.get("body") for line in self.bob.messages(self.room, "--offline")]
        expect_that("what was said is kept here", "can you see this?" in seen, seen)
        self.bob.run("send", self.room, "x", "--offline", code=2)
        away = Chat(self.program, self.base, f"{self.folder}/bob", "desk")
        with self._server_away("bob"):
            away.run("rooms", "--network-patience", "1", code=5)

    @contextlib.contextmanager
    def _server_away(self, who):
        """The server is where nothing listens."""
        path = self.account_file(who)
        before = path.read_text()
        path.write_text(json.dumps({**json.loads(before), "homeserver": "http://127.0.0.1:9"}))
        try:
            yield
        finally:
            path.write_text(before)

    def account_file(self, who, account="desk"):
        return pathlib.Path(self.folder, who, "accounts", account, "account.json")

    def a_damaged_store(self):
        store = self.account_file("alice-phone", "phone").parent / "store"
        state = store / "matrix-sdk-state.sqlite3"
        for companion in store.glob("matrix-sdk-state.sqlite3-*"):
            companion.unlink()
        state.write_bytes(b"this is no database" * 500)
        failure = self.phone.run("rooms", code=8)[-1]
        expect_that("the way out is told", "repair" in failure["message"], failure)
        expect_that("the damaged part is set aside", "damaged-" in self.phone.one("repair")["aside"])
        expect_that("all rooms are back", self.room in [line["room_id"] for line in self.phone.run("rooms")])
        old = {line["event_id"]: line for line in self.phone.messages(self.room)}[self.first]
        expect("and the keys never left", SECRET, old.get("body"))

    def the_screen_for_a_newcomer(self):
        folder = f"{self.folder}/newcomer"
        screen = Screen(self.program, folder)
        screen.shows("Welcome to koine-chat")
        screen.type(f"{self.base}\tbob\tnot the password\r")
        screen.shows("the server refused")
        screen.type("\x15pw-bob\r")
        screen.shows("You are in")
        screen.type("\x1b")
        screen.shows("Heronry")
        expect("it closes in order", 0, screen.close())

    def the_screen(self):
        screen = Screen(self.program, f"{self.folder}/bob")
        screen.shows("Heronry")
        screen.type("/Heronry\r\r")
        screen.shows("Write an encrypted message")
        screen.shows("verified now")
        screen.type("written on a screen\r")
        screen.until(lambda seen: "written on a screen" in seen and "sending" not in seen, "the message, sent")
        screen.type("half a sentence, not se")
        screen.shows("half a sentence, not se")
        screen.type("\t\t?")
        screen.shows("Everywhere")
        screen.type("\x1b")
        for size in [(1, 1), (3, 2), (20, 5), (300, 80), (100, 30)]:
            screen.resize(*size)
        screen.until(lambda seen: "Heronry" in seen and "half a sentence" in seen, "everything again")
        expect("it closes in order", 0, screen.close())
        seen = [line.get("body") for line in self.alice.messages(self.room)]
        expect_that("alice got it", "written on a screen" in seen, seen)

    def the_last_state_at_once_and_offline(self):
        evil = "\x1b[2J\x1b]0;title\x07evil \u202egpj.exe"
        self.alice.run("send", self.room, evil)
        self.bob.run("read", self.room)
        with self._server_away("bob"):
            screen = Screen(self.program, f"{self.folder}/bob")
            took = screen.until(lambda seen: "half a sentence, not se" in seen and "written on a screen" in seen, "the last state")
            expect_that("escapes are shown, not obeyed", "␛[2J" in screen.text(), screen.text())
            screen.shows("offline, trying again")
            memory = screen.memory_kib()
            expect("it closes in order", 0, screen.close())
        print(f"       the last state was on the screen after {took} ms, without a server; {memory} KiB resident")

    def logging_out(self):
        self.phone.run("logout")
        self.phone.run("rooms", code=3)
        devices = {line["device_id"]: line for line in self.alice.run("devices")}
        expect("the server forgot the device", False, self.phone_id in devices)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: walk.py BASE_URL")
    with tempfile.TemporaryDirectory() as folder:
        walk = Walk(sys.argv[1], folder)
        own = [name for name in vars(Walk) if not name.startswith("_") and name not in ("chat", "account_file")]
        steps = [*own[:-1], *bad_input.steps(), own[-1]]
        for name in steps:
            began = time.monotonic()
            try:
                getattr(walk, name)()
            except Wrong as wrong:
                print(f"WRONG  {name.replace('_', ' ')}\n       {wrong}")
                sys.exit(1)
            print(f"ok     {name.replace('_', ' ')} ({round((time.monotonic() - began) * 1000)} ms)", flush=True)


main()
