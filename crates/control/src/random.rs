//! Randomness, as it is passed in.

/// A source of random bytes: session ids and key-method-2 randoms. (TLS draws its own from its provider.)
pub trait Random {
    /// Fills `bytes` with random bytes.
    fn fill(&mut self, bytes: &mut [u8]);
}

impl<F: FnMut(&mut [u8])> Random for F {
    fn fill(&mut self, bytes: &mut [u8]) {
        self(bytes);
    }
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        // aws-lc aborts rather than return without entropy; the error type exists for other backends.
        if aws_lc_rs::rand::fill(bytes).is_err() {
            unreachable!("the system's random generator failed");
        }
    }
}
