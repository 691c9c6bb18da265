//! Data packet headers: DATA_V1, DATA_V2 and the epoch format.
