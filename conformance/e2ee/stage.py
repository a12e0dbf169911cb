"""Where the demonstration happens: two servers with a wire between them that is read along, and devices of real clients."""

import asyncio
import itertools
import json
import os
import ssl
import sys
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "faults"))

from koines import Authority, Koine, Wrong  # noqa: E402
from people import PASSWORD  # noqa: E402

# How long something that another device did may take until it is seen; a busy machine has its own ideas of soon.
SEEN_WITHIN_MS = 60_000
# How long is waited to be sure that a device does not get to read something.
UNREAD_WITHIN_MS = 3_000


class Ear:
    """The wire to a server: ends the TLS of who calls, writes down what is said, and passes it on with TLS of its own."""

    def __init__(self, name, certificate, key, written):
        self.name, self.certificate, self.key, self.written = name, certificate, key, written
        self.target, self.server = None, None
        # That the server is who it says is not this one's concern.
        self.far = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.far.check_hostname, self.far.verify_mode = False, ssl.CERT_NONE

    async def begin(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        self.server = await asyncio.start_server(self.carry, "127.0.0.1", 0, ssl=context)
        self.port = self.server.sockets[0].getsockname()[1]

    async def carry(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target, ssl=self.far, server_hostname=self.name)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(self.pump(reader, far_writer), self.pump(far_reader, writer))

    async def pump(self, reader, writer):
        try:
            while data := await reader.read(65536):
                self.written.append(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


class Robot:
    """A process in which devices live."""

    def __init__(self, process):
        self.process, self.numbers, self.waiting = process, itertools.count(), {}
        self.reading = asyncio.ensure_future(self.read())

    @classmethod
    async def begin(cls, *command):
        pipe = asyncio.subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 24))

    async def read(self):
        while line := await self.process.stdout.readline():
            seen = json.loads(line)
            self.waiting.pop(seen["id"]).set_result(seen)
        for waiting in self.waiting.values():
            waiting.set_exception(Wrong("the devices' process ended"))

    async def do(self, what, **more):
        number, answer = next(self.numbers), asyncio.get_running_loop().create_future()
        self.waiting[number] = answer
        self.process.stdin.write((json.dumps({"id": number, "do": what, **more}) + "\n").encode())
        await self.process.stdin.drain()
        seen = await answer
        if "error" in seen:
            raise Wrong(f"{what} {more.get('device', '')}: {seen['error']}")
        return seen

    async def end(self):
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 10)
        except asyncio.TimeoutError:
            self.process.kill()


class Device:
    """One device of somebody, at one of the servers."""

    def __init__(self, robot, koine, name, user):
        self.robot, self.koine, self.name, self.user = robot, koine, name, user
        self.user_id = self.device_id = self.token = None

    def __str__(self):
        return self.name

    async def do(self, what, **more):
        more.setdefault("within_ms", SEEN_WITHIN_MS)
        return await self.robot.do(what, device=self.name, **more)

    async def begin(self, make=False, recovery_key=None):
        account = {"base": self.koine.url, "user": self.user, "password": PASSWORD}
        seen = await self.do("begin", **account, make=make, recovery_key=recovery_key)
        self.user_id, self.device_id, self.token = seen["user_id"], seen["device_id"], seen["access_token"]
        return self

    async def say(self, room, body):
        """Says something: the event's id and the id of the session it is encrypted with."""
        seen = await self.do("say", room=room, body=body)
        return seen["event_id"], seen["session_id"]

    async def reads(self, room, event, body):
        seen = await self.do("read", room=room, event=event)
        if seen.get("body") != body:
            raise Wrong(f"{self} was to read {body!r}, but: {seen.get('failure', seen.get('body'))}")

    async def cannot_read(self, room, event):
        """The reason."""
        seen = await self.do("read", room=room, event=event, within_ms=UNREAD_WITHIN_MS)
        if "body" in seen:
            raise Wrong(f"{self} was not to read {event}, but reads {seen['body']!r}")
        return seen["failure"]

    async def cannot_decrypt(self, event):
        """The reason, though it is handed all bytes of the event."""
        seen = await self.do("decrypt", event=event)
        if "body" in seen:
            raise Wrong(f"{self} was not to decrypt {event['event_id']}, but reads {seen['body']!r}")
        return seen["failure"]


class Stage:
    """Two servers, hs1 and hs2, each reached by the other through an ear."""

    def __init__(self, program, folder):
        self.folder = folder
        authority = Authority(folder)
        # What was said between the servers, in the clear as far as they said it in the clear.
        self.wire = []
        names = ("hs1", "hs2")
        pairs = [authority.certify(name) for name in names]
        self.koines = [Koine(program, os.path.join(folder, name), name) for name in names]
        self.ears = [Ear(name, *pair, self.wire) for name, pair in zip(names, pairs)]
        for koine, ear, (certificate, key) in zip(self.koines, self.ears, pairs):
            ear.target = koine.tls_port
            koine.more = ["--tls-cert", certificate, "--tls-key", key, "--federation-ca", authority.file]

    async def begin(self):
        for ear in self.ears:
            await ear.begin()
        for koine, other in zip(self.koines, self.ears[::-1]):
            koine.more += ["--server-at", f"{other.name}=127.0.0.1:{other.port}"]
            await koine.begin()

    def end(self):
        for koine in self.koines:
            koine.end()
        for ear in self.ears:
            if ear.server:
                ear.server.close()

    def found(self, texts):
        """Which of these stand somewhere in what the servers keep or said to each other."""
        places = [b"".join(self.wire)]
        for koine in self.koines:
            for folder, _, files in os.walk(koine.folder):
                paths = (os.path.join(folder, file) for file in files)
                places += [Path(path).read_bytes() for path in paths if os.path.isfile(path)]
        return [text for text in texts if any(text in place for place in places)]
