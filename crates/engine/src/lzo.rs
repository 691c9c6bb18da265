//! LZO1X decompression, for peers that still compress.
//!
//! ```text
//! first byte 18…255    copy (byte − 17) literals, then an instruction
//! 0000 LLLL            after no or a short literal run: 3 + L literals (0: longer, in runs of 255)
//! 0000 DDSS  h         after 1–3 literals: 2 bytes from (h<<2) + D + 1 back
//! 0000 DDSS  h         after a long literal run: 3 bytes from (h<<2) + D + 2049 back
//! 0001 HLLL  le16      2 + L bytes from 16384 + (H<<14) + (le16>>2) back; exactly 16384 back ends the stream
//! 001L LLLL  le16      2 + L bytes from (le16>>2) + 1 back
//! 01LD DDSS  h         3 + L bytes from (h<<3) + D + 1 back
//! 1LLD DDSS  h         5 + L bytes from (h<<3) + D + 1 back
//! ```
//!
//! After a match, S (its last two bits) literals follow. Every read and write is checked; output never passes the
//! buffer that the caller gives. Compressing is not offered: it leaks what is encrypted.

/// The compressed data is damaged, or longer than the output buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

/// Expands `input` into `out` and returns how many bytes it came to.
///
/// # Errors
/// [`Damaged`]; `out` may then hold a part.
pub fn decompress(input: &[u8], out: &mut [u8]) -> Result<usize, Damaged> {
    let mut source = Source { rest: input };
    let mut sink = Sink { out, len: 0 };
    // What came before the next instruction: 0 a match without literals, 1–3 so many literals, 4 a long run.
    let mut before = 0;
    if let Some(&first @ 18..) = input.first() {
        source.byte()?;
        let literals = usize::from(first) - 17;
        sink.literals(source.take(literals)?)?;
        before = literals.min(4);
    }
    loop {
        let instruction = source.byte()?;
        let low = usize::from(instruction);
        let (length, distance, literals) = match instruction {
            0..=15 if before == 0 => {
                let length = source.length(low & 15, 15)? + 3;
                sink.literals(source.take(length)?)?;
                before = 4;
                continue;
            }
            0..=15 => {
                let near = (usize::from(source.byte()?) << 2) + (low >> 2);
                if before == 4 { (3, near + 2049, low & 3) } else { (2, near + 1, low & 3) }
            }
            16..=31 => {
                let length = source.length(low & 7, 7)? + 2;
                let word = source.word()?;
                let distance = 16384 + ((low & 8) << 11) + (word >> 2);
                if distance == 16384 {
                    // The end marker is the whole stream's last three bytes.
                    return if length == 3 && source.rest.is_empty() { Ok(sink.len) } else { Err(Damaged) };
                }
                (length, distance, word & 3)
            }
            32..=63 => {
                let length = source.length(low & 31, 31)? + 2;
                let word = source.word()?;
                (length, (word >> 2) + 1, word & 3)
            }
            64..=127 => {
                let distance = (usize::from(source.byte()?) << 3) + (low >> 2 & 7) + 1;
                (3 + (low >> 5 & 1), distance, low & 3)
            }
            128..=255 => {
                let distance = (usize::from(source.byte()?) << 3) + (low >> 2 & 7) + 1;
                (5 + (low >> 5 & 3), distance, low & 3)
            }
        };
        sink.repeat(distance, length)?;
        sink.literals(source.take(literals)?)?;
        before = literals;
    }
}

struct Source<'a> {
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    fn byte(&mut self) -> Result<u8, Damaged> {
        let (&byte, rest) = self.rest.split_first().ok_or(Damaged)?;
        self.rest = rest;
        Ok(byte)
    }

    fn word(&mut self) -> Result<usize, Damaged> {
        Ok(usize::from(u16::from_le_bytes([self.byte()?, self.byte()?])))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Damaged)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A length given in the instruction or, where that is zero, continued in the bytes after it.
    fn length(&mut self, given: usize, base: usize) -> Result<usize, Damaged> {
        if given != 0 {
            return Ok(given);
        }
        // The input's own length bounds the sum.
        let mut length = base;
        loop {
            match self.byte()? {
                0 => length += 255,
                last => return Ok(length + usize::from(last)),
            }
        }
    }
}

