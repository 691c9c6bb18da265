//! The DCO API as the kernel's generic-netlink messages, both directions.
