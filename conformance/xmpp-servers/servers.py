"""Two Koine servers, Prosody and ejabberd, each on an address of its own, with certificates of one authority.

All run in a network of their own (see `walk.py`), so they have the ports that servers usually have, and a name server that knows
nobody else. Servers reach each other through connections that the walk can cut.
"""

import datetime
import glob
import os
import signal
import socket
import subprocess
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cuttable import Cuttable

READY_WITHIN_S = 120
ENDS_WITHIN_S = 15
NAME_SERVER = "127.0.9.53"
COMPONENT_SECRET = "a long random text"

ONE, TWO, PROSODY, EJABBERD = "one.test", "two.test", "prosody.test", "ejabberd.test"
# Hosts of Prosody: one that knows nothing but dialback, one that the second Koine does not talk to, one whose certificate is for
# somebody else.
DIALBACK, BLOCKED, LIAR = "dialback.test", "blocked.test", "liar.test"
ADDRESSES = {ONE: "127.0.9.1", TWO: "127.0.9.2", PROSODY: "127.0.9.3", EJABBERD: "127.0.9.4"}
# Where other servers are told that they are.
OUTSIDE = {ONE: "127.0.9.11", TWO: "127.0.9.12", PROSODY: "127.0.9.13", EJABBERD: "127.0.9.14"}
HOSTS = {
    ONE: [ONE, f"rooms.{ONE}", f"upload.{ONE}", f"echo.{ONE}"],
    TWO: [TWO, f"rooms.{TWO}", f"upload.{TWO}"],
    PROSODY: [PROSODY, f"conference.{PROSODY}", DIALBACK, BLOCKED],
    EJABBERD: [EJABBERD, f"conference.{EJABBERD}"],
}


