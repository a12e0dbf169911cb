"""Passes connections on until they are cut: what a network does on a bad day."""

import asyncio
import socket
import struct


class Cuttable:
    """Everything that comes to one address and port goes on to another."""

    def __init__(self, at, to):
        self.at, self.to = at, to
        self.server = None
        self.writers = set()
        self.tasks = set()
        self.was_used = False

    async def start(self):
        self.server = await asyncio.start_server(self._begin, *self.at)

    def _begin(self, reader, writer):
        task = asyncio.ensure_future(self._pass(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def stop(self):
        self.server.close()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass(self, reader, writer):
        try:
            other_reader, other_writer = await asyncio.open_connection(*self.to)
        except OSError:
            writer.close()
            return
        self.was_used = True
        both = {writer, other_writer}
        self.writers |= both
        ways = [self._copy(reader, other_writer), self._copy(other_reader, writer)]
        await asyncio.gather(*ways, return_exceptions=True)
        self.writers -= both

    async def _copy(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def cut(self):
        """All connections end without a word; how many there were."""
        cut = len(self.writers)
        for writer in self.writers:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self.writers.clear()
        return cut
