//! Calls as strace(1) writes them.
