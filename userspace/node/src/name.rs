//! Names of installed profiles, validated once.

use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};

const JSON: &str = ".json";

/// What the hash and its dot add to a name.
const HASHED: usize = 17;

/// The most bytes of a name with `.json`: a version's name has to fit into the 255 of a folder's entry.
const MAX: usize = 255 - HASHED;

/// The name of an installed profile without `.json`: one element of a path, and never a hidden one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why something is not the name of a profile.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It does not end with `.json`, or has nothing before that.
    #[error("it does not end with `.json`")]
    NoJson,
    /// Longer than fits into a folder together with the hash.
    #[error("it has {bytes} bytes, and a profile's name at most {MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is a path.
    #[error("it has a `/`: a name is one element of a path")]
    Slash,
    /// It begins with a dot.
    #[error("it begins with a dot")]
    Hidden,
    /// It holds a control character.
    #[error("it has the control character {}", .0.escape_default())]
    Control(char),
    /// It is what a version of another profile is called.
    #[error("it ends like a version, `.HASH.json`: leave the hash out")]
    Version,
}

impl FromStr for Name {
    type Err = NameError;

    /// Takes `web.json`.
    fn from_str(file: &str) -> Result<Self, NameError> {
        if file.len() > MAX {
            return Err(NameError::TooLong { bytes: file.len() });
        }
        if file.contains('/') {
            return Err(NameError::Slash);
        }
        if file.starts_with('.') {
            return Err(NameError::Hidden);
        }
        if let Some(control) = file.chars().find(|c| c.is_control()) {
            return Err(NameError::Control(control));
        }
        let stem = file.strip_suffix(JSON).ok_or(NameError::NoJson)?;
        if split(stem).is_some() {
            return Err(NameError::Version);
        }
        Ok(Self(stem.to_owned()))
    }
}

impl Name {
    /// The alias: `web.json`.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}{JSON}", self.0)
    }

    /// The file of a version: `web.0123456789abcdef.json`.
    #[must_use]
    pub fn version(&self, hash: Hash) -> String {
        format!("{}.{hash}{JSON}", self.0)
    }
}

/// The first 64 bits of a content's SHA-256: `sha256sum FILE | cut -c-16`.
///
/// It tells versions apart, and is no proof: what is on the disk is compared with what should be there byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(u64);

impl Hash {
    /// That of a content.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        let digest = Sha256::digest(content);
        Self(
            digest
                .iter()
                .take(8)
                .fold(0, |hash, byte| hash << 8 | u64::from(*byte)),
        )
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Whose version a file is, and which: `web.0123456789abcdef.json`.
pub(crate) fn version_of(file: &str) -> Option<(Name, Hash)> {
    let (stem, hash) = split(file.strip_suffix(JSON)?)?;
    let name = format!("{stem}{JSON}").parse().ok()?;
    Some((name, hash))
}

/// `web.0123456789abcdef` in two.
fn split(stem: &str) -> Option<(&str, Hash)> {
    let (stem, hash) = stem.rsplit_once('.')?;
    let digits = hash.len() == 16 && hash.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let hash = u64::from_str_radix(hash, 16).ok().filter(|_| digits)?;
    Some((stem, Hash(hash)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_visible_element_that_ends_with_json() {
        let long = format!("{}.json", "x".repeat(MAX - 5));
        for good in [
            "web.json",
            "a b.json",
            "web.seccomp.json",
            "wéb.json",
            "-.json",
            "a..b.json",
            &long,
        ] {
            let name: Name = good.parse().unwrap();
            assert_eq!(name.file(), good);
            assert!(name.version(Hash::of(b"")).len() <= 255);
        }
        let longer = format!("{}.json", "x".repeat(MAX - 4));
        let huge = format!("{}.json", "x".repeat(4096));
        for (bad, why) in [
            (longer.as_str(), NameError::TooLong { bytes: MAX + 1 }),
            (&huge, NameError::TooLong { bytes: 4101 }),
            ("../web.json", NameError::Slash),
            ("/web.json", NameError::Slash),
            ("..", NameError::Hidden),
            (".json", NameError::Hidden),
            (".seccast-new.json", NameError::Hidden),
            ("a\nb.json", NameError::Control('\n')),
            ("a\u{9b}b.json", NameError::Control('\u{9b}')),
            ("web", NameError::NoJson),
            ("", NameError::NoJson),
            ("web.JSON", NameError::NoJson),
            ("web.0123456789abcdef.json", NameError::Version),
        ] {
            assert_eq!(bad.parse::<Name>(), Err(why), "{bad}");
        }
    }

    #[test]
    fn a_version_is_named_by_what_sha256sum_says() {
        let hash = Hash::of(b"seccast\n");
        // printf 'seccast\n' | sha256sum
        assert_eq!(hash.to_string(), "a93b48123214fbbc");
        let name: Name = "web.json".parse().unwrap();
        assert_eq!(version_of(&name.version(hash)), Some((name, hash)));
        for other in [
            "web.json",
            "web.0123456789ABCDEF.json",
            "web.+123456789abcdef.json",
            "web.0123456789abcde.json",
        ] {
            assert_eq!(version_of(other), None, "{other}");
        }
    }
}
