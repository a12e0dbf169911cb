"""A stream of XMPP without a library: as fast as bytes can be written, or as slow as we like.

In the clear, which koine allows on loopback for tests; with SCRAM, since a password is not taken so. [RFC 6120] [RFC 5802]
"""

import asyncio
import base64
import hashlib
import hmac
import os
import re
import socket

from people import PASSWORD, Wrong

LOG_IN_WITHIN_S = 60
HEADER = "<?xml version='1.0'?><stream:stream to='{host}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
ACK = re.compile(rb"<a [^>]*h=['\"](\d+)['\"]")


class Stream:
    """Logs in and counts by stream management. Whoever uses it reads and writes `reader` and `writer` themselves."""

    def __init__(self, port, host, name, receive_buffer=None):
        self.port, self.host, self.name, self.receive_buffer = port, host, name, receive_buffer
        self.left = b""

    async def connect(self):
        made = socket.socket()
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.receive_buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", self.port))
        self.reader, self.writer = await asyncio.open_connection(sock=made, limit=self.receive_buffer or 65536)

    async def says(self, text):
        """Writes that; other writers are slower."""
        self.writer.write(text.encode())
        await self.writer.drain()

    async def until(self, pattern):
        """Reads until that comes; the match. What is behind it stays."""
        while not (found := re.search(pattern, self.left, re.DOTALL)):
            if wrong := re.search(rb"<stream:error.*|<failure.*", self.left, re.DOTALL):
                raise Wrong(f"{self.name}: {wrong[0][:300]!r} instead of {pattern!r}")
            if not (data := await self.reader.read(65536)):
                raise ConnectionResetError(f"the stream of {self.name} ended")
            self.left += data
        self.left = self.left[found.end() :]
        return found

    async def log_in(self):
        await asyncio.wait_for(self.log_in_at_leisure(), LOG_IN_WITHIN_S)
        return self

    async def log_in_at_leisure(self):
        await self.connect()
        await self.says(HEADER.format(host=self.host))
        await self.until(rb"</stream:features>")
        ours = f"n={self.name},r={base64.b64encode(os.urandom(12)).decode()}"
        await self.says(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>{base64.b64encode(b'n,,' + ours.encode()).decode()}</auth>")
        theirs = base64.b64decode((await self.until(rb"<challenge[^>]*>([^<]*)<"))[1]).decode()
        parts = dict(part.split("=", 1) for part in theirs.split(","))
        salted = hashlib.pbkdf2_hmac("sha1", PASSWORD.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha1")
        final = f"c={base64.b64encode(b'n,,').decode()},r={parts['r']}"
        signature = hmac.digest(hashlib.sha1(client_key).digest(), f"{ours},{theirs},{final}".encode(), "sha1")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature))).decode()
        await self.says(f"<response xmlns='{SASL}'>{base64.b64encode(f'{final},p={proof}'.encode()).decode()}</response>")
        await self.until(rb"<success[^>]*>[^<]*</success>|<success[^>]*/>")
        await self.says(HEADER.format(host=self.host))
        await self.until(rb"</stream:features>")
        await self.says("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        await self.until(rb"<iq[^>]*id=.bind.*?</iq>")
        await self.says("<enable xmlns='urn:xmpp:sm:3'/>")
        await self.until(rb"<enabled[^>]*/>")

    async def until_acknowledged(self, count):
        """Asks how many stanzas the server has, until it has so many."""
        await self.says("<r xmlns='urn:xmpp:sm:3'/>")
        while int((await self.until(ACK.pattern))[1]) < count:
            pass

    def end(self):
        if getattr(self, "writer", None):
            self.writer.transport.abort()
