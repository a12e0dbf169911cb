"""More than it can do: the well-behaved are served meanwhile, and afterwards all is as before."""

import asyncio
import resource
import statistics
import time

from koines import Koine, Person, Skipped, V3, Wrong, exactly_once, temporary_folder
from people import client_session, quote

CONNECTIONS = 10_000
FLOODERS, FLOOD_S = 200, 10
SLOW_READERS = 100
# Nobody who behaves waits longer for one answer, whatever others do. On a machine with two cores this suite floods from the same two.
ANSWER_WITHIN_S = 10
MEMORY_MAX_MB = 1_000


async def watch(alice, room, going):
    """What somebody who behaves waits for each of their messages, in seconds."""
    waits, number = [], 0
    while not going.is_set():
        began = time.monotonic()
        if not await alice.put(room, f"well-behaved {number}", f"well-behaved {number}"):
            raise Wrong("somebody who behaves was refused")
        waits.append(time.monotonic() - began)
        number += 1
        await asyncio.sleep(0.05)
    return waits


def judged(waits, koine):
    if max(waits) > ANSWER_WITHIN_S:
        raise Wrong(f"somebody who behaves waited {max(waits):.1f} s")
    memory = koine.resident_mb()
    if memory > MEMORY_MAX_MB:
        raise Wrong(f"memory stands at {memory:.0f} MB")
    return f"the well-behaved waited {statistics.median(waits) * 1e3:.0f} ms, at most {max(waits) * 1e3:.0f} ms; memory {memory:.0f} MB"


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


async def many_connections(w):
    """ten thousand connections that ask for nothing"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + 1_000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Skipped(f"{hard} open files are too few")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))

    async def trouble(koine, session, alice, room):
        writers = []
        try:
            for number in range(CONNECTIONS):
                # One address has only so many ports.
                address = f"127.0.{1 + number // 5_000}.1"
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", koine.port, local_addr=(address, 0))
                except OSError:
                    continue
                writers.append(writer)
            await asyncio.sleep(2)
            return f"{len(writers)} connections"
        finally:
            for writer in writers:
                writer.transport.abort()

    return await while_behaving(w, trouble)


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


CASES = (flood, many_connections, slow_readers)
