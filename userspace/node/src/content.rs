//! What may become a file on a node: profiles that runtimes read as they are meant.

use seccast_model::{
    Profile,
    profile::{Action, ParseError},
};
use std::{
    fs::File,
    io::{self, Read as _},
};

/// No installed profile is larger: a ConfigMap holds no more, and the largest default profile of an engine has 20 KiB.
pub const MAX_BYTES: usize = 1 << 20;

/// Why a file is not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// Larger than [`MAX_BYTES`].
    #[error("the file has {bytes} bytes, and no installed profile more than {MAX_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not a plain profile.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It asks a supervisor, and names none: runc starts no container with it.
    #[error(
        "SCMP_ACT_NOTIFY without a `listenerPath`: runc starts no container with it; name the socket of the supervisor"
    )]
    NoListener,
}

impl ContentError {
    /// The path of the field that is wrong, where it is one field.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Parse(error) => error.field(),
            _ => None,
        }
    }

    /// Is it a profile with the conditions of docker, podman or CRI-O, which `seccast convert` makes plain?
    #[must_use]
    pub fn is_dialect(&self) -> bool {
        matches!(self, Self::Parse(ParseError::DockerDialect { .. }))
    }
}

/// Reads a profile that is to be installed.
///
/// # Errors
/// When it is none, has conditions that containerd drops without a word, is too large, or starts no container under runc.
pub fn check(bytes: &[u8]) -> Result<Profile, ContentError> {
    if bytes.len() > MAX_BYTES {
        return Err(ContentError::TooLarge { bytes: bytes.len() });
    }
    let profile = Profile::from_oci_json(bytes)?;
    let actions = profile.rules.iter().map(|rule| rule.action);
    let notifies = actions
        .chain([profile.default_action])
        .any(|action| action == Action::Notify);
    if notifies && profile.listener_path.is_none() {
        return Err(ContentError::NoListener);
    }
    Ok(profile)
}

/// The content of a regular file, cut off where no profile is longer; `None` for a pipe, a device, a folder.
pub(crate) fn read_regular(file: File) -> io::Result<Option<Vec<u8>>> {
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let most = u64::try_from(MAX_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut content = Vec::new();
    file.take(most).read_to_end(&mut content)?;
    Ok(Some(content))
}
