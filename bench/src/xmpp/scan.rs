//! Finds where the elements of a stream end, and nothing more: what a client parses is not what is measured.

/// Takes bytes, gives elements below the header as they came.
#[derive(Debug, Default)]
pub struct Scanner {
    bytes: Vec<u8>,
    /// Up to here it was looked at.
    at: usize,
    /// Where the element begins that is being read.
    begins: usize,
    depth: usize,
    /// Within a tag: its first byte, and the quote that is open.
    tag: Option<usize>,
    quote: Option<u8>,
}

impl Scanner {
    /// More of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.begins > 0 {
            self.bytes.drain(..self.begins);
            self.at -= self.begins;
            self.tag = self.tag.map(|tag| tag - self.begins);
            self.begins = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole element.
    pub fn take(&mut self) -> Option<String> {
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            match (self.tag, self.quote) {
                (None, _) if byte == b'<' => self.tag = Some(self.at - 1),
                (None, _) => {}
                (Some(_), Some(quote)) if byte == quote => self.quote = None,
                (Some(_), Some(_)) => {}
                (Some(_), None) if byte == b'"' || byte == b'\'' => self.quote = Some(byte),
                (Some(tag), None) if byte == b'>' => {
                    self.tag = None;
                    if let Some(element) = self.tag_ended(tag) {
                        return Some(element);
                    }
                }
                _ => {}
            }
        }
        None
    }

    fn tag_ended(&mut self, tag: usize) -> Option<String> {
        let (closes, alone) = (self.bytes[tag + 1] == b'/', self.bytes[self.at - 2] == b'/');
        if self.bytes[tag + 1] == b'?' {
            return None;
        }
        // Depth 1 is between the header and the end of the stream.
        if !closes && self.depth == 1 {
            self.begins = tag;
        }
        match (closes, alone) {
            (true, _) => self.depth -= 1,
            (false, true) => {}
            (false, false) => self.depth += 1,
        }
        let is_whole = self.depth == 1 && (closes || alone);
        if !is_whole {
            return None;
        }
        let element = String::from_utf8_lossy(&self.bytes[self.begins..self.at]).into_owned();
        self.begins = self.at;
        Some(element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_in_whatever_pieces_they_come() {
        let stream = "<?xml version='1.0'?><stream:stream a='>'><one/><two b='/>'>text<three/></two> <four></four>";
        for size in 1..stream.len() {
            let (mut scanner, mut found) = (Scanner::default(), Vec::new());
            for piece in stream.as_bytes().chunks(size) {
                scanner.feed(piece);
                found.extend(std::iter::from_fn(|| scanner.take()));
            }
            assert_eq!(found, ["<one/>", "<two b='/>'>text<three/></two>", "<four></four>"], "pieces of {size}");
        }
    }
}
