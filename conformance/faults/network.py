"""A network between two servers that is slow, torn or swallows everything."""

import asyncio
import os
import time

from crash import all_agree, in_one_room
from koines import Authority, Koine, Wire, Wrong, temporary_folder, until
from people import client_session

APART_S = 15
TEARS = 20
# After the first sign of life of the other side.
AGREE_WITHIN_S = 10
SIGN_OF_LIFE_WITHIN_S = 120
SLOW_S = 0.3
SEPARATELY = 40


class Apart:
    """Two servers, each reaching the other by a wire of its own."""

    def __init__(self, program, folder):
        self.authority = Authority(folder)
        self.koines = [Koine(program, os.path.join(folder, name), name) for name in ("hs1", "hs2")]
        # The wire to a server, in the order of the servers.
        self.wires = [Wire(koine.tls_port) for koine in self.koines]

    async def begin(self, session):
        for wire in self.wires:
            await wire.begin()
        for koine, other, wire in zip(self.koines, self.koines[::-1], self.wires[::-1]):
            certificate, key = self.authority.certify(koine.name)
            koine.more = ["--tls-cert", certificate, "--tls-key", key, "--federation-ca", self.authority.file]
            koine.more += ["--server-at", f"{other.name}=127.0.0.1:{wire.port}"]
            await koine.begin()
        self.people, self.room = await in_one_room(self.koines, session)
        self.said = {}

    async def say(self, count, what):
        """Both say something, each at their own server."""
        for number in range(count):
            for name, person in zip(("first", "second"), self.people):
                text = f"{name} {what} {number}"
                if not await person.put(self.room, text, text):
                    raise Wrong(f"a message was not taken at {person.user}'s own server")
                self.said[text] = True

    async def end(self):
        for koine in self.koines:
            koine.end()
        for wire in self.wires:
            if wire.server:
                await wire.end()

    async def heals(self):
        """Mends the wires; how long until there was a sign of life, and from then until both had everything."""
        mended = time.monotonic()
        for wire in self.wires:
            wire.mend()
        alive = lambda: asyncio.sleep(0, [wire.alive_again for wire in self.wires if wire.alive_again])
        alive_at = min(await until("a sign of life", SIGN_OF_LIFE_WITHIN_S, alive))
        await all_agree(self.people, self.room, self.said, AGREE_WITHIN_S)
        return alive_at - mended, time.monotonic() - alive_at


async def apart(w, how):
    with temporary_folder() as folder:
        two = Apart(w.koine, folder)
        try:
            async with client_session() as session:
                await two.begin(session)
                await two.say(5, "together")
                await all_agree(two.people, two.room, two.said, AGREE_WITHIN_S)
                for wire in two.wires:
                    how(wire)
                await two.say(SEPARATELY, "apart")
                await asyncio.sleep(APART_S)
                alive, agreed = await two.heals()
        finally:
            await two.end()
        return f"{len(two.said)} messages; a sign of life {alive:.1f} s after the network was back, agreed {agreed:.1f} s after that"


async def partition(w):
    """two servers apart: connections are refused"""
    return await apart(w, Wire.cut)


async def black_hole(w):
    """two servers apart: everything is swallowed"""
    return await apart(w, Wire.swallow)


async def torn_wire(w):
    """a wire that tears again and again, and is slow"""
    with temporary_folder() as folder:
        two = Apart(w.koine, folder)
        try:
            async with client_session() as session:
                await two.begin(session)
                for wire in two.wires:
                    wire.delay_s = SLOW_S
                for tear in range(TEARS):
                    await two.say(3, f"between {tear}")
                    two.wires[tear % 2].cut()
                    await asyncio.sleep(0.05)
                    two.wires[tear % 2].mend()
                alive, agreed = await two.heals()
        finally:
            await two.end()
        return f"{TEARS} tears, {len(two.said)} messages, agreed {alive + agreed:.1f} s after the last"


CASES = (partition, black_hole, torn_wire)
