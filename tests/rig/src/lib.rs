//! Real containers, real load and an independent witness.
//!
//! ```text
//! rootfs ──► Bundle ──► Container ──► load          the container under test, by runc or crun
//!              └──► Engine ──► Contained ──► load    the same by docker, podman or containerd
//!                          │ cgroup2
//!                       Witness                     counts denials without seccast
//! ```
//!
//! Everything here works on any Linux machine with runc and root; nothing is left behind, and every wait is bounded.

pub mod bundle;
mod busy;
pub mod cgroup;
pub mod cluster;
pub mod container;
pub mod engine;
pub mod load;
pub mod lock;
pub mod oci;
pub mod process;
pub mod rootfs;
pub mod witness;

pub use bundle::Bundle;
pub use busy::BusyLoops;
pub use container::{Container, Runtime};
pub use engine::{Contained, Engine};
pub use load::Server;
pub use lock::{Lock, unique};
pub use witness::{Testimony, Witness};

use std::path::PathBuf;

/// Where everything expensive is kept: `$SECCAST_CACHE`, else `seccast` in the user's cache folder.
#[must_use]
pub fn cache_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("SECCAST_CACHE").filter(|dir| !dir.is_empty()) {
        return PathBuf::from(dir);
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    cache
        .unwrap_or_else(|| home().join(".cache"))
        .join("seccast")
}
