"""A walk with mail: Koine behind the open net and behind Postfix, senders with smtplib and swaks, people in a Matrix client.

usage: walk.py --koine PROGRAM --folder FOLDER [STEP...]

Prints a line for each step: `well NAME`, `WRONG NAME: why`, or `notrun NAME: why`.
"""

import argparse
import json
import os
import pathlib
import shutil
import smtplib
import socket
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from dns import Dns  # noqa: E402

DOMAIN = "koine.test"
HERE = pathlib.Path(__file__).parent
# Who sends from where: the domain of the first stands by it, that of the second does not, the third is Postfix.
GOOD, BAD, RELAY = "127.0.0.2", "127.0.0.3", "127.0.0.4"
ZONE = {
    ("good.test", "TXT"): [f"v=spf1 ip4:{GOOD} -all"],
    ("_dmarc.good.test", "TXT"): ["v=DMARC1; p=reject"],
    ("lax.test", "TXT"): ["v=spf1 ~all"],
    ("_dmarc.lax.test", "TXT"): ["v=DMARC1; p=none"],
    ("slow.test", "TXT"): "servfail",
    ("_dmarc.slow.test", "TXT"): "servfail",
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, ask, patience=30):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = ask()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come within {patience} s")


class Koine:
    def __init__(self, program, folder, dns):
        self.http, self.smtp, self.lmtp = free_port(), free_port(), free_port()
        folder.mkdir(parents=True)
        config = folder / "koine.toml"
        config.write_text(f"""
server_name = "{DOMAIN}"
data_dir = "data"

[accounts]
registration = "open"

[federation.network]
allow_ranges = ["127.0.0.0/8"]

[metrics]
enabled = false

[mail]
enabled = true
resolver = "127.0.0.1:{dns.port}"

[mail.incoming]
trusted_networks = ["{RELAY}/32"]

[[listeners]]
address = "127.0.0.1:{self.http}"

[[listeners]]
address = "127.0.0.1:{self.smtp}"
serves = "smtp"

[[listeners]]
address = "127.0.0.1:{self.lmtp}"
serves = "lmtp"
""")
        self.log = open(folder / "koine.log", "w")
        self.process = subprocess.Popen([program, "serve", "--config", str(config)], stdout=self.log, stderr=self.log)
        until("the server", self.answers)

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"koine ended: {self.process.returncode}")
        try:
            return self.ask("GET", "/_matrix/client/versions")
        except OSError:
            return None

    def ask(self, method, path, body=None, token=None):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def close(self):
        self.process.terminate()
        self.process.wait(20)


class Person:
    """An account, as a Matrix client has it."""

    def __init__(self, koine, name):
        self.koine = koine
        body = {"username": name, "password": "a long enough one", "auth": {"type": "m.login.dummy"}}
        session = koine.ask("POST", "/_matrix/client/v3/register", body)
        self.id, self.token = session["user_id"], session["access_token"]
        self.address = f"{name}@{DOMAIN}"

    def ask(self, method, path, body=None):
        return self.koine.ask(method, f"/_matrix/client/v3{path}", body, self.token)

    def sync(self):
        return self.ask("GET", "/sync?timeout=0")["rooms"]

    def invited_by(self, ghost):
        for room, what in self.sync().get("invite", {}).items():
            if any(event["sender"] == ghost for event in what["invite_state"]["events"]):
                return room
        return None

    def accept(self, ghost):
        room = until(f"an invitation by {ghost}", lambda: self.invited_by(ghost))
        self.ask("POST", f"/join/{room}", {})
        return room

    def said(self, room):
        events = self.ask("GET", f"/rooms/{room}/messages?dir=b&limit=100")["chunk"]
        return [event for event in reversed(events) if event["type"] == "m.room.message"]


def ghost(address):
    coded = "".join(c if c.isascii() and (c.islower() or c.isdigit() or c in ".-") else f"={ord(c):02x}" for c in address)
    return f"@_mail_{coded}:{DOMAIN}"


def mail(author, to, subject, body, **more):
    head = {"From": author, "To": to, "Subject": subject, "Message-ID": f"<{time.time_ns()}@sender.test>"}
    head.update({key.replace("_", "-"): value for key, value in more.items()})
    return "".join(f"{key}: {value}\r\n" for key, value in head.items()) + "\r\n" + body + "\r\n"


def send(port, source, author, to, text, kind=smtplib.SMTP):
    with kind("127.0.0.1", port, source_address=(source, 0), local_hostname="sender.test", timeout=60) as client:
        if kind is smtplib.SMTP:
            client.ehlo()
            # The certificate is of the server's own making.
            import ssl

            context = ssl._create_unverified_context()
            client.starttls(context=context)
        client.sendmail(author, to, text.encode("utf-8"))


def refused(port, source, author, to, text):
    try:
        send(port, source, author, to, text)
    except smtplib.SMTPResponseException as error:
        return error.smtp_code, error.smtp_error.decode()
    except smtplib.SMTPRecipientsRefused as error:
        code, text = next(iter(error.recipients.values()))
        return code, text.decode()
    return 250, ""


# Steps. Each gets the world and says what is wrong by an assertion.


def verified_sender(world):
    alice, bob = world.person("alice1"), "bob@good.test"
    send(world.koine.smtp, GOOD, bob, [alice.address], mail(bob, alice.address, "Lunch", "At noon?"))
    room = alice.accept(ghost(bob))
    said = alice.said(room)[0]["content"]
    assert said["body"] == "Lunch\n\nAt noon?", said
    verdict = said["koine.mail"]["verdict"]
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
    said = alice.said(alice.accept(ghost(eve)))[0]["content"]
    assert "not certain" in said["body"] and said["koine.mail"]["verdict"]["dmarc"] == "fail", said


