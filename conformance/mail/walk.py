"""A walk with mail: Koine behind the open net and behind Postfix, senders with smtplib and swaks, people in a Matrix client and in
an XMPP client, who write to people with nothing but a mailbox.

usage: walk.py --koine PROGRAM --folder FOLDER [STEP...]

Prints a line for each step: `well NAME`, `WRONG NAME: why`, or `notrun NAME: why`.
"""

import argparse
import asyncio
import hashlib
import base64
import os
import pathlib
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.parse

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "walks" / "slixmpp")]
from dns import Dns  # noqa: E402
from letters import answer, mail, parsed, png, refused, said, send, signatures_hold  # noqa: E402
import people  # noqa: E402
from people import CLIENT, Xmpp  # noqa: E402
from people import said as heard  # noqa: E402
from servers import (  # noqa: E402
    BAD, BEHIND_SMARTHOST, DOMAIN, EXCHANGE, GOOD, MAILBOXES, MISNAMED, NAMED, RELAY, UNKNOWN_TO_DNS, UNNAMED, Dovecot, Fussy, Koine, Postfix, certificate, free_port, until,
)  # fmt: skip

ZONE = {
    ("good.test", "TXT"): [f"v=spf1 ip4:{GOOD} -all"],
    ("_dmarc.good.test", "TXT"): ["v=DMARC1; p=reject"],
    ("lax.test", "TXT"): ["v=spf1 ~all"],
    ("_dmarc.lax.test", "TXT"): ["v=DMARC1; p=none"],
    ("slow.test", "TXT"): "servfail",
    ("_dmarc.slow.test", "TXT"): "servfail",
    ("silent.test", "TXT"): None,
    ("_dmarc.silent.test", "TXT"): None,
    (MAILBOXES, "MX"): [EXCHANGE],
    (EXCHANGE, "A"): [RELAY],
    ("nomail.test", "MX"): ["."],
    (BEHIND_SMARTHOST, "MX"): [EXCHANGE],
    (f"rooms.{BEHIND_SMARTHOST}", "MX"): [EXCHANGE],
    **{(domain, "MX"): [f"mail.{domain}"] for domain in (NAMED, MISNAMED, UNNAMED)},
    **{(f"mail.{domain}", "A"): [RELAY] for domain in (NAMED, MISNAMED, UNNAMED)},
    (f"_25._tcp.mail.{MISNAMED}", "TLSA"): ["030101" + "07" * 32],
    (f"_25._tcp.mail.{UNNAMED}", "TLSA"): "servfail",
}
PASSWORD = "a long enough one"
# How long a session of XMPP waits for what comes by mail.
people.SEEN_WITHIN_S = 90
PICTURE = png()


def coded(address):
    return "".join(c if c.isascii() and (c.islower() or c.isdigit() or c in ".-") else f"={ord(c):02x}" for c in address)


def ghost(address, domain=DOMAIN):
    return f"@_mail_{coded(address)}:{domain}"


class Person:
    """An account, as a Matrix client has it."""

    def __init__(self, koine, name):
        self.koine = koine
        body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
        session = koine.ask("POST", "/_matrix/client/v3/register", body)
        self.name, self.id, self.token = name, session["user_id"], session["access_token"]
        self.address = f"{name}@{koine.domain}"
        self.count = 0

    def ask(self, method, path, body=None, base="/_matrix/client/v3", **more):
        return self.koine.ask(method, base + path, body, self.token, **more)

    def sync(self):
        return self.ask("GET", "/sync?timeout=0").get("rooms", {})

    def invited_by(self, whom):
        for room, what in self.sync().get("invite", {}).items():
            if any(event["sender"] == whom for event in what["invite_state"]["events"]):
                return room
        return None

    def accept(self, whom):
        room = until(f"an invitation by {whom}", lambda: self.invited_by(whom))
        self.ask("POST", f"/join/{room}", {})
        return room

    def room_with(self, address):
        """A room of two, begun here: the correspondent comes at once."""
        other = ghost(address, self.koine.domain)
        body = {"preset": "trusted_private_chat", "is_direct": True, "invite": [other]}
        room = self.ask("POST", "/createRoom", body)["room_id"]
        until(f"{other} in the room", lambda: other in self.joined(room))
        return room

    def joined(self, room):
        return self.ask("GET", f"/rooms/{room}/joined_members")["joined"]

    def events(self, room, kind="m.room.message"):
        events = self.ask("GET", f"/rooms/{room}/messages?dir=b&limit=100")["chunk"]
        return [event for event in reversed(events) if event["type"] == kind]

    def said(self, room):
        return self.events(room)

    def sees(self, room, what, holds, kind="m.room.message"):
        """The first event of which `holds` is true."""
        return until(what, lambda: next((event for event in self.events(room, kind) if holds(event["content"])), None))

    def send(self, room, content, kind="m.room.message"):
        self.count += 1
        return self.ask("PUT", f"/rooms/{room}/send/{kind}/t{self.count}", content)["event_id"]

    def says(self, room, body, **more):
        return self.send(room, {"msgtype": "m.text", "body": body, **more})

    def upload(self, name, data, kind):
        name = urllib.parse.quote(name)
        return self.ask("POST", f"/upload?filename={name}", data, base="/_matrix/media/v3", kind=kind)["content_uri"]

    def download(self, mxc):
        return self.ask("GET", f"/media/download/{mxc.removeprefix('mxc://')}", base="/_matrix/client/v1")


def digest_of_key(certificate):
    """SHA-256 of a certificate's public key, as TLSA records have it."""
    key = subprocess.run(["openssl", "x509", "-in", certificate, "-pubkey", "-noout"], check=True, capture_output=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key, check=True, capture_output=True).stdout
    return hashlib.sha256(der).hexdigest()


