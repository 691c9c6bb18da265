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