def dns_that_does_not_answer(world):
    alice, sam = world.person("alice4"), "sam@slow.test"
    code, text = refused(world.koine.smtp, GOOD, sam, [alice.address], mail(sam, alice.address, "x", "x"))
    assert code == 451 and "4.7.24" in text, (code, text)


def answers_and_threads(world):
    alice, bob = world.person("alice5"), "bob5@good.test"
    first = mail(bob, alice.address, "Plan", "One", Message_ID="<one5@good.test>")
    send(world.koine.smtp, GOOD, bob, [alice.address], first)
    room = alice.accept(ghost(bob))
    event = alice.ask("PUT", f"/rooms/{room}/send/m.room.message/t1", {"msgtype": "m.text", "body": "Two"})["event_id"]
    ours = f"<{event[1:]}@{DOMAIN}>"
    send(world.koine.smtp, GOOD, bob, [alice.address], mail(bob, alice.address, "Re: Plan", "Three", In_Reply_To=ours))
    said = alice.said(room)
    assert [event["content"]["body"] for event in said] == ["Plan\n\nOne", "Two", "Three"], said
    assert said[2]["content"]["m.relates_to"]["m.in_reply_to"]["event_id"] == event, said[2]


def corpus(world):
    alice = world.person("alice6")
    for file in sorted((HERE / "corpus").glob("*.eml")):
        text = file.read_text("utf-8", "replace").replace("{domain}", DOMAIN)
        author = "someone@good.test"
        # By LMTP: what stands in front has looked at the senders.
        send(world.koine.lmtp, RELAY, author, [alice.address], text.replace("\n", "\r\n"), smtplib.LMTP)
    until("the invitations", lambda: len(alice.sync().get("invite", {})) >= len(list((HERE / "corpus").glob("*.eml"))))


def swaks(world):
    if not shutil.which("swaks"):
        return "swaks is not installed"
    alice, bob = world.person("alice7"), "bob7@good.test"
    command = ["swaks", "--server", "127.0.0.1", "--port", str(world.koine.smtp), "--local-interface", GOOD, "--from", bob]
    command += ["--to", alice.address, "--helo", "sender.test", "--tls", "--pipeline", "--body", "By swaks", "--h-From", bob]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "By swaks" in alice.said(alice.accept(ghost(bob)))[0]["content"]["body"]


class Postfix:
    """Postfix with its own folders, that hands what it gets to Koine: by SMTP for one domain, by LMTP for the other."""

    def __init__(self, folder, koine):
        self.port = free_port()
        self.config = folder / "postfix"
        for name in ["", "spool", "data"]:
            (self.config / name).mkdir()
        shutil.chown(self.config / "data", "postfix")
        (self.config / "main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {self.config}/spool
data_directory = {self.config}/data
multi_instance_name = postfix-koine
myhostname = relay.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_bind_address = {RELAY}
smtp_tls_security_level = may
smtp_host_lookup = native
disable_dns_lookups = yes
relay_domains = {DOMAIN}, lmtp.{DOMAIN}
relay_recipient_maps =
transport_maps = inline:{{ {DOMAIN}=smtp:[127.0.0.1]:{koine.smtp}, lmtp.{DOMAIN}=lmtp:inet:127.0.0.1:{koine.lmtp} }}
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
minimal_backoff_time = 5s
queue_run_delay = 5s
alias_maps =
local_recipient_maps =
""")
        (self.config / "master.cf").write_text(f"""
127.0.0.1:{self.port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
""")
        self.run("start")

    def run(self, what):
        done = subprocess.run(["postfix", "-c", str(self.config), what], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def postfix(world):
    if os.geteuid() != 0 or not shutil.which("postfix"):
        return "Postfix needs root, and to be installed"
    # Postfix wants to read its folders as its own user.
    for folder in [world.folder, *world.folder.parents]:
        if not folder.stat().st_mode & 0o001:
            return f"Postfix cannot enter {folder}"
    alice, bob = world.person("alice8"), "bob8@good.test"
    relay = Postfix(world.folder, world.koine)
    try:
        for via, to in [("SMTP", alice.address)]:
            with smtplib.SMTP("127.0.0.1", relay.port, local_hostname="sender.test", timeout=60) as client:
                client.sendmail(bob, [to], mail(bob, alice.address, f"By {via}", "Through Postfix").encode())
        room = alice.accept(ghost(bob))
        until("the mail", lambda: any("Through Postfix" in event["content"]["body"] for event in alice.said(room)))
        verdict = alice.said(room)[0]["content"]["koine.mail"]["verdict"]
        assert verdict["trusted"], verdict
    finally:
        relay.run("stop")
    return None


STEPS = [verified_sender, forged_sender, doubtful_sender, dns_that_does_not_answer, answers_and_threads, corpus, swaks, postfix]


class World:
    def __init__(self, program, folder):
        self.folder = folder
        self.dns = Dns(ZONE)
        self.koine = Koine(program, folder / "koine", self.dns)

    def person(self, name):
        return Person(self.koine, name)

    def close(self):
        self.koine.close()
        self.dns.close()


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
            if args.steps and not any(step.__name__.startswith(name) for name in args.steps):
                continue
            try:
                skipped = step(world)
                print(f"notrun {step.__name__}: {skipped}" if skipped else f"well {step.__name__}", flush=True)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong in a step is what there is to say
                wrong += 1
                print(f"WRONG {step.__name__}: {type(error).__name__}: {error}", flush=True)
    finally:
        world.close()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
