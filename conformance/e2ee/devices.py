"""Devices with matrix-nio and its end-to-end encryption, told what to do by lines of JSON like those of devices.mjs.

Each line in has an `id`, what to `do` and its arguments; each line out has the `id` and what came of it, or an `error`. What a device
cannot read comes as `failure` with the library's own words for the reason.
"""

import asyncio
import json
import logging
import sys
import time

import aiohttp
from nio import AsyncClient, AsyncClientConfig, EncryptionError, MegolmEvent
from nio.responses import ErrorResponse
from nio.store import SqliteMemoryStore

POLL_MS = 2000
LOOK_EVERY_S = 0.05
V3 = "/_matrix/client/v3"


def fine(response):
    if isinstance(response, ErrorResponse):
        raise RuntimeError(str(response))
    return response


async def see(what, within_ms, look):
    deadline = time.monotonic() + within_ms / 1e3
    while not (found := look()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} is not seen within {within_ms} ms")
        await asyncio.sleep(LOOK_EVERY_S)
    return found


class Devices:
    """What can be done."""

    def __init__(self):
        self.clients, self.syncing = {}, []

    async def begin(self, device, base, user, password, make, within_ms, recovery_key=None):
        """A new device of an account, which is made if it is not there and `make` is set."""
        where, body = "login", {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": user}, "password": password}
        if make:
            where, body = "register", {"username": user, "password": password, "auth": {"type": "m.login.dummy"}}
        async with aiohttp.ClientSession() as session, session.post(f"{base}{V3}/{where}", json=body) as answer:
            account = await answer.json()
        if "access_token" not in account:
            raise RuntimeError(str(account))
        config = AsyncClientConfig(encryption_enabled=True, store=SqliteMemoryStore)
        client = self.clients[device] = AsyncClient(base, account["user_id"], config=config)
        client.restore_login(account["user_id"], account["device_id"], account["access_token"])
        self.syncing.append(asyncio.ensure_future(client.sync_forever(timeout=POLL_MS, full_state=True)))
        # Keys are uploaded after the first sync.
        await see("that the keys are uploaded", within_ms, lambda: client.olm.account.shared)
        return {name: account[name] for name in ("user_id", "device_id", "access_token")}

    async def join(self, device, room, within_ms, via=()):
        fine(await self.clients[device].join(room))
        return {}

    async def knows(self, device, room, joined, within_ms):
        client = self.clients[device]

        def look():
            known = client.rooms.get(room)
            return known is not None and known.encrypted and known.joined_count == joined

        await see(f"{joined} members of an encrypted room", within_ms, look)
        return {}

    async def say(self, device, room, body, within_ms):
        """Says something; the event, the session it was encrypted with."""
        client = self.clients[device]
        content = {"msgtype": "m.text", "body": body}
        sent = fine(await client.room_send(room, "m.room.message", content, ignore_unverified_devices=True))
        return {"event_id": sent.event_id, "session_id": client.olm.outbound_group_sessions[room].id}

    async def read(self, device, room, event, within_ms):
        """What stands in an event, or why it cannot be read."""
        client, failure = self.clients[device], "not there"
        deadline = time.monotonic() + within_ms / 1e3
        while time.monotonic() < deadline:
            found = await client.room_get_event(room, event)
            if not isinstance(found, ErrorResponse):
                found = found.event
                if not isinstance(found, MegolmEvent):
                    return {"body": found.body}
                found.room_id = room
                try:
                    return {"body": client.decrypt_event(found).body}
                except EncryptionError as error:
                    failure = str(error)
            await asyncio.sleep(LOOK_EVERY_S)
        return {"failure": failure}

    async def sees_devices(self, device, user, count, within_ms):
        store = self.clients[device].device_store
        await see(f"{count} devices of {user}", within_ms, lambda: len(list(store.active_user_devices(user))) == count)
        return {}


async def main():
    logging.disable(logging.CRITICAL)
    devices = Devices()
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def answer(id, do, **more):
        try:
            seen = await getattr(devices, do)(**more)
        except Exception as error:  # Whatever it was, whoever asked is told.
            seen = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"id": id, **seen}), flush=True)

    going = set()
    while line := await reader.readline():
        task = asyncio.ensure_future(answer(**json.loads(line)))
        going.add(task)
        task.add_done_callback(going.discard)
    for task in devices.syncing:
        task.cancel()
    for client in devices.clients.values():
        await client.close()


asyncio.run(main())
