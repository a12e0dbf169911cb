"""Profanity in a terminal of its own (tmux, without a screen): keys go in, and what a person would see comes out."""

import asyncio
import os
import pathlib
import shlex
import subprocess
import tempfile
import time

# What walks of XMPP share lies beside slixmpp's.
from people import PASSWORD, Wrong

# How long something may take until it is on the screen.
SHOWN_WITHIN_S = 20
COLUMNS, LINES = 180, 60

SETTINGS = """\
[ui]
splash=false
[connection]
tls.certpath=none
[chatstates]
enabled=true
outtype=true
"""


class Profanity:
    """One program, with settings and files of its own."""

    def __init__(self, name):
        self.name = name
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="koine-profanity-"))
        settings = self.home / "config/profanity"
        settings.mkdir(parents=True)
        (settings / "profrc").write_text(SETTINGS)
        # A server of tmux that nobody else speaks to.
        self.tmux = ["tmux", "-S", str(self.home / "tmux"), "-f", "/dev/null"]

    def _tmux(self, *args):
        done = subprocess.run([*self.tmux, *args], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Wrong(f"tmux {args[0]}: {done.stderr.strip()}")
        return done.stdout

    def start(self):
        places = {"XDG_CONFIG_HOME": self.home / "config", "XDG_DATA_HOME": self.home / "data", "HOME": self.home}
        program = " ".join(f"{name}={shlex.quote(str(place))}" for name, place in places.items())
        locale = "LC_ALL=C.UTF-8"
        self._tmux("new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES), f"env {locale} {program} profanity -l DEBUG")

    def screen(self):
        return self._tmux("capture-pane", "-p")

    def log(self):
        """What it did and what went over the wire, as far as it tells."""
        logs = sorted((self.home / "data/profanity/logs").glob("profanity*.log"))
        return "".join(path.read_text(errors="replace") for path in logs)

    def types(self, text):
        """Keys, without the last one that sends them."""
        self._tmux("send-keys", "-l", "--", text)

    def says(self, text):
        self.types(text)
        self._tmux("send-keys", "Enter")

    async def shows(self, text, within_s=SHOWN_WITHIN_S):
        """Waits until a text is on the screen; the whole screen."""
        return await self._until(f"{text!r} on the screen", lambda: text in self.screen(), within_s)

    async def logs(self, *texts, within_s=SHOWN_WITHIN_S):
        """Waits until a line of its log has all of these texts."""
        holds = lambda: any(all(text in line for text in texts) for line in self.log().splitlines())
        return await self._until(f"{texts} in the log", holds, within_s)

    async def _until(self, what, holds, within_s):
        deadline = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > deadline:
                raise Wrong(f"{self.name} expected {what} within {within_s} s; the screen:\n{self.screen()}")
            await asyncio.sleep(0.1)
        return self.screen()

    async def log_in(self, jid, port):
        self.start()
        await self.shows("Type '/help'")
        self.says(f"/connect {jid} server 127.0.0.1 port {port} tls trust")
        await self.shows("Enter password:")
        self.says(PASSWORD)
        await self.shows("logged in successfully")

    def end(self):
        subprocess.run([*self.tmux, "kill-server"], capture_output=True, check=False)
        for place, folders, files in os.walk(self.home, topdown=False):
            for file in files:
                os.unlink(os.path.join(place, file))
            for folder in folders:
                os.rmdir(os.path.join(place, folder))
        self.home.rmdir()
