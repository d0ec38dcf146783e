//! What /proc tells of a process. Everything here may vanish at any moment: absence is `None`, never an error.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Command line of a process.
#[must_use]
pub fn command_line(pid: u32) -> Option<Vec<String>> {
    let arguments = split_arguments(&fs::read(format!("/proc/{pid}/cmdline")).ok()?);
    (!arguments.is_empty()).then_some(arguments)
}

/// Arguments that each end with a zero.
#[must_use]
pub fn split_arguments(bytes: &[u8]) -> Vec<String> {
    let mut arguments: Vec<_> = bytes
        .split(|byte| *byte == 0)
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect();
    arguments.pop();
    arguments
}

/// The task's name.
#[must_use]
pub fn comm(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .ok()
        .map(|text| text.trim_end().to_owned())
}

/// A field of /proc/PID/stat by its number in proc(5), which is counted from 1 and is at least 3.
fn stat(pid: u32, field: usize) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may contain anything.
    text.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(field.checked_sub(3)?)?
        .parse()
        .ok()
}

/// A line of /proc/PID/status, or of /proc/self/status, by what it begins with.
fn status(pid: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().to_owned())
}

/// Its users, if they are one: real, effective, saved, and of the file system. A setuid program has two.
fn user(pid: &str) -> Option<u32> {
    let line = status(pid, "Uid:")?;
    let ids: Vec<u32> = line
        .split_ascii_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let (first, others) = ids.split_first()?;
    others.iter().all(|id| id == first).then_some(*first)
}

/// Does it run as root or as whom this process acts for?
pub(crate) fn is_trusted(pid: u32) -> bool {
    let own = credentials(std::process::id()).map(|own| own.euid);
    user(&pid.to_string()).is_some_and(|user| user == 0 || Some(user) == own)
}

/// Is it gone, or a zombie?
#[must_use]
pub fn is_dead(pid: u32) -> bool {
    let state = status(&pid.to_string(), "State:");
    state.is_none_or(|state| matches!(state.as_bytes().first(), Some(b'Z' | b'X')))
}

/// Parent process.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    u32::try_from(stat(pid, 4)?).ok()
}

/// Every process that is seen here.
#[must_use]
pub fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The process and its ancestors, nearest first; at most `limit`.
#[must_use]
pub fn line(pid: u32, limit: usize) -> Vec<u32> {
    std::iter::successors(Some(pid), |pid| parent(*pid).filter(|parent| *parent != 0))
        .take(limit)
        .collect()
}

/// Nanoseconds since the process started.
#[must_use]
pub fn age_ns(pid: u32) -> Option<u64> {
    let start = stat(pid, 22)?;
    // SAFETY: no argument is a pointer.
    let ticks = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) })
        .ok()
        .filter(|ticks| *ticks > 0)?;
    Some(crate::clock::boot_ns().saturating_sub(start * (1_000_000_000 / ticks)))
}

/// What a process may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Effective user id.
    pub(crate) euid: u32,
    /// Effective group id.
    pub(crate) egid: u32,
    /// Permitted capabilities, by their numbers.
    pub(crate) permitted: u64,
    /// Effective ones.
    pub(crate) effective: u64,
    /// Those that it can ever have.
    pub(crate) bounding: u64,
    /// It cannot gain privileges by executing a file.
    pub(crate) no_new_privs: bool,
}

/// The credentials of a process.
pub(crate) fn credentials(pid: u32) -> Option<Credentials> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    // Real, effective, saved, file system.
    let id = |name| field(name)?.split_ascii_whitespace().nth(1)?.parse().ok();
    let set = |name| u64::from_str_radix(field(name)?.trim(), 16).ok();
    Some(Credentials {
        euid: id("Uid:")?,
        egid: id("Gid:")?,
        permitted: set("CapPrm:")?,
        effective: set("CapEff:")?,
        bounding: set("CapBnd:")?,
        no_new_privs: field("NoNewPrivs:").is_some_and(|value| value.trim() == "1"),
    })
}

/// Has this process a capability, by its number in linux/capability.h?
pub(crate) fn has_capability(number: u32) -> bool {
    credentials(std::process::id()).is_some_and(|own| own.effective >> number & 1 == 1)
}

/// The process that a thread belongs to.
pub(crate) fn thread_group(tid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("Tgid:"))?
        .trim()
        .parse()
        .ok()
}

/// Does a process live in another user namespace than this one? Not if that is hidden.
pub(crate) fn in_other_user_namespace(pid: u32) -> bool {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    let other = namespace(&pid.to_string());
    other.is_some() && other != namespace("self")
}

/// Mode of the seccomp filter: 0 none, 1 strict, 2 filter.
#[must_use]
pub fn seccomp(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("Seccomp:"))?
        .trim()
        .parse()
        .ok()
}

/// Filters on a process (`Seccomp_filters` of proc_pid_status(5), 5.9+; before, one where there is any).
#[must_use]
pub fn filters(pid: u32) -> Option<u32> {
    let count =
        status(&pid.to_string(), "Seccomp_filters:").and_then(|count| count.trim().parse().ok());
    count.or_else(|| Some(u32::from(seccomp(pid)? == 2)))
}

