"""Sends messages as fast as a server takes them, or at a rate of its own, whatever the server makes of that.

A program, so that it takes its time from another core than the test that measures others meanwhile. What to do comes as JSON on
standard input, what became of it goes as JSON to standard output. It parses next to nothing: requests are written one after the other
(HTTP/1.1 answers them in order), and of answers only the status is read.
"""

import asyncio
import collections
import json
import os
import re
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "walks", "slixmpp"))

from stream import ACK, Stream  # noqa: E402

TICK_S = 0.02
# What a connection holds of what the other end does not take; whatever would come on top of that is held back and counted.
WRITES_BYTES_MAX = 16_384
# Of XMPP: the server is asked after so many stanzas how many it has.
ASK_EVERY = 10
STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d)")
ERROR = re.compile(rb"<message [^>]*type=['\"]error['\"]")
LONGEST_TOKEN = 200
# More than there is time for.
MANY = 1 << 40


class Sender(asyncio.Protocol):
    """One connection."""

    def __init__(self, name, window):
        self.name, self.window = name, window
        self.number, self.offered, self.held_back, self.full = 0, 0, 0, False
        self.sent_at, self.waits, self.counts = collections.deque(), [], collections.Counter()
        self.left, self.ended = b"", False

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(high=WRITES_BYTES_MAX)
        # The kernel would keep megabytes of it.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WRITES_BYTES_MAX)

    def pause_writing(self):
        self.full = True

    def resume_writing(self):
        self.full = False
        self.goes_on()

    def connection_lost(self, error):
        self.ended = True

    def send(self, count):
        now = time.monotonic()
        texts = []
        for _ in range(count):
            self.number += 1
            texts.append(self.message(self.number))
            self.sent_at.append(now)
        self.transport.write(b"".join(texts))

    def goes_on(self):
        """As fast as it is taken: so many are under way, always."""
        if self.window and not self.full and not self.ended and time.monotonic() < self.until:
            free = min(self.window - len(self.sent_at), self.count - self.offered)
            if free > 0:
                self.offered += free
                self.send(free)

    def is_due(self, due):
        """At a rate: so many should have been offered by now."""
        count, self.offered = due - self.offered, due
        if self.full or self.ended:
            self.held_back += count
        elif count > 0:
            self.send(count)

    def done(self, count=1, what="taken"):
        now = time.monotonic()
        for _ in range(min(count, len(self.sent_at))):
            self.waits.append(now - self.sent_at.popleft())
        self.counts[what] += count


class Matrix(Sender):
    def __init__(self, port, sender, window, label):
        super().__init__(sender["name"], window)
        self.port, self.label = port, label
        self.path = f"/_matrix/client/v3/rooms/{sender['room']}/send/m.room.message/{label}-{sender['name']}-"
        self.rest = f" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {sender['token']}\r\nContent-Length: "

    async def begin(self):
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self.port)

    def message(self, number):
        body = f'{{"msgtype":"m.text","body":"{self.label} {self.name} {number}"}}'
        return f"PUT {self.path}{number}{self.rest}{len(body)}\r\n\r\n{body}".encode()

    def data_received(self, data):
        self.left += data
        end = 0
        for found in STATUS.finditer(self.left):
            end = found.end()
            status = found[1].decode()
            self.done(what="taken" if status == "200" else status)
        self.left = self.left[end:][-LONGEST_TOKEN:]
        self.goes_on()


class Xmpp(Sender):
    def __init__(self, port, sender, window, label):
        super().__init__(sender["name"], window)
        self.stream = Stream(port, sender["host"], sender["name"])
        self.to, self.label, self.acknowledged = sender["to"], label, 0

    async def begin(self):
        await self.stream.log_in()
        transport = self.stream.writer.transport
        self.connection_made(transport)
        transport.set_protocol(self)

    def message(self, number):
        text = f"<message to='{self.to}' type='chat' id='{self.label}{number}'><body>{self.label} {self.name} {number}</body></message>"
        if number % ASK_EVERY == 0 or self.window:
            text += "<r xmlns='urn:xmpp:sm:3'/>"
        return text.encode()

    def data_received(self, data):
        self.left += data
        if b"<stream:error" in self.left:
            condition = re.search(rb"<stream:error[^>]*><([a-z-]+)", self.left)
            self.counts["stream error " + (condition[1].decode() if condition else "?")] += 1
            self.ended = True
        self.counts["error"] += len(ERROR.findall(self.left))
        end = 0
        for found in ACK.finditer(self.left):
            end = found.end()
            self.done(int(found[1]) - self.acknowledged)
            self.acknowledged = int(found[1])
        self.left = self.left[end:][-LONGEST_TOKEN:] if end else self.left[-LONGEST_TOKEN:]
        self.goes_on()


async def main():
    told = json.load(sys.stdin)
    kind = {"matrix": Matrix, "xmpp": Xmpp}[told["protocol"]]
    senders = [kind(told["port"], sender, told.get("window", 0), told["label"]) for sender in told["senders"]]
    for sender in senders:
        await sender.begin()
    began = time.monotonic()
    until = began + told["seconds"]
    if told.get("per_second"):
        while (now := time.monotonic()) < until:
            due = (now - began) * told["per_second"] / len(senders)
            for sender in senders:
                sender.is_due(int(due))
            await asyncio.sleep(TICK_S)
    else:
        for number, sender in enumerate(senders):
            # To be exact, the first ones do what is left.
            share, rest = divmod(told.get("count", MANY * len(senders)), len(senders))
            sender.until, sender.count = until, share + (number < rest)
            sender.goes_on()
        while time.monotonic() < until and any(sender.sent_at and not sender.ended for sender in senders):
            await asyncio.sleep(TICK_S)
    took = time.monotonic() - began
    counts = sum((sender.counts for sender in senders), collections.Counter())
    waits = sorted(wait for sender in senders for wait in sender.waits)
    # What those wait who are not answered yet is known at least.
    waiting = max((time.monotonic() - sender.sent_at[0] for sender in senders if sender.sent_at), default=0)
    if told.get("to_the_end"):
        while any(sender.sent_at and not sender.ended for sender in senders):
            await asyncio.sleep(TICK_S)
        counts = sum((sender.counts for sender in senders), collections.Counter())
    result = {
        "seconds": took, "offered": sum(sender.offered for sender in senders), "counts": counts,
        "held_back": sum(sender.held_back for sender in senders), "on_the_way": sum(len(sender.sent_at) for sender in senders),
        "ended": sum(sender.ended for sender in senders), "cpu": time.process_time() / took,
        "waits": [waits[int(len(waits) * part)] for part in (0.5, 0.99)] if waits else [], "waiting": waiting,
    }  # fmt: skip
    json.dump(result, sys.stdout)


asyncio.run(main())
