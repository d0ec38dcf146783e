//! What container runtimes leave on the machine about their containers.

pub mod bundle;
pub mod runc;
