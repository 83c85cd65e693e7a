//! ELF files that cannot be booted, and why.
