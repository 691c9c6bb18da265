//! tls-crypt: encrypted and authenticated control packets.
