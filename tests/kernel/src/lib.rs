//! Tests on the real kernel and real container runtimes.
