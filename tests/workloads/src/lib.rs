//! Small programs with exactly known system calls.
