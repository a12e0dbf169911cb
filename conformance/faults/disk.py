"""A disk that is slow, read-only or broken. One that is full is among the cases of `conformance/hostile`."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import time

import aiohttp
from koines import Koine, Person, Skipped, V3, Wrong, exactly_once, temporary_folder, until
from people import client_session

SLOW_S = 2.0
# Reading must not wait for the disk's writing; a busy machine has its own ideas of soon.
READ_WITHIN_S = 1.5
RECOVERS_WITHIN_S = 30


class Disk:
    """The one under a server, which does as it is told."""

    def __init__(self, folder):
        self.orders = os.path.join(folder, "disk")
        self.library = os.path.join(folder, "disk.so")
        source = os.path.join(os.path.dirname(__file__), "disk.c")
        if not shutil.which("cc"):
            raise Skipped("needs a C compiler")
        done = subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self.library, source, "-ldl"], capture_output=True, text=True)
        if done.returncode:
            raise Skipped(f"the faulty disk does not compile: {done.stderr.strip()[-200:]}")

    @property
    def environment(self):
        return {"LD_PRELOAD": self.library, "KOINE_FAULTS_DISK": self.orders}

    def is_(self, what):
        with open(self.orders + ".new", "w", encoding="ascii") as out:
            out.write(what)
        os.replace(self.orders + ".new", self.orders)


@contextlib.asynccontextmanager
async def on_such_a_disk(w):
    """A server on it, somebody with a room, and twenty messages."""
    with temporary_folder() as folder:
        disk = Disk(folder)
        koine = Koine(w.koine, os.path.join(folder, "koine"), environment=disk.environment)
        try:
            await koine.begin()
            async with client_session() as session:
                alice = await Person(koine.url, session).register("alice")
                room = (await alice.call("POST", f"{V3}/createRoom", {}))["room_id"]
                said = [f"before {number}" for number in range(20)]
                for text in said:
                    if not await alice.put(room, text, text):
                        raise Wrong("a message was not taken while the disk was well")
                yield disk, koine, alice, room, said
        finally:
            disk.is_("")
            koine.end()


async def reads_soon(alice, room):
    """What reading takes, at most, of some ways to read."""
    slowest = 0.0
    for path in (alice.room(room, "messages") + "?dir=b&limit=20", f"{V3}/sync", alice.room(room, "state")):
        began = time.monotonic()
        await alice.call("GET", path)
        slowest = max(slowest, time.monotonic() - began)
    return slowest


async def slow_disk(w):
    """each sync of the disk takes two seconds"""
    async with on_such_a_disk(w) as (disk, koine, alice, room, said):
        disk.is_(f"slow {SLOW_S}")
        began = time.monotonic()
        writing = asyncio.ensure_future(asyncio.gather(*(alice.put(room, f"slow {n}", f"slow {n}") for n in range(50))))
        slowest = 0.0
        while not writing.done():
            slowest = max(slowest, await reads_soon(alice, room))
            await asyncio.sleep(0.1)
        took = time.monotonic() - began
        if not all(writing.result()):
            raise Wrong("expected messages to be taken late, seen some refused")
        if took < SLOW_S:
            raise Wrong(f"fifty messages were acknowledged after {took:.1f} s, before a sync can have ended")
        if slowest > READ_WITHIN_S:
            raise Wrong(f"reading took {slowest:.1f} s while the disk was slow to sync")
        disk.is_("")
        said += [f"slow {n}" for n in range(50)]
        exactly_once("messages", said, await alice.everything_said(room))
        return f"50 messages at once took {took:.1f} s, the slowest reading meanwhile {slowest * 1e3:.0f} ms"


async def refusal(alice, room, text):
    """How a message was refused: status and errcode; None if it was taken."""
    path = alice.base_url + alice.room(room, "send", "m.room.message", text)
    headers = {"Authorization": f"Bearer {alice.token}"}
    try:
        async with alice.session.put(path, json={"msgtype": "m.text", "body": text}, headers=headers) as answer:
            return None if answer.status == 200 else (answer.status, (await answer.json()).get("errcode"))
    except aiohttp.ClientError:
        return 0, "no answer"


async def bad_disk(w, how):
    """Refuses with a clear error or ends with one sentence; either way nothing acknowledged is lost."""
    async with on_such_a_disk(w) as (disk, koine, alice, room, said):
        disk.is_(how)
        refused = None
        for number in range(200):
            refused = await refusal(alice, room, f"meanwhile {number}")
            if refused:
                break
            said.append(f"meanwhile {number}")
        if refused is None:
            raise Wrong(f"expected messages to be refused on a disk that is {how}, seen 200 taken")
        ended = await koine.ends_by_itself(3)
        if not ended:
            if refused[0] < 500 or not refused[1]:
                raise Wrong(f"expected a message to be refused with 5xx and an errcode, seen {refused}")
            await reads_soon(alice, room)
        disk.is_("")
        if ended:
            words = koine.last_words().strip().splitlines()
            if not words or "panicked" in koine.last_words():
                raise Wrong(f"expected one sentence at the end, seen {words[-3:]}")
            await koine.begin()
        takes = lambda: alice.put(room, "after", "after")
        await until("messages to be taken again", RECOVERS_WITHIN_S, takes)
        exactly_once("messages", [*said, "after"], await alice.everything_said(room))
        answer = " ".join(str(part) for part in refused)
        return f"a message was refused ({answer}), then " + (f"it ended: {words[-1][-150:]}" if ended else "it went on reading")


async def broken_disk(w):
    """a disk whose syncs fail"""
    return await bad_disk(w, "broken")


async def read_only_disk(w):
    """a disk that became read-only"""
    return await bad_disk(w, "read-only")


CASES = (slow_disk, broken_disk, read_only_disk)
