//! Headers of inner packets: IPv4, IPv6, TCP, UDP.
