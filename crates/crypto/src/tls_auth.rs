//! tls-auth: HMAC on control packets.
