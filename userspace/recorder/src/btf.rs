//! Offsets of structure members in the running kernel, from its BTF.
//!
//! A reader of its own for a format of two tables: aya keeps its BTF types private, and the crates that expose them are
//! LGPL, which a static binary should not take in. Format: Documentation/bpf/btf.rst.

use std::{collections::HashMap, io};

/// Where the kernel shows its BTF (CONFIG_DEBUG_INFO_BTF, 5.4+).
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why the offsets could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The file is missing or unreadable.
    #[error(
        "cannot read the kernel's BTF at {path}; boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as Debian, Ubuntu and Fedora build it"
    )]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bytes are no BTF.
    #[error("the kernel's BTF is malformed at byte {at}")]
    Malformed {
        /// Offset of the first byte that makes no sense.
        at: usize,
    },
    /// The kernel has no such member.
    #[error("this kernel has no {structure}.{member}")]
    Missing {
        /// The structure.
        structure: String,
        /// The member.
        member: String,
    },
}

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;

/// The type section and the string section, with the start of each type.
pub struct KernelBtf<'a> {
    bytes: &'a [u8],
    types: Vec<usize>,
    strings: usize,
    structs: HashMap<&'a [u8], usize>,
}

impl<'a> KernelBtf<'a> {
    /// Finds every type and every named struct.
    ///
    /// # Errors
    /// When the bytes are no BTF.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let malformed = |at| BtfError::Malformed { at };
        let word = |at: usize| -> Result<u32, BtfError> {
            bytes
                .get(at..at + 4)
                .and_then(|four| four.try_into().ok())
                .map(u32::from_le_bytes)
                .ok_or(BtfError::Malformed { at })
        };
        if word(0)? & 0xffff != 0xeb9f {
            return Err(malformed(0));
        }
        let header = word(4)? as usize;
        let (type_offset, type_length, string_offset) =
            (word(8)? as usize, word(12)? as usize, word(16)? as usize);
        let (start, end, strings) = (
            header + type_offset,
            header + type_offset + type_length,
            header + string_offset,
        );
        if end > bytes.len() || strings > bytes.len() {
            return Err(malformed(8));
        }
        // Type 0 is void.
        let mut types = vec![0];
        let mut structs = HashMap::new();
        let mut at = start;
        while at < end {
            let (name, info) = (word(at)?, word(at + 4)?);
            let (count, kind) = ((info & 0xffff) as usize, (info >> 24) & 0x1f);
            let trailer = match kind {
                1 | 14 | 17 => 4,
                2 | 7..=12 | 16 | 18 => 0,
                3 => 12,
                KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * count,
                6 | 13 => 8 * count,
                _ => return Err(malformed(at)),
            };
            if kind == KIND_STRUCT && name != 0 && count > 0 {
                let from = strings + name as usize;
                let text = bytes
                    .get(from..)
                    .and_then(|rest| rest.split(|byte| *byte == 0).next())
                    .ok_or(malformed(at))?;
                structs.entry(text).or_insert(types.len());
            }
            types.push(at);
            at += 12 + trailer;
        }
        Ok(Self {
            bytes,
            types,
            strings,
            structs,
        })
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.bytes
            .get(at..at + 4)
            .and_then(|four| four.try_into().ok())
            .map(u32::from_le_bytes)
    }

    fn name_is(&self, name: u32, wanted: &str) -> bool {
        let from = self.strings + name as usize;
        self.bytes
            .get(from..from + wanted.len() + 1)
            .is_some_and(|text| text.split_last() == Some((&0, wanted.as_bytes())))
    }

    /// A BTF that holds nothing but the named types of the given kinds, each under the id that it has here; what lies
    /// between are empty forward declarations. For a reader that is slow with the whole.
    #[must_use]
    pub fn only(&self, wanted: &[(u32, &str)]) -> Vec<u8> {
        const FORWARD: u32 = 7 << 24;
        let found = |at: usize| {
            let (name, info) = (self.word(at)?, self.word(at + 4)?);
            wanted
                .iter()
                .find(|(kind, text)| (info >> 24) & 0x1f == *kind && self.name_is(name, text))
                .map(|(kind, text)| (kind << 24, *text))
        };
        let mut strings = vec![0];
        let (mut types, mut last) = (Vec::new(), 0);
        for at in self.types.iter().skip(1) {
            let (name, info) = match found(*at) {
                Some((info, text)) => {
                    let name = strings.len() as u32;
                    strings.extend_from_slice(text.as_bytes());
                    strings.push(0);
                    last = types.len() + 12;
                    (name, info)
                }
                None => (0, FORWARD),
            };
            for word in [name, info, 0] {
                types.extend_from_slice(&word.to_ne_bytes());
            }
        }
        types.truncate(last);
        let mut bytes = Vec::with_capacity(24 + types.len() + strings.len());
        let (length, end) = (types.len() as u32, strings.len() as u32);
        bytes.extend_from_slice(&0xeb9f_u16.to_ne_bytes());
        bytes.extend_from_slice(&[1, 0]);
        for word in [24, 0, length, length, end] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(&types);
        bytes.extend_from_slice(&strings);
        bytes
    }

    /// Byte offset of `path` (members joined by dots) in `structure`, through anonymous structs and unions.
    ///
    /// # Errors
    /// When the kernel has no such structure or member.
    pub fn offset(&self, structure: &str, path: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::Missing {
            structure: structure.to_owned(),
            member: path.to_owned(),
        };
        let mut id = *self.structs.get(structure.as_bytes()).ok_or_else(missing)?;
        let mut bits = 0;
        for member in path.split('.') {
            let (offset, of) = self.member(id, member, 0).ok_or_else(missing)?;
            bits += offset;
            id = of;
        }
        Ok(bits / 8)
    }

    /// Bit offset and type of a member.
    fn member(&self, id: usize, wanted: &str, depth: u32) -> Option<(u32, usize)> {
        let at = *self.types.get(id)?;
        let info = self.word(at + 4)?;
        let kind = (info >> 24) & 0x1f;
        match kind {
            // typedef, volatile, const, restrict, type tag: look through.
            8..=11 | 18 if depth < 32 => {
                return self.member(self.word(at + 8)? as usize, wanted, depth + 1);
            }
            KIND_STRUCT | KIND_UNION => {}
            _ => return None,
        }
        for index in 0..(info & 0xffff) as usize {
            let entry = at + 12 + 12 * index;
            let (name, of, raw) = (
                self.word(entry)?,
                self.word(entry + 4)? as usize,
                self.word(entry + 8)?,
            );
            let bits = if info >> 31 == 1 {
                raw & 0x00ff_ffff
            } else {
                raw
            };
            if name != 0 && self.name_is(name, wanted) {
                return Some((bits, of));
            }
            if name == 0
                && depth < 32
                && let Some((inner, found)) = self.member(of, wanted, depth + 1)
            {
                return Some((bits + inner, found));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_an_error_and_no_panic() {
        for bytes in [
            Vec::new(),
            vec![0x9f, 0xeb],
            vec![
                0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0,
                0,
            ],
        ] {
            assert!(matches!(
                KernelBtf::parse(&bytes),
                Err(BtfError::Malformed { .. })
            ));
        }
    }
}
