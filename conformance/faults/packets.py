"""Two networks with one way between them, on which packets are late, lost, doubled, out of order, or all gone.

Each network is a namespace with one end of a veth pair. The other ends lie in a third namespace, and whatever comes out of one is put
into the other by this process, which does to it what it is told. The kernel's own way to do that, netem, is missing from many kernels.
Needs root.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import random
import socket
import struct
import subprocess

from koines import Skipped

CLONE_NEWNET = 0x40000000
EVERY_PROTOCOL = 3
# What a packet socket says of frames that it is itself to blame for.
PACKET_OUTGOING = 4
SIOCETHTOOL = 0x8946
# What the kernel leaves to hardware: nobody computes checksums or cuts segments behind our socket. From linux/ethtool.h.
OFFLOADS = {"receive checksums": 0x15, "send checksums": 0x17, "TSO": 0x1F, "GSO": 0x24, "GRO": 0x2C}
ADDRESSES = ("10.213.7.1", "10.213.7.2")
# At once, before others have their turn.
FRAMES_AT_ONCE = 64
FIN, SYN, RST = 0x01, 0x02, 0x04


def ip(*words, required=True):
    try:
        done = subprocess.run(["ip", *words], capture_output=True, text=True)
    except OSError as error:
        raise Skipped(f"needs iproute2: {error}") from error
    if required and done.returncode:
        raise Skipped(f"no network of our own: ip {' '.join(words)}: {done.stderr.strip()}")


@contextlib.contextmanager
def inside(namespace):
    """This thread makes its sockets there meanwhile. What is made there stays there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net", "rb") as home, open(f"/run/netns/{namespace}", "rb") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise Skipped(f"not let into a network of our own: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            if libc.setns(home.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "no way back into our own network")


def without_offloads(namespace, link):
    with inside(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for what, command in OFFLOADS.items():
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP16x", link.encode(), ctypes.addressof(value))
            try:
                fcntl.ioctl(any_socket, SIOCETHTOOL, request)
            except OSError as error:
                raise Skipped(f"{what} of a veth cannot be turned off: {error}") from error


class Between:
    """The two networks, and the way between them. `namespaces` and `ADDRESSES` are in the same order."""

    def __init__(self):
        mine = f"kf{os.getpid()}"
        self.namespaces = [f"{mine}-{end}" for end in ("one", "two")]
        self.middle = f"{mine}-middle"
        self.inner, self.outer = [f"{mine}i{n}" for n in (0, 1)], [f"{mine}o{n}" for n in (0, 1)]
        self.sockets = []
        self.carried = self.lost = self.doubled = 0
        self.be()
        self.mended()

    def be(self, *, delay_s=0.0, jitter_s=0.0, loses=0.0, doubles=0.0, apart=False):
        """What happens to packets from now on. Those with different delays overtake each other."""
        self.delay_s, self.jitter_s, self.loses, self.doubles, self.apart = delay_s, jitter_s, loses, doubles, apart

    def mended(self):
        """Forgets what came through."""
        # When the first packet came through, and the first that has news for a program at the other end: a connection that is taken,
        # or bytes on one that was not given up.
        self.first_packet_at = self.first_word_at = None

    def begin(self):
        if os.geteuid() != 0:
            raise Skipped("needs root, for networks of its own; connections that break are tried without: partition, black_hole, torn_wire")
        for namespace in (*self.namespaces, self.middle):
            ip("netns", "add", namespace)
        macs = [f"02:00:00:d5:07:0{n}" for n in (1, 2)]
        for n, (namespace, inner, outer) in enumerate(zip(self.namespaces, self.inner, self.outer)):
            peer = ["peer", "name", outer, "netns", self.middle]
            ip("link", "add", inner, "address", macs[n], "netns", namespace, "type", "veth", *peer)
            ip("-n", namespace, "address", "add", f"{ADDRESSES[n]}/24", "dev", inner)
            for link in ("lo", inner):
                ip("-n", namespace, "link", "set", link, "up")
            # Known for good: whoever is not found says so, and packets are to vanish without a word.
            ip("-n", namespace, "neighbour", "replace", ADDRESSES[1 - n], "lladdr", macs[1 - n], "dev", inner, "nud", "permanent")
            ip("-n", self.middle, "link", "set", outer, "up")
            without_offloads(namespace, inner)
            without_offloads(self.middle, outer)
        with inside(self.middle):
            for outer in self.outer:
                end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
                self.sockets.append(end)
                end.bind((outer, EVERY_PROTOCOL))
                end.setblocking(False)
        loop = asyncio.get_running_loop()
        for comes, goes in (self.sockets, self.sockets[::-1]):
            loop.add_reader(comes, self.take, comes, goes)

    def end(self):
        for end in self.sockets:
            asyncio.get_running_loop().remove_reader(end)
            end.close()
        self.sockets = []
        for namespace in (*self.namespaces, self.middle):
            # The links end with them.
            ip("netns", "delete", namespace, required=False)

    def take(self, comes, goes):
        for _ in range(FRAMES_AT_ONCE):
            try:
                frame, (_, _, kind, *_) = comes.recvfrom(65536)
            except (BlockingIOError, OSError):
                return
            if kind == PACKET_OUTGOING:
                continue
            if self.apart or random.random() < self.loses:
                self.lost += 1
                continue
            doubled = random.random() < self.doubles
            self.doubled += doubled
            for _ in range(1 + doubled):
                late_s = self.delay_s + random.uniform(-self.jitter_s, self.jitter_s)
                if late_s > 0:
                    asyncio.get_running_loop().call_later(late_s, self.put, goes, frame)
                else:
                    self.put(goes, frame)

    def put(self, goes, frame):
        if self.apart or goes.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            goes.send(frame)
            self.carried += 1
            self.note(frame)

    def note(self, frame):
        # Ethernet, IPv4 and TCP, of which the others have nothing to do with servers.
        if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
            return
        now = asyncio.get_running_loop().time()
        self.first_packet_at = self.first_packet_at or now
        flags = frame[14 + (frame[14] & 15) * 4 + 13]
        header = (frame[14] & 15) * 4 + (frame[14 + (frame[14] & 15) * 4 + 12] >> 4) * 4
        says = int.from_bytes(frame[16:18], "big") > header
        if (says or flags & SYN) and not flags & (FIN | RST):
            self.first_word_at = self.first_word_at or now
