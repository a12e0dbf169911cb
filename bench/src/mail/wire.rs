//! A client of SMTP that sends mails made up here.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::Failure;

/// One connection.
pub struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    /// Connects and says who it is.
    pub async fn open(port: u16) -> Result<Self, Failure> {
        let failed = |error| Failure::Io(format!("SMTP at port {port}"), error);
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut wire = Self { stream: BufReader::new(stream) };
        wire.answer("2").await?;
        wire.ask("EHLO sender.bench.example", "2").await?;
        Ok(wire)
    }

    /// Sends a mail; it was taken once this returns.
    pub async fn send(&mut self, from: &str, to: &str, mail: &[u8]) -> Result<(), Failure> {
        self.ask(&format!("MAIL FROM:<{from}>"), "2").await?;
        self.ask(&format!("RCPT TO:<{to}>"), "2").await?;
        self.ask("DATA", "3").await?;
        let io = |error| Failure::Io("SMTP".to_owned(), error);
        self.stream.get_mut().write_all(mail).await.map_err(io)?;
        self.ask("\r\n.", "2").await
    }

    async fn ask(&mut self, line: &str, wanted: &str) -> Result<(), Failure> {
        let line = format!("{line}\r\n");
        let written = self.stream.get_mut().write_all(line.as_bytes()).await;
        written.map_err(|error| Failure::Io("SMTP".to_owned(), error))?;
        self.answer(wanted).await
    }

    async fn answer(&mut self, wanted: &str) -> Result<(), Failure> {
        loop {
            let mut line = String::new();
            let read = self.stream.read_line(&mut line).await;
            if read.map_err(|error| Failure::Io("SMTP".to_owned(), error))? == 0 {
                return Err(Failure::Words("the server ended the connection".to_owned()));
            }
            if line.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            return match line.starts_with(wanted) {
                true => Ok(()),
                false => Err(Failure::Words(format!("the server says {}", line.trim_end()))),
            };
        }
    }
}

/// A mail of about so many bytes: text, or where it is large a short text and a file.
pub fn letter(from: &str, to: &str, name: &str, bytes: usize) -> Vec<u8> {
    const TEXT_BYTES_MAX: usize = 100_000;
    let head = format!(
        "From: Bench <{from}>\r\nTo: <{to}>\r\nSubject: {name}\r\nDate: Mon, 30 Nov 2026 06:00:00 +0000\r\nMessage-ID: <{name}@bench.example>\r\nMIME-Version: 1.0\r\n"
    );
    // Neither one line again and again, nor anything that costs the sender much.
    let mut seed = name.bytes().fold(bytes as u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let mut line = |alphabet: &[u8], length: usize| -> Vec<u8> {
        let mut line = Vec::with_capacity(length + 2);
        for _ in 0..length {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            line.extend(alphabet.get((seed >> 33) as usize % alphabet.len()));
        }
        line.extend(b"\r\n");
        line
    };
    let letters = b"abcdefghijklm nopqrstu vwxyz ";
    let base64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut mail = head.into_bytes();
    if bytes <= TEXT_BYTES_MAX {
        mail.extend(format!("Content-Type: text/plain; charset=utf-8\r\n\r\n{name}\r\n").bytes());
        while mail.len() + 72 < bytes {
            mail.extend(line(letters, 70));
        }
        return mail;
    }
    mail.extend(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n");
    mail.extend(format!("{name}\r\n--b\r\n").bytes());
    mail.extend(b"Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=file.bin\r\n");
    mail.extend(b"Content-Transfer-Encoding: base64\r\n\r\n");
    while mail.len() + 90 < bytes {
        mail.extend(line(base64, 76));
    }
    mail.extend(b"--b--");
    mail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_as_large_as_it_should_be_and_differs_from_others() {
        for bytes in [10_000, 5_000_000] {
            let one = letter("a@b.example", "c@d.example", "one", bytes);
            assert!(bytes - one.len() < 200 && !one.windows(3).any(|three| three == b"\r\n."), "{}", one.len());
            assert_ne!(one, letter("a@b.example", "c@d.example", "two", bytes));
        }
    }
}
