//! System call names and numbers by architecture.
//!
//! The tables are those of Linux 7.2; `xtask/data/README.md` names their sources.

#[rustfmt::skip]
mod table;

use crate::arch::Arch;
use std::fmt;

/// A system call of one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// The number, for x32 without bit 30.
    pub nr: u32,
    /// The kernel's and libseccomp's name.
    pub name: &'static str,
}

/// What is known of a name, whatever the architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The kernel's and libseccomp's name.
    pub name: &'static str,
    /// The kernel release that first had it on any architecture, where known.
    pub since_kernel: Option<Release>,
    /// The libseccomp release that first knew it, where known. [`COMMON_LIBSECCOMP`] stands for that release or an older one.
    pub since_libseccomp: Option<&'static str>,
    nrs: [Option<u32>; Arch::ALL.len()],
}

/// The libseccomp that every node may be taken to have at least; a node's runtime ignores names that its libseccomp lacks, without an error.
///
/// It is upstream's release: Debian 12 ships it with the names of 2.5.5 added.
pub const COMMON_LIBSECCOMP: &str = "2.5.4";

impl Info {
    /// The number on `arch`, for x32 without bit 30.
    #[must_use]
    pub fn nr(&self, arch: Arch) -> Option<u32> {
        self.nrs[column(arch)]
    }
}

/// A release of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// 6 of 6.1.
    pub major: u8,
    /// 1 of 6.1.
    pub minor: u8,
    /// 39 of 2.6.39; 0 where it has none.
    pub patch: u8,
}

impl Release {
    /// A release by its three numbers.
    #[must_use]
    pub const fn new(major: u8, minor: u8, patch: u8) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }
}

impl Release {
    /// The release at the start of what `uname -r` says, like 6.18 of `6.18.44-generic`; `None` where it starts otherwise.
    #[must_use]
    pub fn of_kernel(text: &str) -> Option<Self> {
        let (major, rest) = text.split_once('.')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let minor = rest.get(..digits)?;
        Some(Self::new(major.parse().ok()?, minor.parse().ok()?, 0))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.patch != 0 {
            write!(f, ".{}", self.patch)?;
        }
        Ok(())
    }
}

/// The name of a number, for x32 without bit 30.
#[must_use]
pub fn name(arch: Arch, nr: u32) -> Option<&'static str> {
    let table = table(arch);
    let at = table.binary_search_by_key(&nr, |call| call.nr).ok()?;
    Some(table[at].name)
}

/// The number of a name, for x32 without bit 30.
#[must_use]
pub fn nr(arch: Arch, name: &str) -> Option<u32> {
    info(name)?.nr(arch)
}

/// The kernel release since which this call passes every filter, whatever a profile says of it; `None` for all that filters decide about.
///
/// The kernel's own trampolines make these calls in a process that somebody probes. Source: `seccomp_uprobe_exception` in kernel/seccomp.c,
/// which compares the native number; x32's has bit 30, so filters still decide about it.
#[must_use]
pub fn unfiltered_since(arch: Arch, name: &str) -> Option<Release> {
    match (arch, name) {
        (Arch::X86_64, "uretprobe") => Some(Release::new(6, 14, 0)),
        (Arch::X86_64, "uprobe") => Some(Release::new(6, 18, 0)),
        _ => None,
    }
}

/// Every call of an architecture, by number.
#[must_use]
pub fn table(arch: Arch) -> &'static [Syscall] {
    match arch {
        Arch::X86_64 => &table::X86_64,
        Arch::X86 => &table::X86,
        Arch::X32 => &table::X32,
        Arch::Aarch64 => &table::AARCH64,
        Arch::Arm => &table::ARM,
        Arch::Riscv64 => &table::RISCV64,
    }
}

/// What is known of a name.
#[must_use]
pub fn info(name: &str) -> Option<&'static Info> {
    let at = table::INFOS
        .binary_search_by_key(&name, |info| info.name)
        .ok()?;
    Some(&table::INFOS[at])
}

