"""More than it can do: the well-behaved are served meanwhile, and afterwards all is as before."""

import asyncio
import contextlib
import json
import os
import resource
import socket
import statistics
import sys
import time

from koines import Koine, Operated, Person, V3, Wrong, exactly_once, temporary_folder
from people import client_session
from stream import HEADER, Stream

CONNECTIONS = 20_000
# Files that this process or the server has open besides.
OTHER_FILES = 300
FLOODERS, FLOOD_S = 200, 10
# How many send, if nobody sends more than the limit for one person lets them, and if all do; and how many of them share a room.
MANY_SENDERS, FEW_SENDERS, ROOMMATES = 100, 8, 10
STREAMS = 40
# How long it is found out what the server can do, and how it is before and after.
CALM_S, MEASURE_S = 2, 4
SLOW_WRITERS, BYTE_PAUSE_S, SLOW_WRITING_S = 100, 0.02, 12
SLOW_STREAMS, LARGE_STANZAS = 25, 45
# In which everything is read that waits.
RUSH_S = 5
SEPARATE_SENDS_S = 0.05
SLOW_READERS = 100
# Nobody who behaves waits longer for one answer, whatever others do. On a machine with two cores this suite floods from the same two.
ANSWER_WITHIN_S = 10
MEMORY_MAX_MB = 1_000
# The default budget is 128 MiB; the program itself, what is on its way and what the allocator keeps come on top of that.
BUDGET_MB = 512
# In the median, right after the end of too much; on a busy machine.
BACK_WITHIN_S = 0.25


async def watch(alice, room, going):
    """What somebody who behaves waits for each of their messages, in seconds."""
    waits, number = [], 0
    while not going.is_set():
        began = time.monotonic()
        if not await alice.put(room, f"well-behaved {number}", f"well-behaved {number}"):
            raise Wrong("somebody who behaves was refused")
        waits.append(time.monotonic() - began)
        number += 1
        await asyncio.sleep(SEPARATE_SENDS_S)
    return waits


def quantiles(waits):
    """In the middle, of one in a hundred, the longest; in milliseconds."""
    ordered = sorted(waits)
    return "/".join(f"{ordered[int((len(ordered) - 1) * part)] * 1e3:.0f}" for part in (0.5, 0.99, 1))


def judged(waits, koine):
    if max(waits) > ANSWER_WITHIN_S:
        raise Wrong(f"somebody who behaves waited {max(waits):.1f} s")
    memory = koine.resident_mb("VmHWM")
    if memory > MEMORY_MAX_MB:
        raise Wrong(f"memory stood at {memory:.0f} MB")
    return f"the well-behaved waited {quantiles(waits)} ms (p50/p99/max); memory {memory:.0f} MB at most"


async def while_behaving(w, trouble):
    """Runs `trouble` beside somebody who behaves; how that went for them."""
    with temporary_folder() as folder:
        koine = Koine(w.koine, folder)
        try:
            await koine.begin()
            async with client_session() as session, client_session() as troublemakers:
                alice = await Person(koine.url, session).register("alice")
                room = (await alice.call("POST", f"{V3}/createRoom", {"preset": "public_chat"}))["room_id"]
                going = asyncio.Event()
                watching = asyncio.ensure_future(watch(alice, room, going))
                try:
                    told = await trouble(koine, troublemakers, alice, room)
                finally:
                    going.set()
                waits = await watching
                if not koine.runs:
                    raise Wrong(f"it ended: {koine.last_words()}")
                verdict = judged(waits, koine)
                texts = [f"well-behaved {number}" for number in range(len(waits))]
                exactly_once("messages", texts, [t for t in await alice.everything_said(room) if str(t).startswith("well")])
        finally:
            koine.end()
        return f"{told}; {verdict}"


async def flood(w):
    """more messages than can be done"""

    async def trouble(koine, session, alice, room):
        people = [await Person(koine.url, session).register(f"flooder{n}") for n in range(8)]
        for person in people:
            await person.join(room)
        done, until_s = [0], time.monotonic() + FLOOD_S

        async def floods(number):
            while time.monotonic() < until_s:
                text = f"flood {number} {done[0]} {time.monotonic_ns()}"
                taken = await people[number % len(people)].put(room, text, text)
                done[0] += taken is not None

        await asyncio.gather(*(floods(number) for number in range(FLOODERS)))
        return f"{done[0] / FLOOD_S:.0f} messages a second by {FLOODERS} at once"

    return await while_behaving(w, trouble)


