"""Koine servers that a fault happens to: begun, killed and begun again on the same folder; their people; their connections."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "walks", "slixmpp"))

from people import Matrix, Wrong, quote  # noqa: E402

READY_WITHIN_S = 60
ENDS_WITHIN_S = 20
# `koine local` takes its ports one after another from the base.
PORTS = 11
TLS, STARTTLS = 1, 3
V3 = "/_matrix/client/v3"


class Skipped(Exception):
    """This machine does not let us try."""


class Koine:
    """One server and its folder, which outlives the process."""

    def __init__(self, program, folder, name=None, more=(), environment=None):
        self.program, self.folder, self.name = program, folder, name
        self.port = free_ports()
        self.url = f"http://127.0.0.1:{self.port}"
        self.more, self.environment = list(more), {**os.environ, **(environment or {})}
        self.process = None
        os.makedirs(folder, exist_ok=True)
        self.log = os.path.join(folder, "server.log")

    @property
    def starttls_port(self):
        return self.port + STARTTLS

    @property
    def tls_port(self):
        return self.port + TLS

    async def begin(self):
        """Starts it; how many seconds went by until it answered."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=self.environment)
        began = time.monotonic()
        while time.monotonic() < began + READY_WITHIN_S:
            if self.process.poll() is not None:
                raise Wrong(f"koine ended before it was ready ({self.process.returncode}): {self.last_words()}")
            if await self.answers():
                return time.monotonic() - began
            await asyncio.sleep(0.01)
        raise Wrong(f"koine is not ready after {READY_WITHIN_S} s: {self.last_words()}")

    def command(self):
        name = ["--server-name", self.name] if self.name else []
        where = ["--port-base", str(self.port), "--data-dir", self.data]
        return [self.program, "local", "--no-demo", *where, *name, *self.more]

    @property
    def data(self):
        return os.path.join(self.folder, "data")

    def person(self, session):
        return Person(self.url, session)

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answers(self):
        try:
            reader, writer = await self.connect()
            writer.write(b"GET /_matrix/client/versions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status = await asyncio.wait_for(reader.readline(), 5)
            writer.close()
            return b" 200" in status
        except (OSError, asyncio.TimeoutError):
            return False

    @property
    def runs(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self):
        if not self.runs:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    async def leave(self):
        """Ends, while this process goes on: others may be reached through it alone, and they take leave of each other."""
        if self.runs:
            self.process.terminate()
            await self.ends_by_itself(ENDS_WITHIN_S)
        self.end()

    async def ends_by_itself(self, within_s):
        deadline = time.monotonic() + within_s
        while self.runs and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        return not self.runs

    def last_words(self):
        with open(self.log, "rb") as log:
            return log.read()[-1500:].decode(errors="replace")

    def resident_mb(self, which="VmRSS"):
        """`VmHWM` is the most that it ever was."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith(which))


class Operated(Koine):
    """One with a configuration, so with the limits that an operator's server has; only accounts and sessions are easier to come by."""

    # Where it listens, whom else it knows.
    more_settings = """\
[[listeners]]
address = "127.0.0.1:{port}"

[[listeners]]
address = "127.0.0.1:{starttls_port}"
serves = "xmpp-client"
"""

    def command(self):
        path = os.path.join(self.folder, "koine.toml")
        with open(path, "w", encoding="utf-8") as out:
            out.write(OPERATED.format(name=self.name, data=self.data) + self.settings())
        return [self.program, "serve", "--config", path]

    def settings(self):
        return self.more_settings.format(port=self.port, starttls_port=self.starttls_port)


OPERATED = """\
server_name = "{name}"
data_dir = "{data}"

[accounts]
registration = "open"

[accounts.limits.registration]
burst = 100000
per_second = 100000.0

[accounts.limits.login]
burst = 100000
per_second = 100000.0

[accounts.passwords]
argon2_memory_kib = 1024
argon2_passes = 1

[metrics]
enabled = false

[xmpp]
plain_on_loopback = true

"""


def free_ports():
    """The first of eleven neighbours that nobody listens on."""

    def is_free(port):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
            return True

    # Below the range that outgoing connections use; somewhere else each time, since others look for ports, too.
    start = 11_000 + random.randrange(1_500) * PORTS
    return next(base for base in range(start, 31_000, PORTS) if all(map(is_free, range(base, base + PORTS))))


class Authority:
    """Signs the certificates of servers that are to believe each other."""

    def __init__(self, folder):
        self.folder = folder
        self.key, self.file = self.path("authority.key"), self.path("authority.pem")
        self.openssl("req", "-x509", *self.new_key(self.key), "-out", self.file, "-days", "2", "-subj", "/CN=authority of faults")

    def path(self, name):
        return os.path.join(self.folder, name)

    @staticmethod
    def new_key(path):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path]

    def openssl(self, *words):
        done = subprocess.run(["openssl", *words], capture_output=True, text=True)
        if done.returncode:
            raise Skipped(f"openssl makes no certificate: {done.stderr.strip()[-200:]}")

    def certify(self, name):
        """Files with a certificate for this name, and its key."""
        key, request, extra, certificate = (self.path(f"{name}.{kind}") for kind in ("key", "csr", "ext", "pem"))
        self.openssl("req", "-new", *self.new_key(key), "-out", request, "-subj", f"/CN={name}")
        with open(extra, "w", encoding="ascii") as out:
            out.write(f"subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n")
        signer = ["-CA", self.file, "-CAkey", self.key, "-CAcreateserial", "-days", "2", "-extfile", extra]
        self.openssl("x509", "-req", "-in", request, *signer, "-out", certificate)
        return certificate, key


