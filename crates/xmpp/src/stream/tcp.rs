//! Streams over TCP, with or without TLS. [RFC6120 §4]
//!
//! An idle connection has no buffers of ours: bytes are read into the stack and given to the reader, which keeps only what
//! is not whole yet; what was written is let go of.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use koine_stanza::{
    Element, escape, ns,
    reader::{Limits, Parsed, Reader},
    stream_element,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::transport::{Broken, Incoming, OurHeader, Security, Transport};
use crate::outbox::Outgoing;

/// Bytes that are read at once.
const READ_BYTES: usize = 8 * 1024;
/// Bytes that somebody may still send who was told that the stream has ended. Closing with unread bytes would make the kernel
/// take back our last words.
const DROPPED_BYTES_MAX: usize = 256 * 1024;

/// A socket, maybe with TLS around it.
pub(crate) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// With TLS, from us to another server.
    TlsOut(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl Io {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::TlsOut(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::TlsOut(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::TlsOut(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::TlsOut(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A stream over TCP.
pub(crate) struct Tcp {
    io: Io,
    reader: Reader,
    out: BytesMut,
    /// All of `out` is written, but TLS may still hold some.
    is_flushed: bool,
    /// The namespace of stanzas in this stream.
    content_ns: &'static str,
    security: Security,
    /// Bytes that were dropped at the end.
    dropped: usize,
    /// Bytes that were written.
    written: u64,
}

impl Tcp {
    /// A stream that begins now, of stanzas in `content_ns`.
    pub(crate) fn new(io: Io, security: Security, content_ns: &'static str, limits: Limits) -> Self {
        let (reader, out) = (Reader::stream(limits), BytesMut::new());
        Self { io, reader, out, is_flushed: true, content_ns, security, dropped: 0, written: 0 }
    }

    /// The socket, for TLS. Nothing that came before may be taken for a part of what is encrypted: `None` when something
    /// did. [RFC6120 §5.4.3.3]
    pub(crate) fn into_plain(self) -> Option<TcpStream> {
        match self.io {
            Io::Plain(stream) if self.reader.is_empty() => Some(stream),
            _ => None,
        }
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Bytes that were written so far: it grows while the other side reads.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Sends a stanza if it has no more than so many bytes; whether it did.
    pub(crate) fn send_within(&mut self, stanza: &Element, bytes_max: usize) -> bool {
        let text = self.text_of(stanza);
        let fits = text.len() <= bytes_max;
        if fits {
            self.put(&text);
        }
        fits
    }

    /// Sends an element of dialback. [XEP-0220 §2.1]
    ///
    /// COMPAT(ejabberd): it knows them by their prefix.
    pub(crate) fn send_dialback(&mut self, element: &Element) {
        let mut text = format!("<db:{}", element.name());
        for attribute in element.attributes() {
            text.push_str(&format!(" {}='", attribute.name));
            escape(&attribute.value, &mut text);
            text.push('\'');
        }
        text.push('>');
        escape(&element.text(), &mut text);
        for child in element.children() {
            child.write(&mut text, self.content_ns);
        }
        text.push_str(&format!("</db:{}>", element.name()));
        self.put(&text);
    }

    fn text_of(&self, element: &Element) -> String {
        let mut text = String::with_capacity(256);
        // Stanzas are in `jabber:client` wherever they are inside of the server; on the wire they are in the stream's own.
        let around = if element.ns() == ns::CLIENT { ns::CLIENT } else { self.content_ns };
        element.write(&mut text, around);
        text
    }
}

impl Transport for Tcp {
    fn poll(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<Result<Incoming, Broken>> {
        if let Poll::Ready(Err(broken)) = self.poll_flush(cx) {
            return Poll::Ready(Err(broken));
        }
        if !read {
            return Poll::Pending;
        }
        loop {
            match self.reader.read() {
                Ok(Some(Parsed::Open(header))) => return Poll::Ready(Ok(Incoming::Open(header))),
                Ok(Some(Parsed::Element(element))) => return Poll::Ready(Ok(Incoming::Element(element))),
                Ok(Some(Parsed::Close)) => return Poll::Ready(Ok(Incoming::Close)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            let mut space = [std::mem::MaybeUninit::<u8>::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut space);
            match ready!(self.io.poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.reader.push(buffer.filled()),
                _ => return Poll::Ready(Err(Broken::Lost)),
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.out.is_empty() {
            match ready!(self.io.poll_write(cx, &self.out)) {
                Ok(written @ 1..) => {
                    self.written += written as u64;
                    self.out.advance(written);
                }
                _ => return Poll::Ready(Err(Broken::Lost)),
            }
            self.is_flushed = false;
            if self.out.is_empty() {
                self.out = BytesMut::new();
            }
        }
        if !self.is_flushed {
            match ready!(self.io.poll_flush(cx)) {
                Ok(()) => self.is_flushed = true,
                Err(_) => return Poll::Ready(Err(Broken::Lost)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if ready!(self.io.poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        while self.dropped < DROPPED_BYTES_MAX {
            let mut space = [std::mem::MaybeUninit::<u8>::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut space);
            match ready!(self.io.poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.dropped += buffer.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }

    fn backlog(&self) -> usize {
        self.out.len()
    }

    fn send_open(&mut self, header: &OurHeader) {
        let mut text =
            format!("<?xml version='1.0'?><stream:stream xmlns='{}' xmlns:stream='{}'", self.content_ns, ns::STREAM);
        match self.content_ns {
            // [XEP-0114 §3] Components know no versions.
            ns::COMPONENT => {}
            // [XEP-0220 §2.2]
            ns::SERVER => text.push_str(" xmlns:db='jabber:server:dialback' version='1.0' xml:lang='en'"),
            _ => text.push_str(" version='1.0' xml:lang='en'"),
        }
        let id = Some(&header.id).filter(|id| !id.is_empty());
        for (name, value) in [("id", id), ("from", Some(&header.from)), ("to", header.to.as_ref())] {
            if let Some(value) = value {
                text.push_str(&format!(" {name}='"));
                escape(value, &mut text);
                text.push('\'');
            }
        }
        text.push('>');
        self.put(&text);
    }

    fn send_of_stream(&mut self, name: &str, children: &[Element]) {
        self.put(&stream_element(name, children, false));
    }

    fn send(&mut self, element: &Element) {
        let text = self.text_of(element);
        self.put(&text);
    }

    fn send_stanza(&mut self, stanza: &Outgoing, to: &str) {
        self.out.reserve(stanza.len() + to.len() + 8);
        stanza.write(to, false, |piece| self.out.extend_from_slice(piece.as_bytes()));
    }

    fn send_keepalive(&mut self) {
        self.put(" ");
    }

    fn send_close(&mut self) {
        self.put("</stream:stream>");
    }

    fn restart(&mut self) {
        self.reader.restart();
    }

    fn set_limits(&mut self, limits: Limits) {
        self.reader.set_limits(limits);
    }

    fn security(&self) -> &Security {
        &self.security
    }
}
