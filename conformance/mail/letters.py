"""Mails of the walk: how they are written, sent, and read."""

import email.message
import email.policy
import smtplib
import ssl
import struct
import time
import zlib

import dkim


def mail(author, to, subject, body, **more):
    """A plain mail, with further headers (`In_Reply_To`)."""
    head = {"From": author, "To": to, "Subject": subject, "Message-ID": f"<{time.time_ns()}@sender.test>"}
    head.update({key.replace("_", "-"): value for key, value in more.items()})
    return "".join(f"{key}: {value}\r\n" for key, value in head.items()) + "\r\n" + body + "\r\n"


def send(port, source, author, to, text, kind=smtplib.SMTP, host="127.0.0.1"):
    data = text if isinstance(text, bytes) else text.encode("utf-8")
    with kind(host, port, source_address=(source, 0), local_hostname="sender.test", timeout=120) as client:
        if kind is smtplib.SMTP:
            client.ehlo()
            # The certificate is of the server's own making.
            client.starttls(context=ssl._create_unverified_context())
        client.sendmail(author, to, data)


def refused(port, source, author, to, text):
    """The code and the words with which a mail is refused; 250 if it is not."""
    try:
        send(port, source, author, to, text)
    except smtplib.SMTPResponseException as error:
        return error.smtp_code, error.smtp_error.decode()
    except smtplib.SMTPRecipientsRefused as error:
        code, words = next(iter(error.recipients.values()))
        return code, words.decode()
    return 250, ""


def parsed(raw):
    return email.message_from_bytes(raw, policy=email.policy.default)


def said(raw):
    """The text of a mail, without the spaces around it."""
    return parsed(raw).get_body(("plain",)).get_content().strip()


def answer(raw, author, to, body, **more):
    """An answer as mail programs write it: the thread is named, and what is answered stands below. Further headers, and
    `picture` with bytes of a PNG."""
    original = parsed(raw)
    reply = email.message.EmailMessage(policy=email.policy.SMTP)
    reply["From"], reply["To"] = author, to
    reply["Subject"] = "Re: " + original["Subject"].removeprefix("Re: ")
    reply["Message-ID"] = f"<{time.time_ns()}@reply.test>"
    reply["In-Reply-To"] = original["Message-ID"]
    reply["References"] = " ".join(filter(None, [original["References"], original["Message-ID"]]))
    picture = more.pop("picture", None)
    for name, value in more.items():
        reply[name.replace("_", "-")] = value
    quoted = "".join(f"> {line}\n" for line in said(raw).splitlines())
    reply.set_content(f"{body}\n\nOn Monday, {original['From']} wrote:\n\n{quoted}")
    if picture:
        reply.add_attachment(picture, maintype="image", subtype="png", filename="dot.png")
    return reply.as_bytes()


def signatures_hold(raw, records):
    """How many signatures of DKIM a mail has, each checked by dkimpy; `records` is what DNS has of keys."""
    def lookup(name, timeout=5):
        name = name.decode() if isinstance(name, bytes) else name
        return records[name.rstrip(".")].encode()

    count = sum(1 for name in parsed(raw).keys() if name.lower() == "dkim-signature")
    for at in range(count):
        assert dkim.DKIM(raw).verify(idx=at, dnsfunc=lookup), f"signature {at} does not hold"
    return count


def png(side=1):
    """The smallest picture, or one that claims to be larger than it is."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0abc")) + chunk(b"IEND", b"")
