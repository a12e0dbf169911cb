//! A picture to upload: a PNG with gradients and some grain, as a photograph has, in as many different files as are wanted.
//! [PNG, second edition §5]

use std::io::Write as _;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A PNG in two parts, between which there is room for a number.
#[derive(Debug)]
pub struct Picture {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Picture {
    /// One of that size.
    pub fn new(width: u32, height: u32) -> Self {
        let mut header = Vec::new();
        header.extend_from_slice(&width.to_be_bytes());
        header.extend_from_slice(&height.to_be_bytes());
        // Eight bits of each of three colours, compressed, filtered and interlaced as usual.
        header.extend_from_slice(&[8, 2, 0, 0, 0]);
        let mut head = SIGNATURE.to_vec();
        head.extend(chunk(b"IHDR", &header));
        let mut tail = chunk(b"IDAT", &compressed(&rows(width, height)));
        tail.extend(chunk(b"IEND", &[]));
        Self { head, tail }
    }

    /// The file that has this number in its comment.
    pub fn numbered(&self, number: u64) -> Vec<u8> {
        let comment = chunk(b"tEXt", format!("Comment\0number {number}").as_bytes());
        [&self.head[..], &comment, &self.tail].concat()
    }
}

fn rows(width: u32, height: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity((width as usize * 3 + 1) * height as usize);
    let mut grain = 1_u32;
    for y in 0..height {
        // No filter for this row.
        out.push(0);
        for x in 0..width {
            grain = grain.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (grain >> 28) as u8;
            let red = (x * 240 / width) as u8;
            let green = (y * 240 / height) as u8;
            let blue = ((x + y) * 240 / (width + height)) as u8;
            out.extend_from_slice(&[red + noise, green + noise, blue + noise]);
        }
    }
    out
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes everything")
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    let length = u32::try_from(data.len()).expect("a picture of a few megabytes");
    [&length.to_be_bytes()[..], kind, data, &crc.sum().to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// The chunks of a file, checked.
    fn chunks(mut file: &[u8]) -> Vec<(String, Vec<u8>)> {
        file = file.strip_prefix(SIGNATURE).expect("a signature");
        let mut found = Vec::new();
        while !file.is_empty() {
            let length = u32::from_be_bytes(file[..4].try_into().expect("four bytes")) as usize;
            let (kind, data) = (&file[4..8], &file[8..8 + length]);
            let mut crc = Crc::new();
            crc.update(&file[4..8 + length]);
            assert_eq!(file[8 + length..12 + length], crc.sum().to_be_bytes());
            found.push((String::from_utf8(kind.to_vec()).expect("letters"), data.to_vec()));
            file = &file[12 + length..];
        }
        found
    }

    #[test]
    fn picture_has_all_of_its_rows_and_its_number() {
        let file = Picture::new(20, 10).numbered(77);
        let chunks = chunks(&file);
        let kinds: Vec<&str> = chunks.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["IHDR", "tEXt", "IDAT", "IEND"]);
        assert!(chunks[1].1.ends_with(b"number 77"));
        let mut rows = Vec::new();
        flate2::read::ZlibDecoder::new(&chunks[2].1[..]).read_to_end(&mut rows).expect("compressed rows");
        assert_eq!(rows.len(), (20 * 3 + 1) * 10);
    }
}
