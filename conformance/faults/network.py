"""A network between two servers that is slow, torn, loses and doubles, or swallows everything."""

import asyncio
import contextlib
import os
import socket
import time

import aiohttp
from crash import all_agree, in_one_room
from koines import Authority, Koine, Operated, Person, Wire, Wrong, temporary_folder, until
from packets import ADDRESSES, Between, inside
from people import client_session

APART_S = 5
TEARS = 20
# After the first sign of life of the other side. Ten is what it should be, and is printed; the rest is for machines that are busy.
AGREE_WITHIN_S = 30
# Who does not answer is left alone for twice as long each time, so about as long as they were away; plus this.
SIGN_OF_LIFE_WITHIN_S = 60
SLOW_S = 0.3
SEPARATELY = 40
FAR_BEHIND = 5_000
# What the bad network does, both ways.
LATE_S, JITTER_S, LOSES, DOUBLES = 0.1, 0.05, 0.05, 0.05
# How soon both agree with the network as bad as ever.
LOSSY_WITHIN_S = 60


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
        for wire in self.wires:
            if wire.server:
                wire.mend()
        for koine in self.koines:
            await koine.leave()
        for wire in self.wires:
            if wire.server:
                await wire.end()

    async def heals(self, apart_s=0):
        """Mends the wires; how long until there was a sign of life, and from then until both had everything."""
        mended = time.monotonic()
        for wire in self.wires:
            wire.mend()
        alive = lambda: asyncio.sleep(0, [wire.alive_again for wire in self.wires if wire.alive_again])
        alive_at = min(await until("a sign of life", 2 * apart_s + SIGN_OF_LIFE_WITHIN_S, alive))
        await all_agree(self.people, self.room, self.said, AGREE_WITHIN_S)
        return alive_at - mended, time.monotonic() - alive_at


async def apart(w, how):
    async with by_wires(w) as two:
        await two.say(5, "together")
        await all_agree(two.people, two.room, two.said, AGREE_WITHIN_S)
        for wire in two.wires:
            how(wire)
        await two.say(SEPARATELY, "apart")
        await asyncio.sleep(APART_S)
        alive, agreed = await two.heals(APART_S)
    return f"{len(two.said)} messages; a sign of life {alive:.1f} s after the network was back, agreed {agreed:.1f} s after that"


@contextlib.asynccontextmanager
async def by_wires(w):
    """Two servers that reach each other by wires, and people of both in a room."""
    with temporary_folder() as folder:
        two = Apart(w.koine, folder)
        try:
            async with client_session() as session:
                await two.begin(session)
                yield two
        finally:
            await two.end()


async def partition(w):
    """two servers apart: connections are refused"""
    return await apart(w, Wire.cut)


async def black_hole(w):
    """two servers apart: everything is swallowed"""
    return await apart(w, Wire.swallow)


async def torn_wire(w):
    """a wire that tears again and again, and is slow"""
    async with by_wires(w) as two:
        for wire in two.wires:
            wire.delay_s = SLOW_S
        for tear in range(TEARS):
            await two.say(3, f"between {tear}")
            two.wires[tear % 2].cut()
            await asyncio.sleep(0.05)
            two.wires[tear % 2].mend()
        alive, agreed = await two.heals()
    return f"{TEARS} tears, {len(two.said)} messages, agreed {alive + agreed:.1f} s after the last"


class Distant(Operated):
    """One in a network of its own, with everything as it is between strangers. Its people are there, too."""

    more_settings = """\
[federation.network]
allow_ranges = ["{address}/32", "{other_address}/32"]
extra_authorities = "{authority}"

[federation.network.static_destinations]
"{other}" = "{other_address}:8448"

[tls]
certificate = "{certificate}"
key = "{key}"

[[listeners]]
address = "127.0.0.1:8008"

[[listeners]]
address = "{address}:8448"
tls = true
"""

    def __init__(self, program, folder, name, namespace, **settings):
        super().__init__(program, folder, name, environment={"KOINE_LOG": os.environ.get("KOINE_LOG", "info,koine_net=debug")})
        self.namespace, self.settings_of_it = namespace, settings
        self.port, self.url = 8008, "http://127.0.0.1:8008"
        self.session = None

    def settings(self):
        return self.more_settings.format(**self.settings_of_it)

    def command(self):
        return ["ip", "netns", "exec", self.namespace, *super().command()]

    def socket(self, *_):
        with inside(self.namespace):
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setblocking(False)
        return made

    async def connect(self):
        made = self.socket()
        try:
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", self.port))
        except OSError:
            made.close()
            raise
        return await asyncio.open_connection(sock=made)

    def person(self, _):
        if not self.session:
            connector = aiohttp.TCPConnector(socket_factory=self.socket)
            self.session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30))
        return Person(self.url, self.session)