struct Sink<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Sink<'_> {
    fn literals(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        let end = self.len + bytes.len();
        self.out.get_mut(self.len..end).ok_or(Damaged)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    fn repeat(&mut self, distance: usize, length: usize) -> Result<(), Damaged> {
        let start = self.len.checked_sub(distance).ok_or(Damaged)?;
        let end = self.len + length;
        if end > self.out.len() {
            return Err(Damaged);
        }
        if distance >= length {
            self.out.copy_within(start..start + length, self.len);
        } else {
            // The copy reads what it writes.
            for index in 0..length {
                self.out[self.len + index] = self.out[start + index];
            }
        }
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "GET /index.html HTTP/1.1\r\nHost: www.example.org\r\n\
                        Accept: text/html,application/xhtml+xml\r\nAccept-Language: en\r\n";

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// Three times the text, as liblzo2 compresses it (`lzo1x_1_15`, what OpenVPN uses, and `lzo1x_999`).
    #[test]
    fn expands_what_the_reference_library_compressed() {
        let fast = "002c474554202f696e6465782e68746d6c20485454502f312e310d0a486f73743a207777772e6578616d706c\
                    652e6f72670d0a4163636570743a20746578742f68060b2c6170706c69636174696f6e2f786402022b786d6c\
                    0dc0050c2d4c616e67756167653a20656e0d0a20abb8010f6570742d4c616e67756167653a20656e0d0a1100\
                    00";
        let best = "47474554202f696e6465782e68746d6c20485454502f312e310d0a486f73743a207777772e6578616d706c65\
                    2e6f72670d0a41636365704103740605742f6b062c617000070669636174696f6e2f7866022b780c00e0050c\
                    2d4c616e67756167653a20656e0d0a20bdb801110000";
        let expected = TEXT.repeat(3).into_bytes();
        for stream in [fast, best] {
            let stream = hex(stream);
            let mut out = vec![0; expected.len()];
            assert_eq!(decompress(&stream, &mut out), Ok(expected.len()));
            assert_eq!(out, expected);
            for short in 0..expected.len() {
                assert_eq!(decompress(&stream, &mut out[..short]), Err(Damaged));
            }
            for cut in 0..stream.len() {
                assert_eq!(decompress(&stream[..cut], &mut out), Err(Damaged), "cut at {cut}");
            }
        }
    }

    /// A compressor that obeys instead of searching: it encodes just what it is told, each in one given way.
    #[derive(Default)]
    struct Encoder {
        stream: Vec<u8>,
        plain: Vec<u8>,
        /// Where the two bits are that count literals after a match.
        count_at: Option<usize>,
        after_run: bool,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Literals(Vec<u8>),
        Match { form: u8, distance: prop::sample::Index, length: usize },
    }

    impl Encoder {
        fn literals(&mut self, bytes: &[u8]) {
            self.plain.extend(bytes);
            match (bytes.len(), self.count_at.take()) {
                (0, _) => {}
                (count @ 1..=3, Some(at)) => {
                    self.stream[at] |= count as u8;
                    self.stream.extend(bytes);
                }
                (count @ 1..=238, _) if self.stream.is_empty() => {
                    self.stream.push(count as u8 + 17);
                    self.stream.extend(bytes);
                }
                (count, _) => {
                    assert!(count > 3, "a short run only follows a match or begins the stream");
                    self.length(0, count - 3, 15);
                    self.stream.extend(bytes);
                }
            }
            self.after_run = bytes.len() > 3;
        }

        fn length(&mut self, base: u8, length: usize, max: usize) {
            if length <= max {
                return self.stream.push(base | length as u8);
            }
            self.stream.push(base);
            let mut left = length - max;
            while left > 255 {
                self.stream.push(0);
                left -= 255;
            }
            self.stream.push(left as u8);
        }

        fn repeat(&mut self, form: u8, distance: prop::sample::Index, length: usize) {
            let (nearest, farthest, lengths) = match form {
                0 => (1, 2048, 3..=8),
                1 => (1, 16384, 3..=600),
                2 => (16385, 49151, 3..=600),
                _ => (2049, 3072, 3..=3),
            };
            let farthest = farthest.min(self.plain.len());
            if farthest < nearest || form == 3 && !self.after_run {
                return;
            }
            let distance = nearest + distance.index(farthest - nearest + 1);
            let length = length.clamp(*lengths.start(), *lengths.end());
            for _ in 0..length {
                self.plain.push(self.plain[self.plain.len() - distance]);
            }
            self.after_run = false;
            let near = distance - nearest;
            match form {
                0 => {
                    let length =
                        if length <= 4 { 0x40 + (length - 3) * 32 } else { 0x80 + (length - 5) * 32 };
                    self.count_at = Some(self.stream.len());
                    self.stream.extend([length as u8 | (near as u8 & 7) << 2, (near >> 3) as u8]);
                }
                3 => {
                    self.count_at = Some(self.stream.len());
                    self.stream.extend([(near as u8 & 3) << 2, (near >> 2) as u8]);
                }
                form => {
                    let near = if form == 1 { near } else { distance - 16384 };
                    let (base, max) = if form == 1 { (32, 31) } else { (16 | (near >> 11) as u8 & 8, 7) };
                    self.length(base, length - 2, max);
                    self.count_at = Some(self.stream.len());
                    self.stream.extend(((near & 0x3FFF) as u16 * 4).to_le_bytes());
                }
            }
        }

        fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
            self.stream.extend([0x11, 0, 0]);
            (self.stream, self.plain)
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 4..40).prop_map(Step::Literals),
            proptest::collection::vec(any::<u8>(), 0..4).prop_map(Step::Literals),
            proptest::collection::vec(any::<u8>(), 200..700).prop_map(Step::Literals),
            (0..4u8, any::<prop::sample::Index>(), 0..700usize)
                .prop_map(|(form, distance, length)| Step::Match { form, distance, length }),
            (0..4u8, any::<prop::sample::Index>(), 500..600usize)
                .prop_map(|(form, distance, length)| Step::Match { form, distance, length }),
        ]
    }

    proptest! {
        #[test]
        fn expands_every_form_of_instruction(steps in proptest::collection::vec(step(), 0..200)) {
            let mut encoder = Encoder::default();
            encoder.literals(&[7; 20]);
            for step in steps {
                match step {
                    // A run can follow a match only; short ones only in the match's own bits.
                    Step::Literals(bytes) if encoder.count_at.is_some() => encoder.literals(&bytes),
                    Step::Literals(_) => {}
                    Step::Match { form, distance, length } => encoder.repeat(form, distance, length),
                }
            }
            let (stream, plain) = encoder.finish();
            let mut out = vec![0; plain.len()];
            prop_assert_eq!(decompress(&stream, &mut out), Ok(plain.len()));
            prop_assert!(out == plain);
        }

        #[test]
        fn damaged_streams_are_refused_or_bounded(
            stream in proptest::collection::vec(any::<u8>(), 0..300), room in 0..2000usize
        ) {
            let mut out = vec![0; room];
            if let Ok(len) = decompress(&stream, &mut out) {
                prop_assert!(len <= room);
            }
        }
    }

    /// Two bytes from near by, after one to three literals: the one form a match's count bits lead to.
    #[test]
    fn short_matches_after_short_runs() {
        // Four literals, 3 bytes from 1 back with one literal, 2 bytes from 2 back, end.
        let stream = [21, b'a', b'b', b'c', b'd', 0x41, 0, b'X', 0b0100, 0, 0x11, 0, 0];
        let mut out = [0; 32];
        let len = decompress(&stream, &mut out).unwrap();
        assert_eq!(&out[..len], b"abcddddXdX");
    }

    #[test]
    fn a_bomb_ends_at_the_buffer() {
        let bomb = [&[18, 0, 0x20][..], &[0; 1000], &[1, 0, 0], &[0x11, 0, 0]].concat();
        assert_eq!(decompress(&bomb, &mut vec![0; 65_535]), Err(Damaged));
    }
}
