//! Opens the files that a configuration names.

use std::fs::File;
use std::io::{self, Read};

use ovpn_config::Reader;

/// Largest configuration file that is read, in bytes.
const MOST: u64 = 16 << 20;

/// Files of this machine, relative to the working directory; `stdin` is standard input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files;

impl Reader for Files {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let count = if name == "stdin" {
            io::stdin().lock().take(MOST + 1).read_to_end(&mut content)?
        } else {
            File::open(name)?.take(MOST + 1).read_to_end(&mut content)?
        };
        if count as u64 > MOST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 16 MiB are no configuration"));
        }
        Ok(content)
    }
}
