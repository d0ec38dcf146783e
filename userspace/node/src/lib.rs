//! Profiles on a node: the folder `seccast` below the kubelet's seccomp folder, kept whole.
//!
//! A profile `web` is two names in one folder: `web.HASH.json` has the content, and `HASH` is that of the content; `web.json`, the
//! **alias**, is a relative symbolic link to it. Pods name the alias. A runtime opens it as any file, follows the link, and reads a
//! file that is never written again: a new content is a new file, and the alias moves by a rename. So there is no instant at which
//! a reader finds half a file, or none, as long as the file that it was led to is still there when it opens it: a version stays for
//! a minute after the alias has left it. A hard link in place of the symbolic one would do the same for readers; but it tells nobody which
//! version it is, an editor that writes to it in place changes the version as well, and a rename between two names of one file
//! does nothing and says that it did.
//!
//! Everything below the root is reached from one file descriptor by openat2 (Linux 5.6), beneath it and through no symbolic link; what
//! changes the folder takes one validated name. The crate knows neither a cluster nor a runtime, and prints nothing.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod content;
mod mirror;
mod name;
mod root;
mod source;

pub use content::{ContentError, MAX_BYTES, check};
pub use mirror::{Change, InUse, KEEP, Watcher, differences, fingerprint, mirror};
pub use name::{Hash, Name, NameError};
pub use root::{
    Alias, FOLDER, Folder, GRACE, Installed, Listing, Locked, NodeError, Put, Root, Version,
};
pub use source::{BadFile, Source, SourceError};
