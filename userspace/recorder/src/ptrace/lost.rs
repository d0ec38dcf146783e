//! Privileges that a program's file gives and that its process does not have: an unprivileged tracer takes them away
//! (cap_bprm_creds_from_file of security/commoncap.c).

use crate::proc;
use std::{
    ffi::CString,
    fs, mem,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

/// The file of the program that a process has just executed, if it lacks privileges that the file gives. `given` is the
/// file that the execve named: not what runs where that is a script, but a program that may not be read hides itself.
///
/// Not where they would be missing without a tracer as well: on a mount without set-id, under no_new_privs, in another
/// user namespace.
pub(super) fn privileges(pid: i32, given: &Path) -> Option<String> {
    // By the link and not by its text, which is of the process's own mounts.
    let exe = PathBuf::from(format!("/proc/{pid}/exe"));
    let file = if exe.exists() { &exe } else { given };
    let metadata = fs::metadata(file).ok()?;
    let permitted = permitted_by(file);
    if metadata.mode() & 0o6000 == 0 && permitted == 0 {
        return None;
    }
    let pid = pid.unsigned_abs();
    let now = proc::credentials(pid)?;
    let set_uid = metadata.mode() & 0o4000 != 0 && metadata.uid() != now.euid;
    let set_gid = metadata.mode() & 0o2010 == 0o2010 && metadata.gid() != now.egid;
    let lost = set_uid || set_gid || permitted & now.bounding & !now.permitted != 0;
    let would_have = !now.no_new_privs && !on_nosuid(file) && !proc::in_other_user_namespace(pid);
    let name = fs::read_link(&exe).unwrap_or_else(|_| given.to_owned());
    (lost && would_have).then(|| name.display().to_string())
}

/// Capabilities that a file permits: `struct vfs_cap_data` of linux/capability.h, little-endian.
fn permitted_by(file: &Path) -> u64 {
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else {
        return 0;
    };
    let mut data = [0u8; 24];
    // SAFETY: valid texts and a buffer of that length.
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            data.as_mut_ptr().cast(),
            data.len(),
        )
    };
    permitted(
        data.get(..usize::try_from(length).unwrap_or(0))
            .unwrap_or_default(),
    )
}

/// Magic, then pairs of permitted and inheritable words: one of version 1, two of versions 2 and 3.
fn permitted(data: &[u8]) -> u64 {
    let words: Vec<u64> = data
        .as_chunks()
        .0
        .iter()
        .map(|bytes| u64::from(u32::from_le_bytes(*bytes)))
        .collect();
    words.get(1).copied().unwrap_or(0) | words.get(3).copied().unwrap_or(0) << 32
}

fn on_nosuid(file: &Path) -> bool {
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: a struct of integers.
    let mut info: libc::statvfs = unsafe { mem::zeroed() };
    // SAFETY: a valid text and a place for the answer.
    unsafe {
        libc::statvfs(path.as_ptr(), &raw mut info) == 0 && info.f_flag & libc::ST_NOSUID != 0
    }
}

#[cfg(test)]
mod tests {
    use super::permitted;

    #[test]
    fn both_words_of_the_permitted_set_are_read() {
        // cap_net_raw (13) with the effective bit, version 2; cap_bpf (39) in the second word.
        let data = [
            1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(permitted(&data), 1 << 13 | 1 << 39);
        assert_eq!(permitted(&[]), 0);
    }
}
