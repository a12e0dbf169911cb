"""The servers of the walk: Koine, Postfix, and a mail server that takes nothing it is asked to refuse."""

import json
import pathlib
import pwd
import shutil
import socket
import socketserver
import subprocess
import threading
import time
import urllib.request

# Who sends from where: the domain of the first stands by it, that of the second does not, the third is Postfix.
GOOD, BAD, RELAY = "127.0.0.2", "127.0.0.3", "127.0.0.4"
# Domains of Koine's, and of Postfix's mailboxes. To the last no MX leads: only a smarthost knows of it.
DOMAIN, BEHIND_SMARTHOST = "koine.test", "smart.test"
MAILBOXES, UNKNOWN_TO_DNS = "mx.test", "far.test"
EXCHANGE = f"mail.{MAILBOXES}"
# Domains of Postfix's too; DNS names the certificate of their servers, signed: the right one, another, and not at all.
NAMED, MISNAMED, UNNAMED = "named.test", "misnamed.test", "unnamed.test"


def free_port(address="127.0.0.1"):
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def until(what, ask, patience=90):
    """What `ask` finds, as soon as it finds something."""
    end = time.monotonic() + patience
    while True:
        found = ask()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come within {patience} s")
        time.sleep(0.1)


class Koine:
    """Koine. `outgoing` is what `[mail.outgoing]` says beside how soon mails go out."""

    def __init__(self, program, folder, domain, resolver, authorities, outgoing):
        self.domain = domain
        self.http, self.smtp, self.lmtp, self.xmpp = (free_port() for _ in range(4))
        folder.mkdir(parents=True)
        self.program, self.config = program, folder / "koine.toml"
        self.config.write_text(f"""
server_name = "{domain}"
data_dir = "data"

[accounts]
registration = "open"

[federation.network]
allow_ranges = ["127.0.0.0/8"]
extra_authorities = "{authorities}"

[metrics]
enabled = false

[mail]
enabled = true
resolver = "{resolver}"
resolver_validates = true

[mail.incoming]
trusted_networks = ["{RELAY}/32"]

[mail.outgoing]
silence_s = 1
{outgoing}

[[listeners]]
address = "127.0.0.1:{self.http}"

[[listeners]]
address = "127.0.0.1:{self.smtp}"
serves = "smtp"

[[listeners]]
address = "127.0.0.1:{self.lmtp}"
serves = "lmtp"

[[listeners]]
address = "127.0.0.1:{self.xmpp}"
serves = "xmpp-client"
""")
        self.log = open(folder / "koine.log", "w")
        self.start()

    def start(self):
        command = [self.program, "serve", "--config", str(self.config)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        until("the server", self.answers)

    def kill(self):
        self.process.kill()
        self.process.wait(30)

    def resident_bytes(self):
        """Memory that it holds."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"koine ended: {self.process.returncode}")
        try:
            return self.ask("GET", "/_matrix/client/versions")
        except OSError:
            return None

    def ask(self, method, path, body=None, token=None, kind="application/json"):
        headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            seen = answer.read()
            return json.loads(seen) if answer.headers.get_content_type() == "application/json" else seen

    def admin(self, *args):
        command = [self.program, *args, "--json", "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


def certificate(folder):
    """A certificate for Postfix that vouches for itself: its file and that of its key."""
    made, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(made), "-subj", "/CN=mail of the test"]
    command += ["-addext", f"subjectAltName=DNS:{EXCHANGE},IP:{RELAY}", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return made, key


class Fussy:
    """A mail server that is full for `full@`, asks all others to come back, and takes nothing."""

    def __init__(self):
        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(b"220 fussy.test ESMTP\r\n")
                for line in self.rfile:
                    line = line.upper()
                    if line.startswith(b"RCPT TO:<FULL@"):
                        answer = b"552 5.2.2 the mailbox is full"
                    elif line.startswith(b"RCPT"):
                        answer = b"451 4.2.1 come back later"
                    elif line.startswith(b"DATA"):
                        answer = b"554 5.5.1 for nobody"
                    elif line.startswith(b"QUIT"):
                        self.wfile.write(b"221 2.0.0 bye\r\n")
                        return
                    else:
                        answer = b"250 2.0.0 well"
                    self.wfile.write(answer + b"\r\n")

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Postfix:
    """Postfix with folders of its own, in a folder that everybody may enter: MX of one domain, smarthost for whoever asks,
    and in front of Koine, to which it hands what it gets by SMTP, or by LMTP for the account `lmtp`."""

    def __init__(self, folder, port, certificate, koine, behind, fussy):
        self.port, self.folder, self.config = port, folder, folder / "postfix"
        self.mail = folder / "mail"
        for name in [self.mail, self.config, self.config / "spool", self.config / "data"]:
            name.mkdir(exist_ok=True)
        shutil.chown(self.config / "data", "postfix")
        owner = pwd.getpwnam("nobody")
        shutil.chown(self.mail, owner.pw_uid, owner.pw_gid)
        people = [f"{name}@{domain}" for domain in (MAILBOXES, UNKNOWN_TO_DNS, NAMED, MISNAMED, UNNAMED) for name in ("bob", "carl", "dora", "full", "late")]
        mailboxes = ", ".join(f"{{ {person} = {person}/ }}" for person in people)
        by_smtp, by_lmtp = f"smtp:[127.0.0.1]:{koine.smtp}", f"lmtp:inet:127.0.0.1:{koine.lmtp}"
        fussy = f"smtp:[127.0.0.1]:{fussy.port}"
        ways = {f"lmtp@{DOMAIN}": by_lmtp, DOMAIN: by_smtp, BEHIND_SMARTHOST: f"smtp:[127.0.0.1]:{behind.smtp}"}
        ways |= {f"rooms.{DOMAIN}": by_smtp, f"rooms.{BEHIND_SMARTHOST}": f"smtp:[127.0.0.1]:{behind.smtp}"}
        ways |= {f"full@{MAILBOXES}": fussy, f"late@{MAILBOXES}": fussy}
        ways = ", ".join(f"{{ {of} = {way} }}" for of, way in ways.items())
        made, key = certificate
        (self.config / "main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {self.config}/spool
data_directory = {self.config}/data
multi_instance_name = postfix-koine
myhostname = {EXCHANGE}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_tls_security_level = may
smtpd_tls_cert_file = {made}
smtpd_tls_key_file = {key}
smtpd_peername_lookup = no
smtp_bind_address = {RELAY}
smtp_tls_security_level = may
smtp_host_lookup = native
disable_dns_lookups = yes
relay_domains = {DOMAIN}, {BEHIND_SMARTHOST}, rooms.{DOMAIN}, rooms.{BEHIND_SMARTHOST}
relay_recipient_maps =
transport_maps = inline:{{ {ways} }}
virtual_mailbox_domains = {MAILBOXES}, {UNKNOWN_TO_DNS}, {NAMED}, {MISNAMED}, {UNNAMED}
virtual_mailbox_base = {self.mail}
virtual_mailbox_maps = inline:{{ {mailboxes} }}
virtual_uid_maps = static:{owner.pw_uid}
virtual_gid_maps = static:{owner.pw_gid}
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
minimal_backoff_time = 2s
maximal_backoff_time = 4s
queue_run_delay = 2s
delay_warning_time = 1s
alias_maps =
local_recipient_maps =
""")
        (self.config / "master.cf").write_text(f"""
{RELAY}:{self.port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
""")
        self.run("start")

    def run(self, what):
        command = ["postfix", "-c", str(self.config), what]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        log = self.folder / "postfix.log"
        logged = log.read_text("utf-8", "replace")[-1000:] if log.exists() else ""
        assert done.returncode == 0, f"postfix {what}: {done.stdout}{done.stderr}{logged}"

    def inbox(self, address):
        """The mails of somebody, oldest first, as they lie there."""
        folder = self.mail / address / "new"
        files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns) if folder.exists() else []
        return [file.read_bytes() for file in files]

    def close(self, logs: pathlib.Path):
        self.run("stop")
        shutil.copy(self.folder / "postfix.log", logs / "postfix.log")


