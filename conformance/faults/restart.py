"""Killed with much in store: how soon it is back."""

import os
import time

from koines import Koine, Person, V3, Wrong, temporary_folder
from overload import pressure
from people import client_session, quote

# Half of the events are in one room, the others in so many.
ROOMS = 16
SENDERS = 96
RESTARTS = 3
# Two seconds is what it should be, and is printed; the rest is for development builds and machines that are busy.
BACK_WITHIN_S = 15
# Written between two kills, so that each finds something that is in no place yet but the log of the store.
FRESH = 500


class Archive:
    """People who fill rooms, and somebody who knows what was said first and last in the largest."""

    async def begin(self, koine, session, events):
        self.koine, self.alice = koine, await Person(koine.url, session).register("alice")
        create = lambda: self.alice.call("POST", f"{V3}/createRoom", {"preset": "public_chat"})
        rooms = [(await create())["room_id"] for _ in range(ROOMS + 1)]
        self.large = rooms[0]
        self.says(await self.alice.put(self.large, "first", "first"))
        self.first, self.number = self.last, 0
        self.senders = []
        for number in range(SENDERS):
            person = await Person(koine.url, session).register(f"writer{number}")
            room = rooms[0] if number % 2 else rooms[1 + number // 2 % ROOMS]
            await person.join(room)
            self.senders.append({"name": f"w{number}", "token": person.token, "room": room})
        began = time.monotonic()
        await self.write(events)
        self.took = time.monotonic() - began

    def says(self, event):
        if not event:
            raise Wrong("a message was not taken")
        self.last = event

    async def write(self, events):
        self.number += 1
        press = {"protocol": "matrix", "port": self.koine.port, "senders": self.senders, "window": 8, "label": f"fill{self.number}"}
        told = await pressure(**press, count=events, seconds=24 * 3600, to_the_end=True)
        if told["counts"] != {"taken": events}:
            raise Wrong(f"expected {events} messages to be taken, seen {told['counts']}")
        self.says(await self.alice.put(self.large, f"last {self.number}", f"last {self.number}"))

    async def page_is_right(self):
        """The newest page ends with what was said last, the oldest page has what was said first."""
        path = self.alice.room(self.large, "messages")
        newest = await self.alice.call("GET", f"{path}?dir=b&limit=50")
        if newest["chunk"][0]["event_id"] != self.last or len(newest["chunk"]) != 50:
            raise Wrong(f"the newest page begins with {newest['chunk'][:1]}, expected {self.last}")
        oldest = await self.alice.call("GET", f"{path}?dir=f&limit=50")
        if self.first not in [event["event_id"] for event in oldest["chunk"]]:
            raise Wrong("what was said first is not on the oldest page")


def forgotten_by_the_kernel(folder):
    """So that what is read is read from the disk; the megabytes there are."""
    total = 0
    for where, _, names in os.walk(folder):
        for path in (os.path.join(where, name) for name in names):
            if not os.path.isfile(path):
                continue
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                total += os.fstat(file.fileno()).st_size
    return total / 1e6


async def restart_with_a_million(w):
    """killed with many events in store"""
    with temporary_folder() as folder:
        koine = Koine(w.koine, folder)
        starts, pages, writes = [], [], []
        try:
            await koine.begin()
            async with client_session() as session:
                archive = Archive()
                await archive.begin(koine, session, w.events)
                for _ in range(RESTARTS):
                    await archive.write(FRESH)
                    koine.kill()
                    megabytes = forgotten_by_the_kernel(koine.data)
                    began = time.monotonic()
                    starts.append(await koine.begin())
                    await archive.page_is_right()
                    pages.append(time.monotonic() - began)
                    archive.says(await archive.alice.put(archive.large, f"again {len(writes)}", "again"))
                    writes.append(time.monotonic() - began)
                memory = koine.resident_mb()
        finally:
            koine.end()
        if max(starts) > BACK_WITHIN_S:
            raise Wrong(f"it took {max(starts):.1f} s until it answered")
        times = lambda some: "/".join(f"{one:.2f}" for one in some)
        return (
            f"{w.events} events, written in {archive.took:.0f} s, {megabytes:.0f} MB that the kernel had to read again; {times(starts)} s until "
            f"it answered, {times(pages)} s until the newest and the oldest page were right, {times(writes)} s until a message was taken; "
            f"memory {memory:.0f} MB"
        )


CASES = (restart_with_a_million,)
