//! A driver made of arbitrary bytes.
