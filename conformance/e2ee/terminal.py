"""Devices that are koine-chat: each a folder of its own, and a process that is told what to do (`koine-chat run`)."""

import asyncio
import base64
import json
import os
import subprocess
import time
import urllib.request

from koines import Wrong

# What a command may take at most; a debug build on a busy machine is slow, and hangs are told apart from that.
COMMAND_WITHIN_S = 120
LOOK_EVERY_S = 0.2


class Refused(Wrong):
    """A command that ended with another code than 0."""

    def __init__(self, words, code, message):
        super().__init__(f"koine-chat {' '.join(words)}: code {code}: {message}")
        self.code = code


class Terminal:
    """One device."""

    def __init__(self, program, folder, base):
        self.program, self.folder, self.base, self.process = program, folder, base, None

    def words(self, *more):
        return [self.program, "--json", "--data-dir", self.folder, *more]

    def environment(self, **more):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KOINE_CHAT")}
        return {**kept, "KOINE_CHAT_HOMESERVER": self.base, **more}

    async def once(self, *words, **environment):
        """A command in a process of its own; the last line of its answer."""
        done = await asyncio.to_thread(
            subprocess.run, self.words(*words), capture_output=True, stdin=subprocess.DEVNULL,
            timeout=COMMAND_WITHIN_S, env=self.environment(**environment),
        )  # fmt: skip
        if done.returncode:
            raise Refused(words, done.returncode, done.stderr.decode(errors="replace").strip())
        return json.loads(done.stdout.splitlines()[-1])

    async def begin(self):
        pipe = asyncio.subprocess.PIPE
        words = self.words("run")
        self.process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, env=self.environment(), limit=1 << 24)

    async def ask(self, *words):
        """A command in the process that is there; the lines of its answer."""
        self.process.stdin.write((json.dumps(words) + "\n").encode())
        await self.process.stdin.drain()
        lines = []
        while line := await asyncio.wait_for(self.process.stdout.readline(), COMMAND_WITHIN_S):
            line = json.loads(line)
            if line["type"] != "ran":
                lines.append(line)
            elif line["code"]:
                raise Refused(words, line["code"], line.get("message"))
            else:
                return lines
        raise Wrong(f"koine-chat ended during {words}")

    async def end(self, kill=False):
        if not self.process or self.process.returncode is not None:
            return
        if kill:
            self.process.kill()
        else:
            self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), COMMAND_WITHIN_S)
        except asyncio.TimeoutError:
            self.process.kill()
            raise Wrong("koine-chat does not end") from None


class Terminals:
    """All of them, told what to do in the words of the other devices' processes."""

    def __init__(self, program, folder):
        self.program, self.folder, self.devices = program, folder, {}

    async def do(self, what, device, **more):
        return await getattr(self, what)(device, **more)

    async def end(self):
        for terminal in self.devices.values():
            await terminal.end()

    async def see(self, what, within_ms, look):
        """What `look` finds, as soon as it finds something."""
        deadline = time.monotonic() + within_ms / 1e3
        while True:
            if found := await look():
                return found
            if time.monotonic() > deadline:
                raise Wrong(f"koine-chat does not see {what} within {within_ms} ms")
            await asyncio.sleep(LOOK_EVERY_S)

    async def begin(self, device, base, user, password, make, recovery_key, within_ms):
        if make:
            await asyncio.to_thread(register, base, user, password)
        folder = os.path.join(self.folder, device.replace(" ", "-"))
        terminal = self.devices[device] = Terminal(self.program, folder, base)
        made = await terminal.once("login", user, KOINE_CHAT_PASSWORD=password)
        if recovery_key:
            await terminal.once("recover", KOINE_CHAT_RECOVERY_KEY=recovery_key)
        with open(os.path.join(folder, "accounts", made["account"], "account.json"), "rb") as account:
            token = json.load(account)["access_token"]
        await terminal.begin()
        return {"user_id": made["user_id"], "device_id": made["device_id"], "access_token": token}

    async def restart(self, device, within_ms):
        """Killed, and begun again on what it kept."""
        await self.devices[device].end(kill=True)
        await self.devices[device].begin()
        return {}

    async def create(self, device, within_ms, invite=(), rotation_ms=None):
        more = [word for user in invite for word in ("--invite", user)]
        more += ["--rotation-ms", str(rotation_ms)] if rotation_ms else []
        return {"room": (await self.devices[device].ask("create", "A room", *more))[0]["room_id"]}

    async def join(self, device, room, within_ms, via=()):
        await self.devices[device].ask("join", room, *(word for server in via for word in ("--via", server)))
        return {}

    async def knows(self, device, room, joined, within_ms):
        async def look():
            rooms = [line for line in await self.devices[device].ask("rooms") if line["room_id"] == room]
            members = await self.devices[device].ask("members", room) if rooms else []
            return rooms and rooms[0].get("encrypted") and sum(line["membership"] == "join" for line in members) == joined

        await self.see(f"{joined} members of an encrypted room", within_ms, look)
        return {}

    async def say(self, device, room, body, within_ms):
        (sent,) = await self.devices[device].ask("send", room, body)
        return {"event_id": sent["event_id"], "session_id": sent.get("session_id")}

    async def read(self, device, room, event, within_ms):
        failure = "not there"

        async def look():
            nonlocal failure
            try:
                (line,) = await self.devices[device].ask("read", room, "--event", event)
            except Refused:
                return None
            failure = line["encryption"]["code"]
            return line.get("body")

        try:
            return {"body": await self.see("a readable event", within_ms, look)}
        except Wrong:
            return {"failure": failure}

    async def upload(self, device, room, data, within_ms):
        """Sends bytes as a file."""
        path = os.path.join(self.folder, "attached.bin")
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
        (sent,) = await self.devices[device].ask("upload", room, path)
        os.unlink(path)
        return {"event_id": sent["event_id"], "encrypted": sent["encrypted"]}

    async def sees_devices(self, device, user, count, within_ms):
        async def look():
            return sum(line["encrypts"] for line in await self.devices[device].ask("devices", user)) == count

        await self.see(f"{count} devices of {user}", within_ms, look)
        return {}


def register(base, user, password):
    """An account; the device that comes with it is none that anybody uses."""
    body = {"username": user, "password": password, "auth": {"type": "m.login.dummy"}, "inhibit_login": True}
    request = urllib.request.Request(
        f"{base}/_matrix/client/v3/register", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)
