//! The closed loop on real servers: recorded under load, and run again under the profile that comes of it.
//!
//! The programs are started as root by `cargo xtask demo` and `cargo xtask profiles`, which build them and seccast before;
//! `cargo xtask vm` has the same loop in a machine of another kernel.

pub mod interrupt;
pub mod recorder;
pub mod redis;

use std::process::ExitCode;

use anyhow::Result;

/// What the `main` of a program does: signals end its waits, and an error is printed once.
pub fn main(work: impl FnOnce() -> Result<()>) -> ExitCode {
    match interrupt::catch().and_then(|()| work()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    /// The rig has a list of its own, and what it starts is compared with the model's.
    #[test]
    fn the_rigs_capabilities_are_the_models() {
        assert_eq!(
            seccast_rig::bundle::DOCKER_CAPABILITIES,
            seccast_model::defaults::DOCKER_CAPABILITIES
        );
    }
}
