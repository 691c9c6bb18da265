//! tls-crypt-v2: a key for each client, carried wrapped by the client itself.
