//! The first byte of every packet: opcode and key id.
