//! Special payloads of the data channel: keepalive ping and OCC.