@contextlib.asynccontextmanager
async def with_limits(w):
    """A server with the limits of an operator, and somebody who behaves in each protocol, each with a conversation of their own."""
    with temporary_folder() as folder:
        koine = Operated(w.koine, folder, "overload.test")
        try:
            await koine.begin()
            async with client_session() as session:
                yield Well(koine, session), session
        finally:
            koine.end()


class Well:
    """Whoever behaves, meanwhile: what they wait for each message, in seconds, in each protocol."""

    def __init__(self, koine, session):
        self.koine, self.session, self.said = koine, session, []

    async def begin(self):
        self.alice = await Person(self.koine.url, self.session).register("alice")
        await Person(self.koine.url, self.session).register("carol")
        self.room = (await self.alice.call("POST", f"{V3}/createRoom", {}))["room_id"]
        self.carol = await Stream(self.koine.starttls_port, self.koine.name, "carol").log_in()
        self.stanzas = 0

    async def one_by_matrix(self):
        text = f"well-behaved {len(self.said)}"
        if not await self.alice.put(self.room, text, text):
            raise Wrong("somebody who behaves was refused")
        self.said.append(text)

    async def one_by_xmpp(self):
        self.stanzas += 1
        await self.carol.says(f"<message to='alice@{self.koine.name}' type='chat'><body>{self.stanzas}</body></message>")
        await self.carol.until_acknowledged(self.stanzas)

    async def waits(self, going):
        """Until told to stop; by protocol."""
        waits = {"Matrix": [], "XMPP": []}

        async def measure(name, one):
            while not going.is_set():
                began = time.monotonic()
                await one()
                waits[name].append(time.monotonic() - began)
                await asyncio.sleep(SEPARATE_SENDS_S)

        await asyncio.gather(measure("Matrix", self.one_by_matrix), measure("XMPP", self.one_by_xmpp))
        return waits

    async def calm(self):
        going = asyncio.Event()
        waiting = asyncio.ensure_future(self.waits(going))
        await asyncio.sleep(CALM_S)
        going.set()
        return await waiting

    async def while_pressed(self, **what):
        """What those wait who behave, and what became of the others' messages."""
        going = asyncio.Event()
        waiting = asyncio.ensure_future(self.waits(going))
        try:
            told = await pressure(**what)
        finally:
            going.set()
        waits = await waiting
        for name, some in waits.items():
            if not some or max(some) > ANSWER_WITHIN_S:
                raise Wrong(f"somebody who behaves waited {max(some, default=0):.1f} s by {name}")
        return waits, told


async def pressure(**what):
    program = os.path.join(os.path.dirname(__file__), "pressure.py")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-B", program, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        out, err = await process.communicate(json.dumps(what).encode())
    except BaseException:
        process.kill()
        raise
    if process.returncode:
        raise Wrong(f"nobody presses: {err.decode()[-600:]}")
    return json.loads(out)


