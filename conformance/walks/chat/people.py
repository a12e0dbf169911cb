"""What the walk with koine-chat needs: accounts, the program as scripts call it, and the program in a pretend terminal."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
import time
import urllib.request

import pyte

# A dev build on a busy machine; a step that needs longer than this hangs.
PATIENCE = 120


class Wrong(Exception):
    """What was expected, and what was seen."""


def expect(what, wanted, seen):
    if wanted != seen:
        raise Wrong(f"{what}: expected {wanted!r}, saw {seen!r}")


def expect_that(what, holds, seen=""):
    if not holds:
        raise Wrong(f"{what}: {seen}")


def register(base, name):
    """An account with the password `pw-<name>`; its device is logged out again."""
    body = {"username": name, "password": f"pw-{name}", "auth": {"type": "m.login.dummy"}, "inhibit_login": True}
    request = urllib.request.Request(
        f"{base}/_matrix/client/v3/register", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["user_id"]


class Chat:
    """koine-chat with one data folder and one account."""

    def __init__(self, program, base, folder, account):
        self.program, self.base, self.folder, self.account = program, base, folder, account

    def words(self, args):
        return [self.program, "--json", "--data-dir", self.folder, "--account", self.account, *args]

    def environment(self, **more):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KOINE_CHAT")}
        return {**kept, "KOINE_CHAT_HOMESERVER": self.base, **more}

    def run(self, *args, code=0, stdin="", **env):
        """Runs a command to its end; its JSON lines. The exit code must be `code`."""
        done = subprocess.run(
            self.words(args), input=stdin, capture_output=True, text=True, timeout=PATIENCE, env=self.environment(**env)
        )
        if done.returncode != code:
            raise Wrong(f"{args}: exit code {done.returncode}, expected {code}\n{done.stdout}{done.stderr}")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        if code:
            failure = json.loads(done.stderr.splitlines()[-1])
            expect("the code in the last line", code, failure["code"])
            lines.append(failure)
        return lines

    def one(self, *args, **more):
        """The only line a command answers with."""
        lines = self.run(*args, **more)
        expect(f"lines of {args}", 1, len(lines))
        return lines[0]

    def begin(self, *args, **env):
        return Running(self.words(args), self.environment(**env))

    def log_in(self, user, password, code=0):
        return self.run("login", user, code=code, KOINE_CHAT_PASSWORD=password)[-1]

    def messages(self, room, *args):
        """The events of a room, oldest first."""
        return [line for line in self.run("read", room, *args) if line["type"] == "event"]


class Running:
    """A command that is still going on, read line by line."""

    def __init__(self, words, environment):
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.watchdog = threading.Timer(PATIENCE, self.process.kill)
        self.watchdog.start()

    def until(self, fits):
        """The first line that fits."""
        for text in self.process.stdout:
            line = json.loads(text)
            if fits(line):
                return line
        self.watchdog.cancel()
        raise Wrong(f"{self.process.args} ended before the line came: {self.process.stderr.read()}")

    def kind(self, kind):
        return self.until(lambda line: line["type"] == kind)

    def say(self, text):
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def end(self, code=0):
        self.process.stdin.close()
        rest = self.process.stdout.read()
        errors = self.process.stderr.read()
        seen = self.process.wait(PATIENCE)
        self.watchdog.cancel()
        if seen != code:
            raise Wrong(f"{self.process.args}: exit code {seen}, expected {code}\n{rest}{errors}")
        return [json.loads(line) for line in rest.splitlines()]


class Screen:
    """koine-chat on a pretend terminal."""

    def __init__(self, program, folder, *args, size=(100, 30)):
        columns, rows = size
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.began = time.monotonic()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("KOINE_CHAT")}
            environment["TERM"] = "xterm-256color"
            os.execve(program, [program, "--data-dir", folder, *args], environment)
        self.resize(columns, rows)

    def resize(self, columns, rows):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if columns and rows:
            self.screen.resize(rows, columns)

    def type(self, text):
        os.write(self.fd, text.encode())

    def text(self):
        # pyte's own `display` trips over the second half of a wide letter whose first half was overwritten.
        rows = (self.screen.buffer[row] for row in range(self.screen.lines))
        return "\n".join("".join(row[column].data for column in range(self.screen.columns)) for row in rows)

    def until(self, fits, what):
        """Reads until the screen fits; milliseconds since the start."""
        deadline = time.monotonic() + PATIENCE
        while not fits(self.text()):
            ready, _, _ = select.select([self.fd], [], [], 1)
            if ready:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:
                    data = b""
                if not data:
                    raise Wrong(f"the screen ended; wanted {what}; last seen:\n{self.text()}")
                self.stream.feed(data)
            if time.monotonic() > deadline:
                raise Wrong(f"the screen does not show {what}:\n{self.text()}")
        return round((time.monotonic() - self.began) * 1000)

    def shows(self, text):
        return self.until(lambda seen: text in seen, repr(text))

    def memory_kib(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    def close(self, keys="\x11"):
        """Ctrl-Q; the exit code."""
        if keys:
            self.type(keys)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self.fd], [], [], 0.1)
            try:
                if ready and os.read(self.fd, 65536):
                    continue
            except OSError:
                pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        raise Wrong("the screen does not close")