/// Every name of every architecture, sorted.
#[must_use]
pub fn infos() -> &'static [Info] {
    &table::INFOS
}

fn column(arch: Arch) -> usize {
    match arch {
        Arch::X86_64 => 0,
        Arch::X86 => 1,
        Arch::X32 => 2,
        Arch::Aarch64 => 3,
        Arch::Arm => 4,
        Arch::Riscv64 => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_numbers_are_inverse() {
        for arch in Arch::ALL {
            assert!(table(arch).is_sorted_by_key(|call| call.nr), "{arch}");
            for call in table(arch) {
                assert_eq!(name(arch, call.nr), Some(call.name), "{arch}");
                assert_eq!(nr(arch, call.name), Some(call.nr), "{arch}");
            }
            let named = infos()
                .iter()
                .filter(|info| info.nr(arch).is_some())
                .count();
            assert_eq!(named, table(arch).len(), "{arch}");
        }
    }

    #[test]
    fn sizes_are_those_of_linux_7_2() {
        let sizes = Arch::ALL.map(|arch| table(arch).len());
        assert_eq!(sizes, [385, 461, 374, 327, 430, 328]);
    }

    #[test]
    fn every_number_fits_the_recorder_but_those_private_to_arm() {
        for arch in Arch::ALL {
            let beyond: Vec<_> = table(arch)
                .iter()
                .filter(|call| call.nr >= 1024)
                .map(|call| (call.nr, call.name))
                .collect();
            let private = [
                (0xf_0001, "breakpoint"),
                (0xf_0002, "cacheflush"),
                (0xf_0003, "usr26"),
                (0xf_0004, "usr32"),
                (0xf_0005, "set_tls"),
                (0xf_0006, "get_tls"),
            ];
            let expect = if arch == Arch::Arm { &private[..] } else { &[] };
            assert_eq!(beyond, expect, "{arch}");
        }
    }

    #[test]
    fn known_numbers() {
        let cases = [
            (Arch::X86_64, "getppid", 110),
            (Arch::X86_64, "clone3", 435),
            (Arch::X86, "getppid", 64),
            (Arch::X86, "socketcall", 102),
            (Arch::X32, "execve", 520),
            (Arch::X32, "getppid", 110),
            (Arch::Aarch64, "newfstatat", 79),
            (Arch::Arm, "restart_syscall", 0),
            (Arch::Arm, "_llseek", 140),
            (Arch::Arm, "mmap2", 192),
            // libseccomp's name as well; `sync_file_range2` is another name for it in the header.
            (Arch::Arm, "arm_sync_file_range", 341),
            (Arch::Riscv64, "newfstatat", 79),
            (Arch::Riscv64, "riscv_flush_icache", 259),
        ];
        for (arch, call, number) in cases {
            assert_eq!(nr(arch, call), Some(number), "{arch} {call}");
        }
        assert_eq!(nr(Arch::Aarch64, "open"), None);
        // Calls of the old Arm ABI only, and one that aarch64 kept and riscv64 never had.
        for (arch, call) in [
            (Arch::Arm, "socketcall"),
            (Arch::Arm, "time"),
            (Arch::Arm, "mmap"),
            (Arch::Arm, "sync_file_range2"),
            (Arch::Riscv64, "renameat"),
        ] {
            assert_eq!(nr(arch, call), None, "{arch} {call}");
        }
        assert_eq!(name(Arch::X86_64, 5000), None);
        assert_eq!(name(Arch::X86_64, u32::MAX), None);
    }

    #[test]
    fn releases() {
        let cases = [
            ("read", Some("1.0"), Some("2.5.4")),
            ("clone3", Some("5.3"), Some("2.5.4")),
            ("accept4", Some("2.6.28"), Some("2.5.4")),
            ("fchmodat2", Some("6.6"), Some("2.5.5")),
            ("mseal", Some("6.10"), Some("2.6.0")),
            ("listns", Some("6.19"), Some("2.6.1")),
            ("vserver", None, Some("2.5.4")),
            ("set_tls", Some("2.6.11"), Some("2.5.4")),
            ("arm_fadvise64_64", Some("2.6.14"), Some("2.5.4")),
            ("riscv_hwprobe", Some("6.4"), Some("2.6.0")),
        ];
        for (call, kernel, libseccomp) in cases {
            let info = info(call).unwrap();
            assert_eq!(
                info.since_kernel.map(|r| r.to_string()).as_deref(),
                kernel,
                "{call}"
            );
            assert_eq!(info.since_libseccomp, libseccomp, "{call}");
        }
    }

    /// The second source is the `syscalls` crate: tables of other authors, up to Linux 6.18. It has none for x32.
    #[test]
    fn a_second_source_agrees() {
        macro_rules! theirs {
            ($arch:ident) => {
                (0..1024)
                    .filter_map(|nr| Some((nr as u32, syscalls::$arch::Sysno::new(nr)?.name())))
                    .collect()
            };
        }
        type Table = BTreeSet<(u32, &'static str)>;
        // Ours alone, theirs alone.
        let cases: [(Arch, Table, &[&str], &[&str]); 5] = [
            (
                Arch::X86_64,
                theirs!(x86_64),
                &["listns", "rseq_slice_yield"],
                &[],
            ),
            // `break` is a word of Rust: the crate has to bend the name.
            (
                Arch::X86,
                theirs!(x86),
                &["break", "listns", "rseq_slice_yield"],
                &["r#break"],
            ),
            // It calls newfstatat by the name of the kernel's function, and gives the 64-bit machine the time calls of 32-bit ones.
            (
                Arch::Aarch64,
                theirs!(aarch64),
                &["newfstatat", "listns", "rseq_slice_yield"],
                &[
                    "fstatat",
                    "clock_gettime64",
                    "clock_settime64",
                    "clock_adjtime64",
                    "clock_getres_time64",
                    "clock_nanosleep_time64",
                    "timer_gettime64",
                    "timer_settime64",
                    "timerfd_gettime64",
                    "timerfd_settime64",
                    "utimensat_time64",
                    "pselect6_time64",
                    "ppoll_time64",
                    "io_pgetevents_time64",
                    "recvmmsg_time64",
                    "mq_timedsend_time64",
                    "mq_timedreceive_time64",
                    "semtimedop_time64",
                    "rt_sigtimedwait_time64",
                    "futex_time64",
                    "sched_rr_get_interval_time64",
                ],
            ),
            // It has no private calls of Arm.
            (
                Arch::Arm,
                theirs!(arm),
                &[
                    "listns",
                    "rseq_slice_yield",
                    "breakpoint",
                    "cacheflush",
                    "usr26",
                    "usr32",
                    "set_tls",
                    "get_tls",
                ],
                &[],
            ),
            (
                Arch::Riscv64,
                theirs!(riscv64),
                &["listns", "rseq_slice_yield"],
                &[],
            ),
        ];
        for (arch, theirs, only_ours, only_theirs) in cases {
            let ours: Table = table(arch)
                .iter()
                .map(|call| (call.nr, call.name))
                .collect();
            let names =
                |a: &Table, b: &Table| a.difference(b).map(|(_, name)| *name).collect::<Vec<_>>();
            assert_eq!(names(&ours, &theirs), only_ours, "{arch}: ours alone");
            assert_eq!(names(&theirs, &ours), only_theirs, "{arch}: theirs alone");
        }
    }

    #[test]
    fn releases_of_kernels() {
        let cases = [
            ("6.18.44-fc-v669", Some((6, 18))),
            ("6.1-rc3", Some((6, 1))),
            ("5.10", Some((5, 10))),
            ("", None),
            ("6", None),
            ("6.x", None),
            ("unknown", None),
        ];
        for (text, expect) in cases {
            let expect = expect.map(|(major, minor)| Release::new(major, minor, 0));
            assert_eq!(Release::of_kernel(text), expect, "{text}");
        }
    }
}
