//! What container runtimes leave on the machine about their containers: state folders, bundles, command lines.

pub mod bundle;
pub mod cri;
pub mod line;
pub mod state;