class FarApart(Apart):
    """Two servers with a network between them whose packets are ours to lose."""

    def __init__(self, program, folder):
        self.authority, self.between = Authority(folder), Between()
        self.koines, self.said = [], {}
        names = ("hs1", "hs2")
        for n, name in enumerate(names):
            certificate, key = self.authority.certify(name)
            settings = {"address": ADDRESSES[n], "other": names[1 - n], "other_address": ADDRESSES[1 - n]}
            settings |= {"certificate": certificate, "key": key, "authority": self.authority.file}
            where = os.path.join(folder, name)
            self.koines.append(Distant(program, where, name, self.between.namespaces[n], **settings))

    async def begin(self, session):
        self.between.begin()
        for koine in self.koines:
            await koine.begin()
        self.people, self.room = await in_one_room(self.koines, session)

    async def end(self):
        self.between.be()
        for koine in self.koines:
            if koine.session:
                await koine.session.close()
            await koine.leave()
        self.between.end()

    async def heals(self, apart_s=0):
        """Lets everything through; how long until a packet came, until one did that says something, and from then until both had
        everything."""
        loop = asyncio.get_running_loop()
        mended = loop.time()
        self.between.be()
        self.between.mended()
        came = lambda: asyncio.sleep(0, self.between.first_word_at)
        word = await until("a sign of life", 2 * apart_s + SIGN_OF_LIFE_WITHIN_S, came)
        await all_agree(self.people, self.room, self.said, AGREE_WITHIN_S)
        return self.between.first_packet_at - mended, word - mended, loop.time() - word


@contextlib.asynccontextmanager
async def far_apart(w):
    with temporary_folder() as folder:
        two = FarApart(w.koine, folder)
        try:
            await two.begin(None)
            await two.say(5, "together")
            await all_agree(two.people, two.room, two.said, AGREE_WITHIN_S)
            yield two
        finally:
            await two.end()


async def lossy_network(w):
    """packets that are late, lost, doubled and out of order"""
    async with far_apart(w) as two:
        between = two.between
        between.be(delay_s=LATE_S, jitter_s=JITTER_S, loses=LOSES, doubles=DOUBLES)
        began = time.monotonic()
        while time.monotonic() < began + w.minutes * 60:
            await two.say(1, f"at {len(two.said)}")
            await asyncio.sleep(0.1)
        ended = time.monotonic()
        # Still on that network.
        await all_agree(two.people, two.room, two.said, LOSSY_WITHIN_S)
        agreed = time.monotonic() - ended
        lost, doubled = between.lost, between.doubled
        return (
            f"{LATE_S * 1e3:.0f}±{JITTER_S * 1e3:.0f} ms, {LOSES:.0%} lost ({lost}), {DOUBLES:.0%} doubled ({doubled}), "
            f"{between.carried} packets came through; {len(two.said)} messages, each once at both, agreed {agreed:.1f} s after the last"
        )


async def network_apart(w):
    """two networks apart: packets vanish"""
    async with far_apart(w) as two:
        two.between.be(apart=True)
        await two.say(SEPARATELY, "apart")
        await asyncio.sleep(w.minutes * 60)
        await two.say(SEPARATELY, "still apart")
        packet, word, agreed = await two.heals(w.minutes * 60)
        return (
            f"{w.minutes * 60:.0f} s apart, {two.between.lost} packets lost, {len(two.said)} messages; after that a packet came through "
            f"{packet:.1f} s later, one that says something {word:.1f} s later, agreed {agreed:.1f} s after that"
        )


async def far_behind(w):
    """two servers apart while more is written than is queued"""
    async with by_wires(w) as two:
        # A room with a history: what is missing is not next to its beginning.
        await two.say(SEPARATELY, "together")
        await all_agree(two.people, two.room, two.said, AGREE_WITHIN_S)
        for wire in two.wires:
            wire.cut()
        await two.say(FAR_BEHIND // 2, "apart")
        alive, agreed = await two.heals(APART_S)
    return f"{len(two.said)} messages, agreed {alive + agreed:.1f} s after the network was back"


CASES = (partition, black_hole, torn_wire, far_behind, lossy_network, network_apart)
