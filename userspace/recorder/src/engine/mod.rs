//! Container engines, through their own clients: what a user's command honours (contexts, sockets, remote hosts, storage
//! folders, credentials) holds here by construction, for docker, podman, nerdctl and containerd alike.

mod client;
pub mod command;
pub mod cri;
mod events;
mod wrapper;

pub use client::{Client, Details};
pub use events::{Events, Told};

use std::{path::PathBuf, time::Duration};

/// How long a client may take to answer: podman with a cold storage needs a second.
const ANSWER: Duration = Duration::from_secs(20);

/// An engine, or a runtime without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// dockerd, through `docker`.
    Docker,
    /// `podman`, with or without its service.
    Podman,
    /// containerd, through `nerdctl`.
    Nerdctl,
    /// containerd, through `ctr`.
    Containerd,
    /// runc alone.
    Runc,
    /// crun alone.
    Crun,
}

impl Kind {
    /// The name used in observations and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Nerdctl => "nerdctl",
            Self::Containerd => "containerd",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// The engine behind the client.
    #[must_use]
    pub fn server(self) -> &'static str {
        match self {
            Self::Nerdctl => Self::Containerd.name(),
            other => other.name(),
        }
    }

    /// The client's program.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Containerd => "ctr",
            other => other.name(),
        }
    }

    /// Is it a runtime without an engine?
    #[must_use]
    pub fn is_runtime(self) -> bool {
        matches!(self, Self::Runc | Self::Crun)
    }
}

/// Why an engine could not be asked, or is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Its client is not there.
    #[error(
        "cannot run {program}, the client of {engine}; install it, or name the container by its 64-digit id"
    )]
    NoClient {
        /// The engine.
        engine: &'static str,
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It does not answer.
    #[error("{engine} does not answer `{command}`: {answer}")]
    Down {
        /// The engine.
        engine: &'static str,
        /// What was asked.
        command: String,
        /// The last line that it printed, or that it took too long.
        answer: String,
    },
    /// What it said is not understood.
    #[error("{engine} answered `{command}` with something that is not understood")]
    Answer {
        /// The engine.
        engine: &'static str,
        /// What was asked.
        command: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It is on another machine.
    #[error(
        "{engine} at {host} is on another machine: its containers make no call here; run seccast on that machine, with its local socket"
    )]
    Remote {
        /// The engine.
        engine: &'static str,
        /// Its address.
        host: String,
    },
    /// It has a kernel of its own.
    #[error(
        "{engine} runs on kernel {theirs} ({name}), this is {ours}: it is in a virtual machine or on another host; run seccast there"
    )]
    OtherKernel {
        /// The engine.
        engine: &'static str,
        /// What it says of its host.
        name: String,
        /// Its kernel.
        theirs: String,
        /// This kernel.
        ours: String,
    },
    /// The runtime keeps the container's calls from this kernel.
    #[error(
        "runtime {runtime} gives the container a kernel of its own: its calls never reach this one, and a seccomp profile would not be asked; use runc or crun"
    )]
    OwnKernel {
        /// The runtime.
        runtime: String,
    },
    /// No such container.
    #[error("{engine} knows no container {name}")]
    Unknown {
        /// The engine.
        engine: &'static str,
        /// As it was given.
        name: String,
    },
    /// A socket that is no file.
    #[error(
        "{path} is no socket; --socket takes the engine's local socket, such as /run/docker.sock"
    )]
    NoSocket {
        /// As it was given.
        path: PathBuf,
    },
}

/// Refuses low-level runtimes that run containers in a virtual machine or a user space kernel.
///
/// # Errors
/// For those.
pub fn check_runtime(runtime: &str) -> Result<(), EngineError> {
    // Names by which their own documentation registers them: kata-runtime, io.containerd.kata.v2, runsc, io.containerd.runsc.v1…
    const OWN_KERNEL: [&str; 7] = [
        "kata",
        "runsc",
        "gvisor",
        "firecracker",
        "krun",
        "hyperv",
        "kuasar",
    ];
    let name = runtime.to_ascii_lowercase();
    let name = name.rsplit('/').next().unwrap_or_default();
    if OWN_KERNEL.iter().any(|own| name.contains(own)) {
        return Err(EngineError::OwnKernel {
            runtime: runtime.to_owned(),
        });
    }
    Ok(())
}