async def flooders(koine, session, count):
    """So many people, some in each room, as those who press by Matrix want to have them; together they have as many connections as
    many people have."""
    senders = []
    for number in range(count):
        person = await Person(koine.url, session).register(f"flooder{count}x{number}")
        if number % ROOMMATES == 0:
            room = (await person.call("POST", f"{V3}/createRoom", {"preset": "public_chat"}))["room_id"]
        else:
            await person.join(room)
        for connection in range(max(1, MANY_SENDERS // count)):
            senders.append({"name": f"f{number}c{connection}", "token": person.token, "room": room})
    return senders


async def streams(koine, session, count):
    """So many people who write to one each, as those who press by XMPP want to have them."""
    for number in range(count):
        for role in ("writer", "reader"):
            await Person(koine.url, session).register(f"{role}{number}")
    return [{"name": f"writer{n}", "host": koine.name, "to": f"reader{n}@{koine.name}"} for n in range(count)]


def excess(told):
    """What became of it, in words."""
    took, counts = told["seconds"], told["counts"]
    taken = counts.pop("taken", 0)
    words = [f"{told['offered'] / took:.0f} offered a second, {taken / took:.0f} taken"]
    words += [f"{count / took:.0f} answered {what}" for what, count in sorted(counts.items()) if count]
    if waits := told["held_back"] + told["on_the_way"]:
        # The server has not read it, so it waits in sockets, and then at whoever wants to send it.
        words.append(f"{waits / took:.0f} not read yet")
    return ", ".join(words) + f", the longest unanswered {told['waiting']:.1f} s"


async def twice_too_much(w, kind, prepare, crowds):
    async with with_limits(w) as (well, session):
        koine = well.koine
        await well.begin()
        port = {"matrix": koine.port, "xmpp": koine.starttls_port}[kind]
        senders = {count: await prepare(koine, session, count) for count in crowds}
        before = await well.calm()
        many = {"protocol": kind, "port": port, "senders": senders[crowds[0]], "window": 4}
        best = await pressure(**many, seconds=MEASURE_S, label="best", to_the_end=True)
        rate = best["counts"].get("taken", 0) / best["seconds"]
        if not rate:
            raise Wrong(f"nothing was taken at all: {best}")
        said = [f"{rate:.0f} a second is what it takes"]
        for count in crowds:
            press = {"protocol": kind, "port": port, "senders": senders[count], "label": "twice"}
            waits, told = await well.while_pressed(**press, seconds=w.minutes * 60 / len(crowds), per_second=2 * rate)
            waited = "; ".join(f"{name} {quantiles(some)} ms" for name, some in waits.items())
            said.append(f"by {count}: {excess(told)}; whoever behaves waits {waited}")
        after = await well.calm()
        for name in before:
            was, now = (statistics.median(waits[name]) for waits in (before, after))
            said.append(f"{name} {quantiles(before[name])} ms before, {quantiles(after[name])} ms right after")
            if now > max(5 * was, BACK_WITHIN_S):
                raise Wrong(f"{'; '.join(said)}: it does not recover")
        memory = koine.resident_mb("VmHWM")
        said.append(f"memory {memory:.0f} MB at most")
        if memory > BUDGET_MB:
            raise Wrong(f"{'; '.join(said)}: more than {BUDGET_MB} MB")
        texts = [text for text in await well.alice.everything_said(well.room) if text]
        exactly_once("messages of somebody who behaves", well.said, texts)
        return "; ".join(said)


async def twice_by_matrix(w):
    """twice the messages that it can take, by Matrix, with limits as operators have"""
    return await twice_too_much(w, "matrix", flooders, (MANY_SENDERS, FEW_SENDERS))


async def twice_by_xmpp(w):
    """twice the messages that it can take, by XMPP, with limits as operators have"""
    return await twice_too_much(w, "xmpp", streams, (STREAMS,))


async def many_connections(w):
    """twenty thousand connections that ask for nothing"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = CONNECTIONS + OTHER_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, CONNECTIONS + OTHER_FILES)), hard))
    wanted = min(CONNECTIONS, hard - OTHER_FILES)

    async def trouble(koine, session, alice, room):
        opened, loop = [], asyncio.get_running_loop()
        try:
            for number in range(wanted):
                one = socket.socket()
                opened.append(one)
                one.setblocking(False)
                # One address has only so many ports.
                one.bind((f"127.0.{1 + number // 5_000}.1", 0))
                await loop.sock_connect(one, ("127.0.0.1", (koine.port, koine.starttls_port)[number % 2]))
            await asyncio.sleep(2)
            lasting = sum(is_open(one) for one in opened)
            return f"{lasting} connections" + ("" if wanted == CONNECTIONS else f" ({hard} open files are all that this machine allows)")
        finally:
            for one in opened:
                one.close()

    return await while_behaving(w, trouble)


def is_open(one):
    """Whether the other end has not closed it."""
    try:
        return one.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


async def slow_writers(w):
    """requests and streams that come one byte at a time"""

    async def trouble(koine, session, alice, room):
        ends_at = time.monotonic() + SLOW_WRITING_S
        said = {"answered": 0, "cut off": 0}

        async def slowly(port, text, goes_on):
            """Writes a byte at a time, all of `text` and then `goes_on` for as long as there is time."""
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                for byte in text:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(BYTE_PAUSE_S)
                while goes_on and time.monotonic() < ends_at:
                    writer.write(goes_on)
                    await asyncio.sleep(BYTE_PAUSE_S)
                answer = b"" if goes_on else await asyncio.wait_for(reader.read(100), 30)
                said["answered"] += answer.startswith(b"HTTP/1.1 200") or b"stream" in answer
            except OSError:
                said["cut off"] += 1
            finally:
                writer.transport.abort()

        head = f"Host: localhost\r\nAuthorization: Bearer {alice.token}\r\n"
        path = alice.room(room, "send", "m.room.message", "{}")
        whole = '{{"msgtype":"m.text","body":"slow {}"}}'
        does = []
        for number in range(SLOW_WRITERS):
            body = whole.format(number)
            put = f"PUT {path.format(number)} HTTP/1.1\r\n{head}Content-Length: "
            # Those that end, and are answered like anybody.
            does.append(slowly(koine.port, f"{put}{len(body)}\r\n\r\n{body}".encode(), b""))
            does.append(slowly(koine.starttls_port, HEADER.format(host="localhost").encode(), b""))
            # Those that do not: headers, a body, a stream that never opens.
            does.append(slowly(koine.port, f"GET /_matrix/client/versions HTTP/1.1\r\n{head}X: ".encode(), b"x"))
            does.append(slowly(koine.port, f"{put}60000\r\n\r\n".encode(), b"x"))
            does.append(slowly(koine.starttls_port, b"<", b"x"))
        await asyncio.gather(*does)
        if said["answered"] < 2 * SLOW_WRITERS:
            raise Wrong(f"of {2 * SLOW_WRITERS} who write slowly and to the end, {said['answered']} were answered")
        return f"{2 * SLOW_WRITERS} wrote to the end and were answered, {3 * SLOW_WRITERS} did not, {said['cut off']} of which were cut off"

    return await while_behaving(w, trouble)


async def slow_readers_of_xmpp(w):
    """streams that read one byte a second of much that is for them"""
    async with with_limits(w) as (well, session):
        koine = well.koine
        await well.begin()
        people = await streams(koine, session, SLOW_STREAMS)
        readers = [await Stream(koine.starttls_port, koine.name, f"reader{n}", receive_buffer=4096).log_in() for n in range(SLOW_STREAMS)]
        writers = [await Stream(koine.starttls_port, koine.name, one["name"]).log_in() for one in people]
        going = asyncio.Event()

        async def reads_slowly(stream):
            """A byte a second, and then all there is; whether the server had enough of that."""
            await stream.says("<presence/>")
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                while not going.is_set():
                    await stream.reader.read(1)
                    await asyncio.sleep(1)
                await asyncio.wait_for(stream.reader.read(), RUSH_S)
            return stream.reader.at_eof()

        async def writes(stream, to):
            for number in range(LARGE_STANZAS):
                await stream.says(f"<message to='{to}' type='chat'><body>{number} {'x' * 40_000}</body></message>")
            await stream.until_acknowledged(LARGE_STANZAS)

        reading = [asyncio.ensure_future(reads_slowly(reader)) for reader in readers]
        waiting = asyncio.ensure_future(well.waits(going))
        try:
            await asyncio.wait_for(asyncio.gather(*(writes(stream, one["to"]) for stream, one in zip(writers, people))), 120)
            await asyncio.sleep(CALM_S)
        finally:
            going.set()
        waits = await waiting
        ended = sum(await asyncio.gather(*reading))
        for stream in (*readers, *writers):
            stream.end()
        if (longest := max(max(some) for some in waits.values())) > ANSWER_WITHIN_S:
            raise Wrong(f"somebody who behaves waited {longest:.1f} s")
        memory = koine.resident_mb("VmHWM")
        if memory > MEMORY_MAX_MB:
            raise Wrong(f"memory stood at {memory:.0f} MB")
        waited = "; ".join(f"{name} {quantiles(some)} ms" for name, some in waits.items())
        return (
            f"{SLOW_STREAMS} streams, {LARGE_STANZAS * 40 / 1000:.1f} MB for each, all acknowledged to who sent them, {ended} streams of those that do not read ended; "
            f"whoever behaves waits {waited}; memory {memory:.0f} MB at most"
        )


async def slow_readers(w):
    """readers who take a large answer one byte at a time"""

    async def trouble(koine, session, alice, room):
        for number in range(50):
            await alice.put(room, f"large {number}", "x" * 40_000)
        path = alice.room(room, "messages") + "?dir=b&limit=100"
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {alice.token}\r\n\r\n".encode()

        async def reads_slowly():
            # A small window, so that the rest waits at the server.
            reader, writer = await asyncio.open_connection("127.0.0.1", koine.port, limit=64)
            writer.write(request)
            try:
                for _ in range(10):
                    await reader.read(1)
                    await asyncio.sleep(1)
            except OSError:
                pass
            finally:
                writer.transport.abort()

        await asyncio.gather(*(reads_slowly() for _ in range(SLOW_READERS)))
        return f"{SLOW_READERS} slow readers of 2 MB each"

    return await while_behaving(w, trouble)


CASES = (flood, twice_by_matrix, twice_by_xmpp, many_connections, slow_readers, slow_readers_of_xmpp, slow_writers)
