"""How long a message takes from "send" at one server until it is decrypted at another: koine-chat at both ends, nothing in between.

usage: latency.py --koine PROGRAM --chat PROGRAM [--messages N] [--every SECONDS]

alice says so many messages, one after another, each when the one before was read; bob follows the room at the other server. Three times
are taken of each: of the command, of its acknowledgement, and of the line that bob's client prints. The last line is JSON; bench/E2EE.md
has what came out.
"""

import argparse
import asyncio
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "faults"))

from koines import Authority, Koine, Wrong, temporary_folder  # noqa: E402
from people import PASSWORD  # noqa: E402
from terminal import COMMAND_WITHIN_S, Terminals  # noqa: E402

# Messages before those that count: sessions are made with them.
WARMING_UP = 5


class Ear:
    """What bob's client prints, with the time at which it did."""

    def __init__(self, process):
        self.process, self.heard, self.news = process, {}, asyncio.Event()
        self.listening = asyncio.ensure_future(self.listen())

    @classmethod
    async def begin(cls, terminal, room):
        pipe = asyncio.subprocess.PIPE
        words = terminal.words("tail", room)
        process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, env=terminal.environment(), limit=1 << 24)
        if json.loads(await process.stdout.readline())["type"] != "ready":
            raise Wrong("tail does not begin")
        return cls(process)

    async def listen(self):
        while line := await self.process.stdout.readline():
            now, line = time.monotonic(), json.loads(line)
            if line["type"] == "event" and line["encryption"]["state"] == "decrypted":
                self.heard.setdefault(line["event_id"], now)
                self.news.set()

    async def hears(self, event):
        async with asyncio.timeout(COMMAND_WITHIN_S):
            while event not in self.heard:
                self.news.clear()
                await self.news.wait()
        return self.heard[event]

    def end(self):
        self.process.kill()


def of(values, share):
    """The value below which this share of them lies."""
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


async def measure(options):
    with temporary_folder() as folder:
        authority, names = Authority(folder), ("hs1", "hs2")
        koines = [Koine(options.koine, os.path.join(folder, name), name) for name in names]
        for koine, other, name in zip(koines, koines[::-1], names):
            certificate, key = authority.certify(name)
            koine.more = ["--tls-cert", certificate, "--tls-key", key, "--federation-ca", authority.file]
            koine.more += ["--server-at", f"{other.name}=127.0.0.1:{other.tls_port}"]
        terminals, ear = Terminals(options.chat, os.path.join(folder, "chat")), None
        try:
            for koine in koines:
                await koine.begin()
            account = {"password": PASSWORD, "make": True, "recovery_key": None, "within_ms": 60_000}
            await terminals.begin("alice", koines[0].url, "alice", **account)
            bob = await terminals.begin("bob", koines[1].url, "bob", **account)
            room = (await terminals.create("alice", 60_000, invite=[bob["user_id"]]))["room"]
            await terminals.join("bob", room, 60_000, via=["hs1"])
            await terminals.knows("alice", room, 2, 60_000)
            await terminals.devices["bob"].end()
            ear = await Ear.begin(terminals.devices["bob"], room)
            rows = []
            for number in range(WARMING_UP + options.messages):
                began = time.monotonic()
                (sent,) = await terminals.devices["alice"].ask("send", room, f"message {number}")
                acknowledged = time.monotonic()
                read = await ear.hears(sent["event_id"])
                if number >= WARMING_UP:
                    rows.append((read - began, acknowledged - began, read - acknowledged))
                await asyncio.sleep(options.every)
        finally:
            if ear:
                ear.end()
            await terminals.end()
            for koine in koines:
                koine.end()
    summary = {"messages": len(rows)}
    for name, values in zip(("read", "acknowledged", "read_after_acknowledged"), zip(*rows)):
        summary[name] = {f"p{round(share * 100)}_ms": round(of(values, share) * 1e3, 1) for share in (0.5, 0.99)}
        summary[name]["max_ms"] = round(max(values) * 1e3, 1)
    print(json.dumps(summary))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--koine", required=True)
    parser.add_argument("--chat", required=True)
    parser.add_argument("--messages", type=int, default=300)
    parser.add_argument("--every", type=float, default=0.0)
    return asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