class Authority:
    """Signs the servers' certificates."""

    def __init__(self, folder):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the walk")])
        builder = self.builder(self.name, self.key).add_extension(x509.BasicConstraints(True, 0), critical=True)
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        self.file = os.path.join(folder, "authority.pem")
        certificate = builder.add_extension(usage, critical=True).sign(self.key, hashes.SHA256())
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        with open(self.file, "wb") as out:
            out.write(self.pem)

    def builder(self, subject, key):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))

    def certify(self, folder, hosts):
        """Files with a certificate for these hosts, its key, and both together."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = self.builder(subject, key).add_extension(names, critical=False).add_extension(usage, critical=False)
        certificate = builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        unprotected = serialization.NoEncryption()
        key = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unprotected)
        files = [os.path.join(folder, name) for name in ("server.crt", "server.key", "server.pem")]
        for path, content in zip(files, (certificate, key, certificate + key)):
            with open(path, "wb") as out:
                out.write(content)
            os.chmod(path, 0o644)
        return files


class Server:
    """One server."""

    def __init__(self, name, folder):
        self.name, self.address = name, ADDRESSES[name]
        self.folder = os.path.join(folder, name)
        self.process = None
        os.makedirs(self.folder)

    @property
    def log(self):
        return os.path.join(self.folder, "server.log")

    def has_logged(self, *parts):
        """Whether one line of the log has all of these."""
        for path in glob.glob(os.path.join(self.folder, "*.log")):
            with open(path, encoding="utf-8", errors="replace") as lines:
                if any(all(part in line for part in parts) for line in lines):
                    return True
        return False

    def begin(self, command, environment=None):
        self.begun = (command, environment)
        with open(self.log, "ab") as log:
            environment = {**os.environ, **(environment or {})}
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=environment
            )

    def begin_again(self):
        self.end()
        self.begin(*self.begun)
        self.await_ready()

    def await_ready(self):
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended before it was ready ({self.process.returncode}); see {self.log}")
            try:
                for port in (5222, 5269):
                    socket.create_connection((self.address, port), timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"{self.name} is not ready after {READY_WITHIN_S} s; see {self.log}")

    def end(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Servers:
    """All of them, and the ways between them."""

    def __init__(self, folder, koine, names):
        self.folder, self.koine, self.names = folder, koine, names
        self.authority = Authority(folder)
        self.all = {name: Server(name, folder) for name in ADDRESSES}
        self.ways = {}

    async def start(self):
        for name, outside in OUTSIDE.items():
            way = Cuttable((outside, 5269), (ADDRESSES[name], 5269))
            self.ways[name] = way
            await way.start()
            hosts = HOSTS[name] + ([LIAR] if name == PROSODY else [])
            for host in hosts:
                self.names.host(host, outside)
                self.names.service("_xmpp-server._tcp", host, f"s2s.{name}", 5269)
            self.names.host(f"s2s.{name}", outside)
        # Those that begin with TLS are found by what their records say, and by nothing else.
        direct = Cuttable((OUTSIDE[TWO], 5270), (ADDRESSES[TWO], 5270))
        await direct.start()
        self.ways[f"{TWO} by TLS"] = direct
        for host in HOSTS[TWO]:
            self.names.service("_xmpps-server._tcp", host, f"s2s.{TWO}", 5270, priority=1)
        begin = {ONE: self.begin_koine, TWO: self.begin_koine, PROSODY: self.begin_prosody, EJABBERD: self.begin_ejabberd}
        for name, server in self.all.items():
            begin[name](server, *self.authority.certify(server.folder, HOSTS[name]))
        for server in self.all.values():
            server.await_ready()

    def cut(self):
        """Cuts every connection between servers; how many ends there were."""
        return sum(way.cut() for way in self.ways.values())

    async def stop(self):
        for server in self.all.values():
            server.end()
        for way in self.ways.values():
            await way.stop()

    def begin_koine(self, server, certificate, key, _):
        path = os.path.join(server.folder, "koine.toml")
        more = KOINE_ONE if server.name == ONE else KOINE_TWO
        with open(path, "w", encoding="utf-8") as out:
            out.write((KOINE + more).format(server=server, certificate=certificate, key=key, authority=self.authority.file))
        log = os.environ.get("KOINE_LOG", "info,koine_xmpp=debug,koine_net=debug")
        server.begin([self.koine, "serve", "--config", path], {"KOINE_LOG": log})

    def begin_prosody(self, server, certificate, key, _):
        plugins = os.path.join(server.folder, "plugins")
        os.makedirs(plugins)
        with open(os.path.join(plugins, "mod_dialback_alone.lua"), "w", encoding="utf-8") as out:
            out.write(DIALBACK_ALONE)
        path = os.path.join(server.folder, "prosody.cfg.lua")
        with open(path, "w", encoding="utf-8") as out:
            out.write(PROSODY_CONFIG % {
                "folder": server.folder, "address": server.address, "certificate": certificate, "key": key,
                "authority": self.authority.file,
            })  # fmt: skip
        server.begin(["prosody", "-F", "--config", path])

    def begin_ejabberd(self, server, _certificate, _key, both):
        path = os.path.join(server.folder, "ejabberd.yml")
        with open(path, "w", encoding="utf-8") as out:
            out.write(EJABBERD_CONFIG % {"address": server.address, "certificate": both, "authority": self.authority.file})
        environment = {
            "EJABBERD_CONFIG_PATH": path, "EJABBERD_LOG_PATH": os.path.join(server.folder, "ejabberd.log"),
            "HOME": server.folder, "ERL_CRASH_DUMP": os.path.join(server.folder, "crash"),
        }  # fmt: skip
        # Not by `ejabberdctl`, which would run it as another user and as a node of a cluster.
        code = sorted(glob.glob("/usr/lib/*/ejabberd-*/ebin/ejabberd.app"))[0]
        mnesia = ["-mnesia", "dir", f'"{server.folder}/mnesia"']
        server.begin(["erl", "-noinput", "-pa", os.path.dirname(code), *mnesia, "-s", "ejabberd"], environment)


KOINE = """\
server_name = "{server.name}"
data_dir = "{server.folder}/data"
public_base_url = "http://{server.address}:8008"