class World:
    """Everything that steps share."""

    def __init__(self, program, logs):
        self.logs = logs
        # A folder of its own, which Postfix can enter as its own user.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="koine-mail-"))
        self.folder.chmod(0o755)
        self.relay = None
        self.ends = []
        try:
            self.dns = self.closing(Dns(dict(ZONE), (NAMED, MISNAMED, UNNAMED)))
            resolver = f"127.0.0.1:{self.dns.port}"
            self.certificate = certificate(self.folder)
            self.dns.zone[f"_25._tcp.mail.{NAMED}", "TLSA"] = [f"030101{digest_of_key(self.certificate[0])}"]
            self.port = free_port(RELAY)
            smarthost = f'deliver = "smarthost"\n[mail.outgoing.smarthost]\nhost = "{RELAY}"\nport = {self.port}'
            authority = self.certificate[0]
            start = lambda domain, outgoing: self.closing(  # noqa: E731
                Koine(program, logs / domain, domain, resolver, authority, outgoing)
            )
            self.koine = start(DOMAIN, f"port = {self.port}")
            self.behind = start(BEHIND_SMARTHOST, smarthost)
        except BaseException:
            self.close()
            raise

    def closing(self, what):
        self.ends.append(what.close)
        return what

    def person(self, name):
        return Person(self.koine, name)

    def postfix(self):
        """Postfix, which is started when it is first needed; NotHere where it cannot be."""
        if os.geteuid() != 0 or not shutil.which("postfix"):
            raise NotHere("Postfix needs root, and to be installed")
        if self.relay is None:
            fussy = self.closing(Fussy())
            relay = Postfix(self.folder, self.port, self.certificate, self.koine, self.behind, fussy)
            self.ends.append(lambda: relay.close(self.logs))
            self.relay = relay
            # Keys take a while to be made; from now on they are there.
            for koine in (self.koine, self.behind):
                koine.admin("mail", "records")
        return self.relay

    def letter(self, address, what, holds):
        """The first mail in a mailbox of Postfix's of which `holds` is true."""
        return until(what, lambda: next((raw for raw in self.relay.inbox(address) if holds(raw)), None))

    def by_relay(self, author, to, text):
        send(self.port, RELAY, author, to, text, host=RELAY)

    def close(self):
        for end in reversed(self.ends):
            try:
                end()
            except Exception as error:  # noqa: BLE001 - the others are to be ended all the same
                print(f"could not be ended: {error}", flush=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class NotHere(Exception):
    """A step cannot be taken on this machine."""


# Steps. Each gets the world and says what is wrong by an assertion.

# What comes in, from servers of all kinds.


def verified_sender(world):
    alice, bob = world.person("alice1"), "bob@good.test"
    send(world.koine.smtp, GOOD, bob, [alice.address], mail(bob, alice.address, "Lunch", "At noon?"))
    room = alice.accept(ghost(bob))
    content = alice.said(room)[0]["content"]
    assert content["body"] == "Lunch\n\nAt noon?", content
    verdict = content["koine.mail"]["verdict"]
    assert verdict["spf"] == "pass" and verdict["dmarc"] == "pass" and verdict["verified"], verdict


def forged_sender(world):
    alice = world.person("alice2")
    code, text = refused(world.koine.smtp, BAD, "bob@good.test", [alice.address], mail("bob@good.test", alice.address, "x", "x"))
    assert code == 550 and "5.7.26" in text, (code, text)
    code, text = refused(world.koine.smtp, BAD, "e@lax.test", [alice.address], mail(alice.address, alice.address, "x", "x"))
    assert code == 550 and "5.7.1" in text, (code, text)
    assert not alice.sync().get("invite"), "what was refused left something behind"


def doubtful_sender(world):
    alice, eve = world.person("alice3"), "eve@lax.test"
    send(world.koine.smtp, BAD, eve, [alice.address], mail(eve, alice.address, "Hi", "It is me"))
    content = alice.said(alice.accept(ghost(eve)))[0]["content"]
    assert "not certain" in content["body"] and content["koine.mail"]["verdict"]["dmarc"] == "fail", content


def dns_that_does_not_answer(world):
    alice = world.person("alice4")
    for sender in ["sam@slow.test", "sam@silent.test"]:
        begun = time.monotonic()
        code, text = refused(world.koine.smtp, GOOD, sender, [alice.address], mail(sender, alice.address, "x", "x"))
        assert code == 451 and "4.7.24" in text, (sender, code, text)
        took = time.monotonic() - begun
        assert took < 60, f"{sender}: the answer took {took:.0f} s"
    assert not alice.sync().get("invite"), "what was put off left something behind"


def answers_and_threads(world):
    alice, bob = world.person("alice5"), "bob5@good.test"
    first = mail(bob, alice.address, "Plan", "One", Message_ID="<one5@good.test>")
    send(world.koine.smtp, GOOD, bob, [alice.address], first)
    room = alice.accept(ghost(bob))
    event = alice.says(room, "Two")
    ours = f"<{event[1:]}@{DOMAIN}>"
    send(world.koine.smtp, GOOD, bob, [alice.address], mail(bob, alice.address, "Re: Plan", "Three", In_Reply_To=ours))
    events = [event for event in alice.said(room) if event["content"]["msgtype"] == "m.text"]
    assert [event["content"]["body"] for event in events] == ["Plan\n\nOne", "Two", "Three"], events
    assert events[2]["content"]["m.relates_to"]["m.in_reply_to"]["event_id"] == event, events[2]


def corpus(world):
    alice = world.person("alice6")
    files = sorted((HERE / "corpus").glob("*.eml"))
    for file in files:
        text = file.read_bytes().replace(b"{domain}", DOMAIN.encode()).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        # By LMTP: what stands in front has looked at the senders.
        send(world.koine.lmtp, RELAY, "someone@good.test", [alice.address], text, smtplib.LMTP)
    until("the invitations", lambda: len(alice.sync().get("invite", {})) >= len(files))


def swaks(world):
    if not shutil.which("swaks"):
        raise NotHere("swaks is not installed")
    alice, bob = world.person("alice7"), "bob7@good.test"
    command = ["swaks", "--server", "127.0.0.1", "--port", str(world.koine.smtp), "--local-interface", GOOD, "--from", bob]
    command += ["--to", alice.address, "--helo", "sender.test", "--pipeline", "--body", "By swaks", "--h-From", bob]
    support = subprocess.run(["swaks", "--support"], capture_output=True, text=True, timeout=60, check=False)
    if any("Basic TLS" in line and "not" not in line.lower() for line in support.stdout.splitlines()):
        command.append("--tls")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "By swaks" in alice.said(alice.accept(ghost(bob)))[0]["content"]["body"]


# What should never come in.


class Raw:
    """SMTP as bytes."""

    def __init__(self, port, source=GOOD):
        self.socket = socket.create_connection(("127.0.0.1", port), 60, (source, 0))
        self.file = self.socket.makefile("rb")
        self.answer()

    def answer(self):
        """The code and the last line of an answer; none when the connection is over."""
        while True:
            try:
                line = self.file.readline().decode("utf-8", "replace")
            except ConnectionError:
                line = ""
            if not line or line[3:4] != "-":
                return line[:3], line

    def say(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode() + b"\r\n")
        return self.answer()

    def begin(self, sender, to):
        for line in ["EHLO sender.test", f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>"]:
            code, text = self.say(line)
            assert code == "250", text
        code, text = self.say("DATA")
        assert code == "354", text

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def smuggling(world):
    alice, bob = world.person("alice20"), "bob20@good.test"
    inner = mail("boss@good.test", alice.address, "Smuggled", "Pay at once").encode()
    for end in [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n\0.\r\n", b"\r.\r\n", b"\n.\r"]:
        with Raw(world.koine.smtp) as wire:
            wire.begin(bob, alice.address)
            envelope = f"MAIL FROM:<boss@good.test>\r\nRCPT TO:<{alice.address}>\r\nDATA\r\n".encode()
            outer = mail(bob, alice.address, "Outer", "x").encode()
            code, text = wire.say(outer + end + envelope + inner + b"\r\n.\r\n")
            # One mail, which may be refused; never two.
            assert code in {"250", "550", "554"}, (end, text)
            code, text = wire.say("NOOP")
            assert code == "250", (end, text)
    invited = alice.sync().get("invite", {})
    assert not alice.invited_by(ghost("boss@good.test")), "a mail was smuggled in"
    assert len(invited) <= 1, invited


def many_recipients(world):
    alice, bob = world.person("alice21"), "bob21@good.test"
    with Raw(world.koine.smtp) as wire:
        for line in ["EHLO sender.test", f"MAIL FROM:<{bob}>", f"RCPT TO:<{alice.address}>"]:
            assert wire.say(line)[0] == "250"
        codes = []
        for _ in range(10_000):
            code, _ = wire.say(f"RCPT TO:<nobody@{DOMAIN}>")
            codes.append(code)
            if code in {"421", ""}:
                break
        assert codes[-1] == "421" and len(codes) <= 100, (codes[-3:], len(codes))
    assert not alice.sync().get("invite"), "a mail that was not sent came"


def mails_that_are_bombs(world):
    alice, bob = world.person("alice22"), "bob22@good.test"
    head = f"From: {bob}\r\nTo: {alice.address}\r\nSubject: bomb\r\n"
    nested = "".join(f'Content-Type: multipart/mixed; boundary="{n}"\r\n\r\n--{n}\r\n' for n in range(1_001)) + "\r\nx\r\n"
    parts = 'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + "--b\r\n\r\nx\r\n" * 100_000 + "--b--\r\n"
    bombs = {
        "nested": head + nested,
        "parts": head + parts,
        "headers": head + "X-Filler: x\r\n" * 100_000 + "\r\nx\r\n",
        "header": head + "X-Filler: " + "x" * 900_000 + "\r\n\r\nx\r\n",
        "folded": head + "X-Filler: x\r\n" + " x\r\n" * 200_000 + "\r\nx\r\n",
        "references": head + "References: " + "<a@b>\r\n " * 30_000 + "\r\n\r\nx\r\n",
        "loop": "Received: from a by b; Mon, 2 Nov 2026 10:00:00 +0000\r\n" * 101 + head + "\r\nx\r\n",
    }
    # What is only odd may be taken.
    wanted = {"parts": {250, 550, 552, 554}, "references": {250, 550, 552, 554}}
    for name, bomb in bombs.items():
        begun = time.monotonic()
        code, text = refused(world.koine.smtp, GOOD, bob, [alice.address], bomb)
        assert code in wanted.get(name, {550, 552, 554}), (name, code, text)
        took = time.monotonic() - begun
        assert took < 20, f"{name}: took {took:.0f} s"
    # Whoever behaves is served.
    send(world.koine.smtp, GOOD, bob, [alice.address], mail(bob, alice.address, "Hello", "Still there?"))
    room = alice.accept(ghost(bob))
    assert any("Still there?" in event["content"]["body"] for event in alice.said(room))


def forged_bounces(world):
    alice = world.person("alice23")
    report = mail("mailer-daemon@good.test", alice.address, "Undelivered", "failed")
    with Raw(world.koine.smtp) as wire:
        assert wire.say("EHLO sender.test")[0] == "250"
        assert wire.say("MAIL FROM:<>")[0] == "250"
        code, text = wire.say(f"RCPT TO:<bounces+aaaaaaaaaaaaaaaaaaaaaaaaaaaa@{DOMAIN}>")
        if code == "250":
            assert wire.say("DATA")[0] == "354"
            code, text = wire.say(report.encode() + b".\r\n")
        assert code == "550", text
        assert wire.say("RSET")[0] == "250"
        # Nor does what claims to be a bounce come to a person.
        assert wire.say("MAIL FROM:<>")[0] == "250"
        code, text = wire.say(f"RCPT TO:<{alice.address}>")
        if code == "250":
            assert wire.say("DATA")[0] == "354"
            code, text = wire.say(report.encode() + b".\r\n")
        assert code == "550", text
    assert not alice.sync().get("invite"), "a forged bounce came in"


def garbage(world):
    """Lines without end, nonsense, commands out of order; whoever behaves is served meanwhile."""
    port = world.koine.smtp
    with Raw(port) as wire:
        # More than is taken, and never a line end.
        try:
            for _ in range(200):
                wire.socket.sendall(b"x" * 65_536)
        except OSError:
            pass
    with Raw(port) as wire:
        wire.socket.sendall(b"\1\xff garbage\r\n" * 10_000)
        codes = []
        while codes[-1:] != [""]:
            codes.append(wire.answer()[0])
        assert codes[-2] == "421" and len(codes) <= 100, codes[-5:]
    with Raw(port) as wire:
        orders = ["DATA", "RCPT TO:<a@b.test>", "MAIL FROM:<a@b.test>", "BDAT 7 LAST\r\nhello", "AUTH PLAIN AAA=", "EXPN all"]
        for line in orders:
            code, text = wire.say(line)
            assert code.startswith("5"), (line, text)
    with Raw(port) as wire:
        # What is said before TLS begins is said by nobody. [RFC 3207 §4.2]
        assert wire.say("EHLO sender.test")[0] == "250"
        code, text = wire.say("STARTTLS\r\nMAIL FROM:<bob@good.test>")
        assert code == "220", text
        wire.socket.settimeout(5)
        try:
            after = wire.socket.recv(100)
        except TimeoutError:
            after = b""
        assert b"250" not in after, after
    with Raw(port) as wire:
        # Words behind it are an error, and all stays in the clear. [RFC 3207 §4]
        assert wire.say("EHLO sender.test")[0] == "250"
        assert wire.say("STARTTLS now")[0] == "501" and wire.say("NOOP")[0] == "250"
    with Raw(port) as wire:
        assert wire.say("NOOP")[0] == "250"


def a_mail_without_end(world):
    """A gigabyte: said so, it is refused at once; not said, it is cut off, and takes no memory."""
    alice, bob = world.person("alice24"), "bob24@good.test"
    before = world.koine.resident_bytes()
    with Raw(world.koine.smtp) as wire:
        assert wire.say("EHLO sender.test")[0] == "250"
        code, text = wire.say(f"MAIL FROM:<{bob}> SIZE=1000000000")
        assert code == "552", text
    with Raw(world.koine.smtp) as wire:
        wire.begin(bob, alice.address)
        wire.socket.sendall(mail(bob, alice.address, "Large", "").encode())
        block, sent = b"x" * 98 + b"\r\n", 0
        block *= 10_000
        try:
            while sent < 1_000_000_000:
                wire.socket.sendall(block)
                sent += len(block)
        except OSError:
            pass
        assert sent < 200_000_000, f"{sent} bytes were taken"
    grown = world.koine.resident_bytes() - before
    assert grown < 150_000_000, f"it holds {grown} bytes more"
    assert not alice.sync().get("invite"), "a part of it came"


def odd_mails(world):
    """Addresses of every legal form, texts that are none, files that are bombs: taken, or refused for good; never in between."""
    alice = world.person("alice25")
    plus, upper = alice.address.replace("@", "+x@"), alice.address.upper()
    for sender, to in [
        ("o'neil+tag@good.test", alice.address), ("UPPER@GOOD.TEST", upper), ('"quoted.local"@good.test', plus), ("a/b=c_d@good.test", plus),
    ]:  # fmt: skip
        code, text = refused(world.koine.smtp, GOOD, sender, [to], mail(sender, to, "Odd", "x"))
        assert code == 250, (sender, to, code, text)
    head = f"From: bob25@good.test\r\nTo: {alice.address}\r\n".encode()
    zip_bomb = b"PK\x03\x04" + b"\0" * 26 + b"0" * 1_000
    width = png(60_000)
    file = b"Content-Type: %s\r\nContent-Disposition: attachment; filename=%s\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n"
    for name, text in {
        "invalid UTF-8": head + b"Subject: =?utf-8?q?=ff=fe?= \xff\xfe\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\xff\xc3\xc3 x\r\n",
        "a set that there is not": head + b"Subject: =?x-none?b?////?=\r\nContent-Type: text/plain; charset=x-none\r\n\r\n\x80\x81\r\n",
        "encoded words everywhere": head + b"=?utf-8?q?X=3A?= y\r\nSubject: " + b"=?utf-8?q?=F0=9F=98=80?= " * 500 + b"\r\n\r\nx\r\n",
        "base64 that is none": head + b"Content-Transfer-Encoding: base64\r\n\r\n=====!!!!\r\n",
        "an archive": head + file % (b"application/zip", b"bomb.zip", base64.encodebytes(zip_bomb)),
        "a picture too wide": head + file % (b"image/png", b"wide.png", base64.encodebytes(width)),
        "a name that leads elsewhere": head + file % (b"text/plain", b"../../etc/passwd", b"aGVsbG8="),
    }.items():
        named = text.replace(b"From:", f"Message-ID: <{time.time_ns()}@odd.test>\r\nFrom:".encode(), 1).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        code, words = refused(world.koine.smtp, GOOD, "bob25@good.test", [alice.address], named)
        assert code == 250, (name, code, words)
    room = alice.accept(ghost("bob25@good.test"))
    said = alice.said(room)
    assert len([event for event in said if event["content"]["msgtype"] in {"m.text", "m.file", "m.image"}]) >= 7, said
    for event in said:
        name = event["content"].get("filename", "")
        assert "/" not in name, name
        if event["content"]["msgtype"] == "m.image":
            path = f"/media/thumbnail/{event['content']['url'].removeprefix('mxc://')}?width=64&height=64"
            try:
                alice.ask("GET", path, base="/_matrix/client/v1")
            except urllib.error.HTTPError as error:
                assert error.code < 500, error
    assert alice.ask("GET", "/account/whoami")["user_id"] == alice.id


# With Postfix.


def through_postfix(world, name, sender, subject):
    """Somebody writes through Postfix, which hands on by what its settings say for the recipient."""
    world.postfix()
    person = world.person(name)
    world.by_relay(sender, [person.address], mail(sender, person.address, subject, "Through Postfix"))
    content = person.said(person.accept(ghost(sender)))[0]["content"]
    assert "Through Postfix" in content["body"] and content["koine.mail"]["verdict"]["trusted"], content


def from_postfix_by_smtp(world):
    through_postfix(world, "alice8", "bob8@good.test", "By SMTP")


def from_postfix_by_lmtp(world):
    through_postfix(world, "lmtp", "bob9@good.test", "By LMTP")


def from_dovecot_by_lmtp(world):
    """Dovecot stands in front, and hands on by LMTP what it gets by LMTP: to several recipients, each with an answer."""
    if os.geteuid() != 0 or not shutil.which("dovecot") or not pathlib.Path("/usr/lib/dovecot/lmtp").exists():
        raise NotHere("Dovecot with LMTP needs root, and to be installed")
    alice, bob = world.person("alice9"), "bob9@good.test"
    dovecot = Dovecot(world.folder, world.koine)
    try:
        with smtplib.LMTP("127.0.0.1", dovecot.port, local_hostname="sender.test", timeout=120) as client:
            letter = mail(bob, alice.address, "By Dovecot", "Through Dovecot").encode()
            nobody = f"nobody@{DOMAIN}"
            refusals = client.sendmail(bob, [alice.address, nobody], letter)
            assert list(refusals) == [nobody] and refusals[nobody][0] == 550, refusals
    finally:
        dovecot.close(world.logs)
    content = alice.said(alice.accept(ghost(bob)))[0]["content"]
    assert "Through Dovecot" in content["body"] and content["koine.mail"]["verdict"]["trusted"], content


def conversation(world):
    """Somebody writes first, is answered, answers with a picture, and reacts."""
    world.postfix()
    alice, bob = world.person("alice10"), f"bob@{MAILBOXES}"
    room = alice.room_with(bob)
    first = alice.says(room, "Shall we have lunch?")
    letter = world.letter(bob, "the mail", lambda raw: "lunch" in said(raw))
    headers = parsed(letter)
    assert headers["From"].addresses[0].addr_spec == alice.address, headers["From"]
    assert headers["Message-ID"] == f"<{first[1:]}@{DOMAIN}>", headers["Message-ID"]
    assert "with ESMTPS" in str(headers.get_all("Received")), "it came without TLS"
    records = dict(world.koine.admin("mail", "records")["records"])
    assert signatures_hold(letter, records) == 2
    # He answers with a picture.
    world.by_relay(bob, [alice.address], answer(letter, bob, alice.address, "At noon.", picture=PICTURE))
    came = alice.sees(room, "the answer", lambda content: "At noon." in content["body"])["content"]
    assert came["m.relates_to"]["m.in_reply_to"]["event_id"] == first, came
    assert came["body"].startswith("At noon."), came["body"]
    image = alice.sees(room, "the picture", lambda content: content["msgtype"] == "m.image")
    assert alice.download(image["content"]["url"]) == PICTURE, "the picture is another"
    # She answers that, with a file.
    data = bytes(range(256)) * 40
    answered = next(e for e in alice.events(room) if "At noon." in e["content"]["body"])["event_id"]
    alice.says(room, "Here is the menu", **{"m.relates_to": {"m.in_reply_to": {"event_id": answered}}})
    mxc = alice.upload("menu.bin", data, "application/octet-stream")
    file = {"msgtype": "m.file", "body": "menu.bin", "url": mxc, "info": {"size": len(data), "mimetype": "application/octet-stream"}}
    alice.send(room, file)
    second = world.letter(bob, "the second mail", lambda raw: "menu" in said(raw))
    headers = parsed(second)
    name = came["koine.mail"]["message_id"].strip("<>")
    assert headers["In-Reply-To"].strip("<>") == name, headers["In-Reply-To"]
    assert f"<{first[1:]}@{DOMAIN}>" in headers["References"] and f"<{name}>" in headers["References"], headers["References"]
    carrying = world.letter(bob, "the file", lambda raw: any(parsed(raw).iter_attachments()))
    attached = list(parsed(carrying).iter_attachments())
    assert [(part.get_filename(), part.get_content()) for part in attached] == [("menu.bin", data)], attached
    assert signatures_hold(carrying, records) == 2
    # Both react.
    alice.send(room, {"m.relates_to": {"rel_type": "m.annotation", "event_id": answered, "key": "👍"}}, "m.reaction")
    reaction = world.letter(bob, "the reaction", lambda raw: parsed(raw).get_content_disposition() == "reaction")
    assert parsed(reaction).get_content().strip() == "👍", reaction
    theirs = mail(bob, alice.address, "Re: Lunch", "❤️", In_Reply_To=f"<{headers['Message-ID'].strip('<>')}>")
    theirs = theirs.replace("\r\n\r\n", "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: reaction\r\n\r\n", 1)
    world.by_relay(bob, [alice.address], theirs)
    alice.sees(room, "his reaction", lambda content: content["m.relates_to"].get("key", "").startswith("❤"), "m.reaction")


def a_copy_brings_somebody_in(world):
    """An answer with another person in Cc: a room of the three, and what is said there goes to both."""
    world.postfix()
    alice, bob, dora = world.person("alice11"), f"bob@{MAILBOXES}", f"dora@{MAILBOXES}"
    alice.says(alice.room_with(bob), "Who else comes to the lake?")
    letter = world.letter(bob, "the mail", lambda raw: "the lake" in said(raw))
    world.by_relay(bob, [alice.address], answer(letter, bob, alice.address, "Dora, see above.", Cc=f"Dora <{dora}>"))
    # She knows him already, and is not asked.
    people = {alice.id, ghost(bob), ghost(dora)}
    room = until("a room of the three", lambda: next((r for r in alice.sync()["join"] if set(alice.joined(r)) == people), None))
    alice.sees(room, "the answer", lambda content: "Dora, see above." in content["body"])
    alice.says(room, "Welcome Dora")
    for address in (bob, dora):
        copy = parsed(world.letter(address, f"the mail to {address}", lambda raw: "Welcome Dora" in said(raw)))
        named = {person.addr_spec for person in copy["To"].addresses}
        assert named == {bob, dora}, named


def nobody_is_told(world):
    """Who does not exist, a domain that takes no mail, one that there is not."""
    world.postfix()
    alice = world.person("alice12")
    for address, code in [(f"nobody@{MAILBOXES}", "5.1.1"), ("x@nomail.test", "5.1.10"), ("x@nowhere.test", "5.1.2")]:
        room = alice.room_with(address)
        event = alice.says(room, "Is anybody there?")
        notice = alice.sees(room, f"a notice for {address}", lambda content: "koine.mail.status" in content)["content"]
        status = notice["koine.mail.status"]
        assert status["state"] == "failed" and code in status["code"] and status["event_id"] == event, status


def a_bounce_and_a_delay(world):
    """Mails that Postfix takes and cannot hand on: reports come back to the return address of that mail."""
    world.postfix()
    alice = world.person("alice13")
    events = {}
    for name in ("full", "late"):
        room = alice.room_with(f"{name}@{MAILBOXES}")
        events[name] = (room, alice.says(room, f"For {name}"))
    for name, state, code in [("full", "failed", "5.2.2"), ("late", "delayed", "4.2.1")]:
        room, event = events[name]
        notice = alice.sees(room, f"a notice for {name}", lambda content: "koine.mail.status" in content)
        status = notice["content"]["koine.mail.status"]
        assert status["state"] == state and code in status["code"] and status["event_id"] == event, status
        assert notice["sender"] == ghost(f"{name}@{MAILBOXES}"), notice


def automatic_answers(world):
    """What programs answer to the return address of a mail: an absence is no news, and a token is good for its mail alone."""
    world.postfix()
    alice, bob = world.person("alice15"), f"bob@{MAILBOXES}"
    room = alice.room_with(bob)
    alice.says(room, "Are you away?")
    letter = world.letter(bob, "the mail", lambda raw: "Are you away?" in said(raw))
    back = parsed(letter)["Return-Path"].strip("<>")
    assert back.startswith("bounces+"), back
    away = mail(bob, back, "Away", "I am away", Auto_Submitted="auto-replied")
    other = back.replace("bounces+a", "bounces+b")
    for sender, to, wanted in [("", back, 250), ("", other, 550), (bob, back, 550)]:
        code, text = refused(world.koine.smtp, RELAY, sender, [to], away)
        assert code == wanted, (sender, to, code, text)
    world.by_relay(bob, [alice.address], answer(letter, bob, alice.address, "Back again"))
    alice.sees(room, "the answer", lambda content: content["body"].startswith("Back again"))
    assert not any("koine.mail.status" in event["content"] for event in alice.events(room)), "an absence was taken for news"


def reading_is_told(world):
    """Where both sides ask for it, reading is told: by MDN and by receipt."""
    world.postfix()
    alice, carl = world.person("alice16"), f"carl@{MAILBOXES}"
    alice.ask("PUT", f"/user/{alice.id}/account_data/koine.mail", {"read_receipts": True})
    room = alice.room_with(carl)
    event = alice.says(room, "Tell me when you read this")
    letter = world.letter(carl, "the mail", lambda raw: "when you read this" in said(raw))
    headers = parsed(letter)
    assert headers["Disposition-Notification-To"].strip("<>") == alice.address, headers["Disposition-Notification-To"]
    name = headers["Message-ID"]
    report = "\r\n".join([
        f"From: {carl}", f"To: {alice.address}", "Subject: Read", f"Message-ID: <{time.time_ns()}@mdn.test>", f"References: {name}",
        "Content-Type: multipart/report; report-type=disposition-notification; boundary=b", "", "--b", "", "I read it", "--b",
        "Content-Type: message/disposition-notification", "", f"Final-Recipient: rfc822; {carl}", f"Original-Message-ID: {name}",
        "Disposition: manual-action/MDN-sent-manually; displayed", "", "--b--", "",
    ])  # fmt: skip
    world.by_relay("", [alice.address], report)

    def was_read():
        ephemeral = alice.sync()["join"][room]["ephemeral"]["events"]
        return any(ghost(carl) in e["content"].get(event, {}).get("m.read", {}) for e in ephemeral if e["type"] == "m.receipt")

    until("his receipt", was_read)
    # He asks the same of her.
    theirs = answer(letter, carl, alice.address, "And you?", Disposition_Notification_To=carl)
    world.by_relay(carl, [alice.address], theirs)
    alice.sees(room, "the answer", lambda content: content["body"].startswith("And you?"))
    asked = next(e for e in alice.events(room) if e["content"]["body"].startswith("And you?"))
    alice.ask("POST", f"/rooms/{room}/receipt/m.read/{urllib.parse.quote(asked['event_id'])}", {})
    is_report = lambda raw: parsed(raw).get_content_type() == "multipart/report"  # noqa: E731
    mdn = world.letter(carl, "her report", is_report).decode()
    assert asked["content"]["koine.mail"]["message_id"].strip("<>") in mdn and "displayed" in mdn, mdn


def certificates_in_dns(world):
    """Where DNS names the certificate of a server, signed, it gets mails if it has that one, and else they wait. [RFC 7672]"""
    world.postfix()
    alice = world.person("alice18")
    for domain in (NAMED, MISNAMED, UNNAMED):
        alice.says(alice.room_with(f"bob@{domain}"), f"To {domain}")
    letter = world.letter(f"bob@{NAMED}", "the mail", lambda raw: f"To {NAMED}" in said(raw))
    assert "with ESMTPS" in str(parsed(letter).get_all("Received")), "it came without TLS"
    for domain, reason in [(MISNAMED, "certificate"), (UNNAMED, "cannot be looked up")]:
        waiting = lambda: [  # noqa: E731
            lane for lane in world.koine.admin("mail", "queue")["destinations"] if lane["name"] == domain and lane["reason"]  # noqa: B023
        ]
        lane = until(f"the reason why {domain} waits", waiting)[0]
        assert reason in lane["reason"] and lane["waiting"] == 1, lane
        assert not world.relay.inbox(f"bob@{domain}"), "it was sent all the same"
    told = " ".join(world.koine.admin("mail", "test", f"bob@{NAMED}")["steps"])
    assert "DANE" in told, told
    # Once DNS names the right one, it goes out.
    world.dns.zone[f"_25._tcp.mail.{MISNAMED}", "TLSA"] = world.dns.zone[f"_25._tcp.mail.{NAMED}", "TLSA"]
    world.koine.admin("mail", "retry", MISNAMED)
    world.letter(f"bob@{MISNAMED}", "the mail that waited", lambda raw: f"To {MISNAMED}" in said(raw))


def two_gateways(world):
    """Two Koine servers that know each other by mail alone: people, and rooms with addresses that are members of each other."""
    world.postfix()
    here, there = world.person("alice17"), Person(world.behind, "ann17")
    room = here.room_with(there.address)
    here.says(room, "From one gateway")
    across = there.accept(ghost(here.address, BEHIND_SMARTHOST))
    there.sees(across, "the mail", lambda content: "From one gateway" in content["body"])
    there.says(across, "To the other")
    here.sees(room, "the answer", lambda content: content["body"].startswith("To the other"))
    # A room of each is a member of the other's.
    rooms = {}
    for person, name, domain in [(here, "loopa", DOMAIN), (there, "loopb", BEHIND_SMARTHOST)]:
        body = {"preset": "public_chat", "room_alias_name": name, "name": name}
        body["initial_state"] = [{"type": "koine.mail.room", "content": {"allow": "anyone"}}]
        rooms[domain] = (person, person.ask("POST", "/createRoom", body)["room_id"])
    for domain, other in [(DOMAIN, f"loopb@rooms.{BEHIND_SMARTHOST}"), (BEHIND_SMARTHOST, f"loopa@rooms.{DOMAIN}")]:
        person, room = rooms[domain]
        person.ask("POST", f"/rooms/{room}/invite", {"user_id": ghost(other, domain)})
        until("the other room", lambda: ghost(other, domain) in person.joined(room))  # noqa: B023 - it is asked at once
    person, room = rooms[DOMAIN]
    other, room_there = rooms[BEHIND_SMARTHOST]
    for n in range(2):
        person.says(room, f"Ping {n}")
        other.sees(room_there, f"ping {n}", lambda content: f"Ping {n}" in content["body"])  # noqa: B023
    # Whatever would come back, comes before what is said after it.
    other.says(room_there, "Pong")
    person.sees(room, "pong", lambda content: "Pong" in content["body"])
    for who, where in rooms.values():
        bodies = [event["content"]["body"] for event in who.events(where)]
        for words in ("Ping 0", "Ping 1", "Pong"):
            assert sum(words in body for body in bodies) == 1, bodies


def by_smarthost(world):
    """A server that hands everything to Postfix, to a domain of which DNS knows nothing, and its answers."""
    world.postfix()
    alice, carl = Person(world.behind, "alice14"), f"carl@{UNKNOWN_TO_DNS}"
    room = alice.room_with(carl)
    event = alice.says(room, "Around the corner")
    letter = world.letter(carl, "the mail", lambda raw: "Around the corner" in said(raw))
    assert "with ESMTPS" in str(parsed(letter).get_all("Received")), "it came without TLS"
    assert signatures_hold(letter, dict(world.behind.admin("mail", "records")["records"])) == 2
    world.by_relay(carl, [alice.address], answer(letter, carl, alice.address, "And back"))
    came = alice.sees(room, "the answer", lambda content: content["body"].startswith("And back"))["content"]
    assert came["m.relates_to"]["m.in_reply_to"]["event_id"] == event, came


def xmpp_client(world):
    """Somebody in an XMPP client writes to a mailbox, is answered, and is told what cannot be delivered."""
    world.postfix()
    xenia, carl = world.person("xenia"), f"carl@{MAILBOXES}"
    asyncio.run(by_xmpp(world, xenia, carl))


async def by_xmpp(world, xenia, carl):
    client = Xmpp(f"{xenia.address}/desk", world.koine.xmpp, None, password=PASSWORD)
    await client.log_in()
    await client.be_here()
    jid = carl.replace("@", "\\40") + f"@mail.{DOMAIN}"
    wait = asyncio.to_thread
    sent = await client.sends(jid, "By XMPP?")
    letter = await wait(world.letter, carl, "the mail", lambda raw: "By XMPP?" in said(raw))
    assert parsed(letter)["From"].addresses[0].addr_spec == xenia.address, letter
    await wait(world.by_relay, carl, [xenia.address], answer(letter, carl, xenia.address, "By mail.", picture=PICTURE))
    message = await client.hears("the answer", lambda stanza: "By mail." in (heard(stanza) or ""))
    assert message.get("from").split("/")[0] == jid, message.get("from")
    answered = message.find("{urn:xmpp:reply:0}reply")
    assert answered is not None and answered.get("id") == sent, (sent, message)
    picture = await client.hears("the picture", lambda stanza: stanza.find("{jabber:x:oob}x/{jabber:x:oob}url") is not None)
    url = picture.findtext("{jabber:x:oob}x/{jabber:x:oob}url")
    path = urllib.parse.urlsplit(url).path
    assert await wait(world.koine.ask, "GET", path) == PICTURE, url
    # What cannot be delivered is an error for that message.
    nobody = f"nobody2\\40{MAILBOXES}@mail.{DOMAIN}"
    sent = await client.sends(nobody, "Hello?")
    error = await client.hears("an error", lambda stanza: stanza.get("type") == "error")
    assert error.get("id") == sent and error.get("from").split("/")[0] == nobody, error.attrib
    condition = error.find(f"{CLIENT}error/{{urn:ietf:params:xml:ns:xmpp-stanzas}}item-not-found")
    assert condition is not None, error
    await client.leave()


# What happens to the server.


def killed(world):
    """Killed while mails come in: what was taken is there, and what comes again is there once."""
    alice, bob = world.person("alice30"), "bob30@good.test"
    send(world.koine.smtp, GOOD, bob, [alice.address], mail(bob, alice.address, "Count", "begin"))
    room = alice.accept(ghost(bob))
    letters = {f"mail {n}.": mail(bob, alice.address, "Count", f"mail {n}.", Message_ID=f"<count{n}@good.test>") for n in range(60)}
    waiting, taken = list(letters), []
    for _ in range(3):
        end = threading.Timer(1.0, world.koine.kill)
        end.start()
        try:
            while waiting:
                send(world.koine.smtp, GOOD, bob, [alice.address], letters[waiting[0]])
                taken.append(waiting.pop(0))
                # So that there is something left to be killed for.
                if len(taken) % 20 == 0:
                    end.join()
        except (OSError, smtplib.SMTPException):
            pass
        end.join()
        world.koine.start()
        bodies = [event["content"]["body"] for event in alice.said(room)]
        for text in taken:
            assert sum(text in body for body in bodies) == 1, f"{text} was taken, and is there {sum(text in body for body in bodies)} times"
    for text in waiting:
        send(world.koine.smtp, GOOD, bob, [alice.address], letters[text])
    bodies = [event["content"]["body"] for event in alice.said(room)]
    for text in letters:
        assert sum(text in body for body in bodies) == 1, f"{text} is there {sum(text in body for body in bodies)} times"


def full_disk(world):
    """A disk that is full in the midst of a mail: 452 or 451, nothing left behind, and room again is room again."""
    place = world.folder / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        raise NotHere(f"it needs the right to mount: {mounted.stderr.strip()}")
    try:
        koine = Koine(world.koine.program, place / "koine", "disk.test", f"127.0.0.1:{world.dns.port}", world.certificate[0], "")
        try:
            full_disk_on(koine, place / "ballast")
        finally:
            koine.close()
    finally:
        shutil.copy(place / "koine" / "koine.log", world.logs / "full-disk.log")
        subprocess.run(["umount", "--lazy", str(place)], check=False)


def full_disk_on(koine, ballast):
    alice, bob = Person(koine, "alice31"), "bob31@good.test"
    send(koine.smtp, GOOD, bob, [alice.address], mail(bob, alice.address, "Before", "before"))
    room = alice.accept(ghost(bob, koine.domain))
    with open(ballast, "wb") as file:
        try:
            while True:
                file.write(b"\0" * 1_048_576)
                file.flush()
        except OSError:
            pass
    large = "\r\n".join(["x" * 70] * 40_000)
    letter = mail(bob, alice.address, "Large", f"during\r\n{large}", Message_ID="<large31@good.test>")
    code, text = refused(koine.smtp, GOOD, bob, [alice.address], letter)
    assert 400 <= code < 500, (code, text)
    assert koine.process.poll() is None, "koine ended"
    ballast.unlink()
    assert not any("during" in event["content"]["body"] for event in alice.said(room)), "what was put off is there"
    until("room on the disk", lambda: refused(koine.smtp, GOOD, bob, [alice.address], letter)[0] == 250)
    assert sum("during" in event["content"]["body"] for event in alice.said(room)) == 1


STEPS = [
    verified_sender, forged_sender, doubtful_sender, dns_that_does_not_answer, answers_and_threads, corpus, swaks, smuggling,
    many_recipients, mails_that_are_bombs, forged_bounces, garbage, a_mail_without_end, odd_mails, from_postfix_by_smtp,
    from_postfix_by_lmtp, from_dovecot_by_lmtp, conversation, a_copy_brings_somebody_in, nobody_is_told, a_bounce_and_a_delay, automatic_answers,
    reading_is_told, certificates_in_dns, two_gateways, by_smarthost, xmpp_client, killed, full_disk,
]  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--koine", required=True)
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("steps", nargs="*")
    args = parser.parse_args()
    world = World(args.koine, args.folder)
    wrong = 0
    try:
        for step in STEPS:
            name = step.__name__
            if args.steps and not any(name.startswith(wanted) for wanted in args.steps):
                continue
            begun = time.monotonic()
            try:
                step(world)
                print(f"well {name} ({time.monotonic() - begun:.1f} s)", flush=True)
            except NotHere as why:
                print(f"notrun {name}: {why}", flush=True)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong in a step is what there is to say
                wrong += 1
                print(f"WRONG {name}: {type(error).__name__}: {error}".replace("\n", " "), flush=True)
                traceback.print_exc()
    finally:
        world.close()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
