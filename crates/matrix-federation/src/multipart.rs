//! Reads `multipart/mixed` as it arrives: heads of parts and pieces of their bodies, a few kilobytes in memory.
//!
//! [SS-API §get_matrixfederationv1mediadownloadmediaid] answers in this form, RFC 2046 §5.1 defines it. Pure: bytes in,
//! what they mean out.

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem::Finder;

/// Bytes of the head of one part.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest boundary. RFC 2046 §5.1.1
const BOUNDARY_BYTES_MAX: usize = 70;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A part begins, with these headers.
    Head(HeaderMap),
    /// Some of its body.
    Body(Bytes),
    /// That was the last part.
    End,
}

/// Bytes that are not in this form.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not in parts as it should be: {0}")]
pub(crate) struct Malformed(&'static str);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before the first part: whatever stands here is nobody's.
    Preamble,
    /// Behind a boundary.
    Boundary,
    Head,
    /// Behind a head, before the line's end that a body begins with if there is one.
    Start,
    Body,
    End,
}

pub(crate) struct Multipart {
    delimiter: Finder<'static>,
    buffer: BytesMut,
    stage: Stage,
}

impl Multipart {
    /// For an answer with this content type; `None` if it is of another kind.
    pub(crate) fn new(content_type: &str) -> Option<Self> {
        let (essence, parameters) = content_type.split_once(';')?;
        if !essence.trim().eq_ignore_ascii_case("multipart/mixed") {
            return None;
        }
        let boundary = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.trim().split_once('=')?;
            name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
        })?;
        if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX {
            return None;
        }
        // So that the first boundary looks like all others.
        let buffer = BytesMut::from(&b"\r\n"[..]);
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        Some(Self { delimiter, buffer, stage: Stage::Preamble })
    }

    /// Takes more bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next piece; `None` if more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Piece>, Malformed> {
        loop {
            match self.stage {
                Stage::Preamble | Stage::Body => {
                    let is_body = self.stage == Stage::Body;
                    let length = self.delimiter.needle().len();
                    let found = self.delimiter.find(&self.buffer);
                    // The end of what there is may be the beginning of a delimiter.
                    let safe = found.unwrap_or_else(|| self.buffer.len().saturating_sub(length - 1));
                    let piece = self.buffer.split_to(safe).freeze();
                    if found.is_some() {
                        self.buffer.advance(length);
                        self.stage = Stage::Boundary;
                    }
                    if is_body && !piece.is_empty() {
                        return Ok(Some(Piece::Body(piece)));
                    }
                    if found.is_none() {
                        return Ok(None);
                    }
                }
                Stage::Boundary => {
                    if self.buffer.len() < 2 {
                        return Ok(None);
                    }
                    if self.buffer.starts_with(b"--") {
                        self.stage = Stage::End;
                        continue;
                    }
                    // White space may stand behind a boundary.
                    let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n") else { return self.more() };
                    if !self.buffer[..end].iter().all(|byte| matches!(byte, b' ' | b'\t')) {
                        return Err(Malformed("a boundary goes on"));
                    }
                    // The line's end stays, so that a head without headers ends like every other.
                    self.buffer.advance(end);
                    self.stage = Stage::Head;
                }
                Stage::Head => {
                    let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") else { return self.more() };
                    if end > HEAD_BYTES_MAX {
                        return Err(Malformed("a head is too long"));
                    }
                    let head = self.buffer.split_to(end);
                    self.buffer.advance(b"\r\n".len());
                    self.stage = Stage::Start;
                    return Ok(Some(Piece::Head(headers(&head)?)));
                }
                Stage::Start => {
                    let delimiter = self.delimiter.needle();
                    if self.buffer.len() < delimiter.len() {
                        return Ok(None);
                    }
                    if self.buffer.starts_with(delimiter) {
                        self.buffer.advance(delimiter.len());
                        self.stage = Stage::Boundary;
                    } else {
                        self.buffer.advance(b"\r\n".len());
                        self.stage = Stage::Body;
                    }
                }
                Stage::End => return Ok(Some(Piece::End)),
            }
        }
    }

    fn more(&self) -> Result<Option<Piece>, Malformed> {
        if self.buffer.len() > HEAD_BYTES_MAX {
            return Err(Malformed("a head is too long"));
        }
        Ok(None)
    }
}

fn headers(head: &[u8]) -> Result<HeaderMap, Malformed> {
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        let colon = memchr::memchr(b':', line).ok_or(Malformed("a header has no colon"))?;
        let name = HeaderName::from_bytes(line[..colon].trim_ascii()).map_err(|_| Malformed("a header has no name"))?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        headers.append(name, value.map_err(|_| Malformed("a header has no text"))?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads as `name: value`, bodies joined.
    fn read(content_type: &str, bytes: &[u8], chunk: usize) -> Result<Vec<(String, Vec<u8>)>, Malformed> {
        let mut reader = Multipart::new(content_type).expect("it is in parts");
        let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
        for chunk in bytes.chunks(chunk) {
            reader.feed(chunk);
            while let Some(piece) = reader.next()? {
                match piece {
                    Piece::Head(head) => {
                        let text = |(name, value): (&HeaderName, &HeaderValue)| {
                            format!("{name}: {}", value.to_str().unwrap_or_default())
                        };
                        parts.push((head.iter().map(text).collect::<Vec<_>>().join(", "), Vec::new()));
                    }
                    Piece::Body(bytes) => parts.last_mut().expect("a head came first").1.extend_from_slice(&bytes),
                    Piece::End => return Ok(parts),
                }
            }
        }
        Err(Malformed("no end"))
    }

    #[test]
    fn parts_are_read_however_they_are_cut() {
        let bytes = b"nothing\r\n--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b  \r\n\
            content-type:text/plain\r\nContent-Disposition: inline\r\n\r\nline\r\n--not\r\n\r\n--b--\r\nnothing";
        for chunk in [1, 2, 3, 7, 1000] {
            let parts = read("multipart/mixed; boundary=\"b\"", bytes, chunk).expect("well formed");
            assert_eq!(parts[0], ("content-type: application/json".to_owned(), b"{}".to_vec()));
            assert_eq!(parts[1].0, "content-type: text/plain, content-disposition: inline");
            assert_eq!(parts[1].1, b"line\r\n--not\r\n");
            assert_eq!(parts.len(), 2);
        }
    }

    #[test]
    fn parts_may_have_no_headers_and_no_body() {
        for end in ["\r\n--b--", "\r\n\r\n--b--"] {
            let bytes = format!("--b\r\n\r\n{{}}\r\n--b\r\nLocation: x\r\n{end}");
            let parts = read("Multipart/Mixed;x=y; Boundary=b", bytes.as_bytes(), 5).expect("well formed");
            assert_eq!(parts, [(String::new(), b"{}".to_vec()), ("location: x".to_owned(), Vec::new())]);
        }
    }

    #[test]
    fn what_is_malformed_is_refused_within_bounds() {
        for bad in [&b"--b\r\nno colon\r\n\r\n"[..], b"--bad", b"--b\r\n: x\r\n\r\n", b"--b\r\na: \x01\r\n\r\n"] {
            assert!(read("multipart/mixed; boundary=b", bad, 4).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let endless = [&b"--b\r\n"[..], &[b'x'; 2 * HEAD_BYTES_MAX]].concat();
        assert!(read("multipart/mixed; boundary=b", &endless, 100).is_err());
        for bad in ["multipart/mixed", "multipart/mixed; boundary=", "application/json; boundary=b"] {
            assert!(Multipart::new(bad).is_none(), "{bad}");
        }
    }
}