[accounts]
registration = "open"

[accounts.limits.registration]
burst = 1000
per_second = 1000.0

[accounts.limits.message]
burst = 10000
per_second = 10000.0

[federation.network]
allow_ranges = ["127.0.0.0/8"]
extra_authorities = "{authority}"
backoff_max_s = 2

[tls]
certificate = "{certificate}"
key = "{key}"

[metrics]
enabled = false

[[listeners]]
address = "{server.address}:8008"

[[listeners]]
address = "{server.address}:5222"
serves = "xmpp-client"

[[listeners]]
address = "{server.address}:5269"
serves = "xmpp-server"

[[listeners]]
address = "{server.address}:5270"
serves = "xmpp-server"
tls = true
"""

KOINE_ONE = f"""
[[listeners]]
address = "{{server.address}}:5347"
serves = "xmpp-component"

[xmpp]
components = [{{{{ host = "echo.{ONE}", secret = "{COMPONENT_SECRET}" }}}}]
"""

KOINE_TWO = f"""
[xmpp]
blocked_servers = ["{BLOCKED}"]
"""

# Takes the mechanisms out of what streams of servers offer, whoever offers it.
DIALBACK_ALONE = """\
local function without(features)
    features:maptags(function(tag) if tag.name ~= "mechanisms" then return tag end end)
end
module:hook("s2s-stream-features", function(event) without(event.features) end, -1000)
module:hook_tag("http://etherx.jabber.org/streams", "features", function(session, stanza)
    if session.type == "s2sout_unauthed" then without(stanza) end
end, 1000)
"""

PROSODY_CONFIG = """\
run_as_root = true
pidfile = "%(folder)s/prosody.pid"
data_path = "%(folder)s/data"
plugin_paths = { "%(folder)s/plugins" }
interfaces = { "%(address)s" }
c2s_direct_tls_ports = {}
s2s_direct_tls_ports = {}
http_ports = {}
https_ports = {}
modules_enabled = {
    "roster", "saslauth", "tls", "dialback", "disco", "ping", "posix", "register", "vcard_legacy", "pep", "carbons", "mam",
    "smacks", "s2s_bidi", "version",
}
modules_disabled = { "s2s_auth_dane_in" }
allow_registration = true
registration_throttle_max = 1000
authentication = "internal_plain"
s2s_secure_auth = false
s2s_require_encryption = true
c2s_require_encryption = true
limits = {}
ssl = { certificate = "%(certificate)s", key = "%(key)s", cafile = "%(authority)s", verify = { "peer" } }
log = { debug = "*console" }

VirtualHost "prosody.test"
VirtualHost "dialback.test"
    modules_enabled = { "dialback_alone" }
VirtualHost "blocked.test"
VirtualHost "liar.test"
Component "conference.prosody.test" "muc"
    restrict_room_creation = false
"""

EJABBERD_CONFIG = """\
loglevel: debug
hosts: ["ejabberd.test"]
certfiles: ["%(certificate)s"]
ca_file: "%(authority)s"
s2s_use_starttls: required
s2s_cafile: "%(authority)s"
auth_method: internal
auth_password_format: plain
registration_timeout: infinity
shaper: {normal: 10000000, fast: 10000000}
listen:
  - {port: 5222, ip: "%(address)s", module: ejabberd_c2s, starttls: true, access: all}
  - {port: 5269, ip: "%(address)s", module: ejabberd_s2s_in}
modules:
  mod_disco: {}
  mod_ping: {}
  mod_roster: {}
  mod_caps: {}
  mod_carboncopy: {}
  mod_register: {ip_access: all, access: all}
  mod_vcard: {}
  mod_pubsub: {plugins: ["flat", "pep"]}
  mod_stream_mgmt: {}
  mod_s2s_dialback: {}
  mod_muc: {host: "conference.@HOST@", access_create: all, default_room_options: {mam: false}}
  mod_version: {}
"""