class Wire:
    """A way between two servers that can be slow, cut, or swallow everything. It listens on a port of its own."""

    def __init__(self, port):
        self.target, self.delay_s, self.mode = port, 0.0, "open"
        self.writers, self.server = set(), None
        # When something came back from the other end for the first time since the wire was mended.
        self.alive_again = None

    async def begin(self):
        self.server = await asyncio.start_server(self.carry, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    def cut(self):
        """All connections are gone, and new ones are refused at once."""
        self.mode = "cut"
        for writer in list(self.writers):
            writer.transport.abort()

    def swallow(self):
        """Connections stay and are taken, and nothing comes through any more."""
        self.mode = "swallowing"

    def mend(self):
        self.mode, self.alive_again = "open", None
        # What was swallowed cannot be delivered late: TCP would have done that itself or given up.
        for writer in list(self.writers):
            writer.transport.abort()

    async def end(self):
        """All that it carried is over, and known to be."""
        self.cut()
        self.server.close()
        while self.writers:
            await asyncio.sleep(0.01)

    async def carry(self, reader, writer):
        if self.mode == "cut":
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self.writers |= ends
        try:
            await asyncio.gather(self.pump(reader, far_writer, False), self.pump(far_reader, writer, True))
        finally:
            self.writers -= ends
            for end in ends:
                end.close()

    async def pump(self, reader, writer, is_answer):
        try:
            while data := await reader.read(65536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if self.mode != "open":
                    continue
                if is_answer and self.alive_again is None:
                    self.alive_again = time.monotonic()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


class Person(Matrix):
    """Somebody whose server may die at any moment: what was acknowledged is noted."""

    async def tries(self, method, path, body=None):
        """The answer, or None when there was none or it was a refusal."""
        try:
            return await self.call(method, path, body)
        except (Wrong, OSError, asyncio.TimeoutError, ValueError, ConnectionError):
            return None
        except Exception as error:  # aiohttp has a family of its own for what became of a connection.
            if type(error).__module__.startswith("aiohttp"):
                return None
            raise

    async def put(self, room, txn, body):
        """Says something under this transaction id; the event's id, if it was acknowledged."""
        path = self.room(room, "send", "m.room.message", txn)
        seen = await self.tries("PUT", path, {"msgtype": "m.text", "body": body})
        return seen and seen["event_id"]

    async def everything_said(self, room):
        """Every text of a room's messages, as often as it stands there."""
        return [text for _, text in await self.said_since(room, None) if text is not None]

    async def said_since(self, room, known):
        """Ids of all events of a room after that one, newest first, each with its text if it is a message."""
        said, after = [], ""
        while True:
            page = await self.call("GET", self.room(room, "messages") + f"?dir=b&limit=500{after}")
            for event in page["chunk"]:
                if event["event_id"] == known:
                    return said
                said.append((event["event_id"], event["content"].get("body") if event["type"] == "m.room.message" else None))
            if not page["chunk"] or "end" not in page:
                return said
            after = f"&from={quote(page['end'])}"


class Growing:
    """Something of which there is ever more: what is new is looked at, and remembered only as what must not come again."""

    def __init__(self, what):
        self.what, self.acknowledged, self.seen = what, [], set()

    def acknowledge(self, one):
        self.acknowledged.append(one)

    def check(self, new):
        """Everything acknowledged since the last time is new, once, and nothing is that was there before."""
        exactly_once(self.what, self.acknowledged, new)
        if again := self.seen.intersection(new):
            raise Wrong(f"{self.what}: {len(again)} are there once more, such as {sorted(again)[:3]}")
        self.seen.update(new)
        self.acknowledged.clear()


def exactly_once(what, acknowledged, seen):
    """What is wrong: of what was acknowledged each has to be there once, and nothing twice."""
    counts = {}
    for text in seen:
        counts[text] = counts.get(text, 0) + 1
    lost = [text for text in acknowledged if text not in counts]
    doubled = [text for text, count in counts.items() if count > 1]
    if lost:
        raise Wrong(f"{what}: {len(lost)} of {len(acknowledged)} acknowledged are lost, such as {lost[:3]}")
    if doubled:
        raise Wrong(f"{what}: {len(doubled)} are there more than once, such as {doubled[:3]}")


async def until(what, within_s, check):
    """Waits until `check` returns something true, and returns that."""
    deadline = time.monotonic() + within_s
    while True:
        found = await check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Wrong(f"expected {what} within {within_s} s")
        await asyncio.sleep(0.1)


def temporary_folder():
    return tempfile.TemporaryDirectory(prefix="koine-faults-")