/// Threads of a process.
#[must_use]
pub fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The number of the call that a thread is in: `Some(None)` while it runs, `None` when that cannot be read.
#[must_use]
pub fn current_call(pid: u32, tid: u32) -> Option<Option<i64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    match text.split_ascii_whitespace().next()? {
        "running" => Some(None),
        nr => Some(nr.parse().ok().filter(|nr| *nr >= 0)),
    }
}

/// Is the process's program a 32-bit ELF file?
#[must_use]
pub fn is_32_bit(pid: u32) -> Option<bool> {
    let mut head = [0; 5];
    fs::File::open(format!("/proc/{pid}/exe"))
        .ok()?
        .read_exact(&mut head)
        .ok()?;
    head.starts_with(b"\x7fELF").then_some(head[4] == 1)
}

/// Does a process live in this process's pid namespace?
///
/// The link tells it to who may trace the process; its ids in the namespaces below that of /proc (`NSpid`, 4.1+) to everybody.
#[must_use]
pub fn in_own_pid_namespace(pid: u32) -> bool {
    let ids = |pid: &str| Some(status(pid, "NSpid:")?.split_ascii_whitespace().count());
    match fs::read_link(format!("/proc/{pid}/ns/pid")) {
        Ok(namespace) => fs::read_link("/proc/self/ns/pid").is_ok_and(|own| own == namespace),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            ids("self") == Some(1) && ids(&pid.to_string()) == Some(1)
        }
        Err(_) => false,
    }
}

/// Does this process live in the machine's first pid namespace, by whose ids the kernel's events name processes?
pub(crate) fn in_first_pid_namespace() -> bool {
    // Its inode is fixed (include/linux/proc_ns.h).
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link == Path::new("pid:[4026531836]"))
}

fn in_own_namespace(pid: u32, kind: &str) -> bool {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let own = namespace("self");
    own.is_some() && namespace(&pid.to_string()) == own
}

/// Is it `program`, run by whom this process acts for? One that owes its user to a setuid bit or to a user namespace is not:
/// somebody else has chosen its arguments.
#[must_use]
pub fn is_our(pid: u32, program: &str) -> bool {
    let own = credentials(std::process::id()).map(|own| own.euid);
    let file = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    // Behind an upgrade it is an old file.
    name.trim_end_matches(" (deleted)") == program
        && user(&pid.to_string()).is_some_and(|user| Some(user) == own)
        && in_own_namespace(pid, "user")
}

/// A regular file of at most `limit` bytes that somebody else may have put there: a pipe or a device does not block, and
/// nothing is read of it.
#[must_use]
pub fn read_file(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut options = fs::File::options();
    let file = options
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > limit {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Larger C libraries are not read: glibc's has some two megabytes.
const LIBC_LIMIT: u64 = 16 << 20;

/// The C library that a process has mapped, with its version where the file tells it.
///
/// The file is read by its mapping, not by its path: the path is the target's, and may lead anywhere.
#[must_use]
pub fn libc(pid: u32) -> Option<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(device), Some(path)) = (fields.next(), fields.nth(2), fields.nth(1))
        else {
            continue;
        };
        let name = path.rsplit('/').next()?;
        if name.starts_with("ld-musl-") {
            return Some("musl".to_owned());
        }
        if name == "libc.so.6" || name.starts_with("libc-2.") {
            let file = PathBuf::from(format!("/proc/{pid}/map_files/{range}"));
            let version = answers_by_itself(device)
                .then(|| read_file(&file, LIBC_LIMIT))
                .flatten()
                .and_then(|bytes| glibc_version(&bytes));
            return Some(
                version.map_or_else(|| "glibc".to_owned(), |version| format!("glibc {version}")),
            );
        }
    }
    None
}

/// Does the kernel itself answer for files of this device, `major:minor` as maps has it? Behind a FUSE mount is a process that
/// may never answer, and whoever waits for it cannot even be killed. What is not mounted here as well may be an overlay of one.
fn answers_by_itself(device: &str) -> bool {
    let number = |text| u32::from_str_radix(text, 16).ok();
    let Some((Some(major), Some(minor))) = device
        .split_once(':')
        .map(|(major, minor)| (number(major), number(minor)))
    else {
        return false;
    };
    let device = format!("{major}:{minor}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut of_device = mounts
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .filter(|(mount, _)| mount.split(' ').nth(2) == Some(&device));
    of_device
        .next()
        .is_some_and(|(_, kind)| !kind.starts_with("fuse"))
}

/// glibc carries the banner that running it prints.
fn glibc_version(bytes: &[u8]) -> Option<String> {
    let marker = b"stable release version ";
    let at = bytes
        .windows(marker.len())
        .position(|window| window == marker)?
        + marker.len();
    let version = bytes[at..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit() || **byte == b'.')
        .map(|byte| char::from(*byte))
        .collect::<String>();
    let version = version.trim_end_matches('.').to_owned();
    (!version.is_empty()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_what_this_user_runs_under_that_name() {
        let own = std::env::current_exe().unwrap();
        let own = own.file_name().unwrap().to_str().unwrap();
        assert!(is_our(std::process::id(), own));
        assert!(!is_our(std::process::id(), "conmon"));
        assert!(!is_our(0, own));
    }
}