class Dovecot:
    """Dovecot with nothing but LMTP, which hands what it gets to Koine."""

    def __init__(self, folder, koine):
        self.folder, self.port = folder / "dovecot", free_port()
        self.folder.mkdir()
        config = self.folder / "dovecot.conf"
        config.write_text(f"""
protocols = lmtp
ssl = no
base_dir = {self.folder}/run
state_dir = {self.folder}/state
log_path = {self.folder}/dovecot.log
default_internal_user = dovecot
default_login_user = dovenull
lmtp_proxy = yes
mail_location = maildir:{self.folder}/mail
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {self.port}
  }}
}}
passdb {{
  driver = static
  args = proxy=y host=127.0.0.1 port={koine.lmtp} protocol=lmtp nopassword=y
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={self.folder}
}}
""")
        self.log = open(self.folder / "output.log", "w")
        self.process = subprocess.Popen(["dovecot", "-F", "-c", str(config)], stdout=self.log, stderr=self.log)
        until("Dovecot", self.listens)

    def listens(self):
        assert self.process.poll() is None, "dovecot ended: " + (self.folder / "output.log").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        except OSError:
            return False
        return True

    def close(self, logs):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()
        if (self.folder / "dovecot.log").exists():
            shutil.copy(self.folder / "dovecot.log", logs / "dovecot.log")
