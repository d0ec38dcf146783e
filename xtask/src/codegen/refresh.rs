//! Renews `xtask/data/syscalls.csv` from Debian packages: `xtask/data/README.md` says which facts come from which.

use super::syscalls::{TABLES, columns, sha256};
use crate::places;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Numbers: the kernel's own generated headers.
const KERNEL: Package = Package {
    file: "linux-libc-dev_7.2.13-1_all.deb",
    sha256: "8b33c2a408bbab537e753102dce181dc211007f64c1e2516065bc677f60d5d99",
};
/// By column. Arm has its private calls in a file of their own.
const HEADERS: [&[&str]; TABLES.len()] = [
    &["x86/asm/unistd_64.h"],
    &["x86/asm/unistd_32.h"],
    &["x86/asm/unistd_x32.h"],
    &["arm64/asm/unistd_64.h"],
    &["arm/asm/unistd-eabi.h", "arm/asm/unistd.h"],
    &["riscv/asm/unistd_64.h"],
];

/// Kernel releases: the table in syscalls(2).
const MANUAL: Package = Package {
    file: "manpages-dev_6.20-2_all.deb",
    sha256: "87d169598ec031180a07995deb5573496556a2f67668aec1dcb689c5b8d1cd34",
};

/// What syscalls(2) of man-pages 6.20 leaves out: it ends with Linux 5.14 and does not list the 64-bit time calls of 32-bit ABIs,
/// nor Arm's own variants of two calls (posix_fadvise(2) and sync_file_range(2) have those).
const SINCE: [(&str, &[&str]); 21] = [
    ("2.2", &["pread64", "pwrite64"]),
    ("2.6.14", &["arm_fadvise64_64"]),
    ("2.6.20", &["arm_sync_file_range"]),
    (
        "5.1",
        &[
            "clock_adjtime64",
            "clock_getres_time64",
            "clock_gettime64",
            "clock_nanosleep_time64",
            "clock_settime64",
            "futex_time64",
            "io_pgetevents_time64",
            "mq_timedreceive_time64",
            "mq_timedsend_time64",
            "ppoll_time64",
            "pselect6_time64",
            "recvmmsg_time64",
            "rt_sigtimedwait_time64",
            "sched_rr_get_interval_time64",
            "semtimedop_time64",
            "timer_gettime64",
            "timer_settime64",
            "timerfd_gettime64",
            "timerfd_settime64",
            "utimensat_time64",
        ],
    ),
    ("5.12", &["mount_setattr"]),
    ("5.15", &["process_mrelease"]),
    ("5.16", &["futex_waitv"]),
    ("5.17", &["set_mempolicy_home_node"]),
    ("6.4", &["riscv_hwprobe"]),
    ("6.5", &["cachestat"]),
    ("6.6", &["fchmodat2", "map_shadow_stack"]),
    ("6.7", &["futex_requeue", "futex_wait", "futex_wake"]),
    (
        "6.8",
        &[
            "listmount",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "statmount",
        ],
    ),
    ("6.10", &["mseal"]),
    ("6.11", &["uretprobe"]),
    (
        "6.13",
        &["getxattrat", "listxattrat", "removexattrat", "setxattrat"],
    ),
    ("6.15", &["open_tree_attr"]),
    ("6.17", &["file_getattr", "file_setattr"]),
    ("6.18", &["uprobe"]),
    ("6.19", &["listns"]),
    ("7.0", &["rseq_slice_yield"]),
];

/// libseccomp's own tables, oldest first. 2.5.5 is known by its changelog: it took over the table of Linux 6.7, which
/// left `riscv_hwprobe` out.
const LIBSECCOMP: [(&str, Package); 3] = [
    (
        "2.5.4",
        Package {
            file: "libseccomp_2.5.4.orig.tar.gz",
            sha256: "d82902400405cf0068574ef3dc1fe5f5926207543ba1ae6f8e7a1576351dcbdb",
        },
    ),
    (
        "2.6.0",
        Package {
            file: "libseccomp_2.6.0.orig.tar.gz",
            sha256: "83b6085232d1588c379dc9b9cae47bb37407cf262e6e74993c61ba72d2a784dc",
        },
    ),
    (
        "2.6.1",
        Package {
            file: "libseccomp2_2.6.1-1+b2_amd64.deb",
            sha256: "2d97c9f6ce55043caff1f6818ff9f85693528604f9d7538bd1ff61a492db8567",
        },
    ),
];

/// A Debian package, or the source of one.
pub(super) struct Package {
    pub(super) file: &'static str,
    pub(super) sha256: &'static str,
}

impl Package {
    /// One file out of the package. The package is checked before anything of it is used.
    pub(super) fn member(&self, downloads: &Path, wanted: &str) -> Result<Vec<u8>> {
        let path = downloads.join(self.file);
        let bytes =
            fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let found = sha256(&bytes);
        if found != self.sha256 {
            bail!(
                "{} has sha256 {found}, pinned is {}",
                path.display(),
                self.sha256
            );
        }
        let script = if self.file.ends_with(".deb") {
            r#"dpkg-deb --fsys-tarfile "$0" | tar -xO --wildcards "$1""#
        } else {
            r#"tar -xzOf "$0" --wildcards "$1""#
        };
        let output = Command::new("sh")
            .arg("-c")
            .arg(script)
            .arg(&path)
            .arg(wanted)
            .output()?;
        if !output.status.success() || output.stdout.is_empty() {
            bail!("{} holds no {wanted}", self.file);
        }
        Ok(output.stdout)
    }

    fn text(&self, downloads: &Path, wanted: &str) -> Result<String> {
        Ok(String::from_utf8(self.member(downloads, wanted)?)?)
    }
}

/// Writes the data anew from the packages in `downloads`. The tables follow with `cargo xtask codegen`.
pub(crate) fn refresh(downloads: &Path) -> Result<()> {
    let mut numbers: BTreeMap<String, [Option<u32>; TABLES.len()]> = BTreeMap::new();
    for (column, headers) in HEADERS.iter().enumerate() {
        for header in *headers {
            let text = KERNEL.text(downloads, &format!("./usr/lib/linux/uapi/{header}"))?;
            for (name, nr) in defines(&text) {
                numbers.entry(name).or_default()[column] = Some(nr);
            }
        }
    }

    let mut since_kernel = manual(&unpack_gz(
        &MANUAL.member(downloads, "./usr/share/man/man2/syscalls.2.gz")?,
    )?);
    for (release, names) in SINCE {
        for name in names {
            since_kernel.insert((*name).to_owned(), release.to_owned());
        }
    }

    let mut since_libseccomp: BTreeMap<String, &str> = BTreeMap::new();
    for (release, package) in LIBSECCOMP {
        let names = if package.file.ends_with(".deb") {
            strings(&package.member(downloads, "./usr/lib/x86_64-linux-gnu/libseccomp.so.*.*.*")?)
        } else {
            first_column(&package.text(downloads, "*/src/syscalls.csv")?)
        };
        for name in numbers.keys().filter(|name| names.contains(*name)) {
            since_libseccomp.entry(name.clone()).or_insert(release);
        }
    }
    for (name, release) in &mut since_libseccomp {
        let new = since_kernel
            .get(name)
            .is_some_and(|kernel| matches!(&**kernel, "6.5" | "6.6" | "6.7"));
        if *release == "2.6.0" && new {
            *release = "2.5.5";
        }
    }

    let mut csv =
        String::from("# Origin and licences of these facts: README.md beside this file.\n");
    csv.push_str(&columns());
    csv.push('\n');
    for (name, nrs) in &numbers {
        let nrs: Vec<String> = nrs
            .iter()
            .map(|nr| nr.map(|nr| nr.to_string()).unwrap_or_default())
            .collect();
        csv.push_str(&format!(
            "{name},{},{},{}\n",
            nrs.join(","),
            since_kernel.get(name).map_or("", |release| release),
            since_libseccomp.get(name).unwrap_or(&"")
        ));
    }
    let path = places::root().join("xtask/data/syscalls.csv");
    fs::write(&path, &csv)?;
    println!(
        "wrote {}; its sha256 is {}",
        path.display(),
        sha256(csv.as_bytes())
    );
    Ok(())
}

/// `#define __NR_name 12`, `(__X32_SYSCALL_BIT + 12)`, `(__NR_SYSCALL_BASE + 12)`, of which EABI's base is 0, and Arm's private
/// `#define __ARM_NR_name (__ARM_NR_BASE+2)`.
///
/// Names are in small letters; the rest are bases and masks. What is defined as another name is left out: Arm's `__NR_sync_file_range2` is the `arm_sync_file_range` that libseccomp knows.
fn defines(text: &str) -> impl Iterator<Item = (String, u32)> + '_ {
    const PRIVATE: u32 = 0x0f_0000;
    text.lines().filter_map(|line| {
        let (symbol, value) = line
            .strip_prefix("#define __")?
            .split_once(char::is_whitespace)?;
        let (name, base) = match symbol.strip_prefix("ARM_NR_") {
            Some(name) => (name, PRIVATE),
            None => (symbol.strip_prefix("NR_")?, 0),
        };
        if name.contains(|c: char| c.is_ascii_uppercase()) {
            return None;
        }
        let value = value.trim().trim_end_matches(')');
        let digits = ["(__X32_SYSCALL_BIT", "(__NR_SYSCALL_BASE", "(__ARM_NR_BASE"]
            .iter()
            .find_map(|base| value.strip_prefix(base))
            .unwrap_or(value);
        let nr: u32 = digits.trim_start_matches([' ', '+']).parse().ok()?;
        Some((name.to_owned(), base + nr))
    })
}

/// The rows of the table in syscalls(2): the name, and the release; of "2.0.36; 2.2" the later one.
fn manual(text: &str) -> BTreeMap<String, String> {
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with(".\\\""))
        .flat_map(|line| [line, "\n"])
        .collect::<String>()
        .replace("T{\n.BR ", "\\f[B]")
        .replace(" (2)\nT}\t", "\\f[](2)\t");
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("\\f[B]")?.split_once("\\f[](2)\t")?;
            let release = rest.split('\t').next()?.rsplit(';').next()?.trim();
            release
                .starts_with(|c: char| c.is_ascii_digit())
                .then(|| (name.to_owned(), release.to_owned()))
        })
        .collect()
}

fn first_column(csv: &str) -> BTreeSet<String> {
    csv.lines()
        .skip(1)
        .filter_map(|line| line.split(',').next())
        .map(str::to_owned)
        .collect()
}

/// Every string in a binary that could be a name: libseccomp keeps its names one by one, each with its NUL.
fn strings(bytes: &[u8]) -> BTreeSet<String> {
    bytes
        .split(|byte| *byte == 0)
        .filter_map(|part| {
            let printable = |byte: &u8| byte.is_ascii_graphic();
            let start = part
                .iter()
                .rposition(|byte| !printable(byte))
                .map_or(0, |at| at + 1);
            String::from_utf8(part[start..].to_vec()).ok()
        })
        .collect()
}

fn unpack_gz(bytes: &[u8]) -> Result<String> {
    use std::io::Write as _;
    let mut child = Command::new("gzip")
        .arg("-dc")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("gzip has no stdin")?;
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output()?;
    writer
        .join()
        .map_err(|_| anyhow::anyhow!("the writer to gzip panicked"))??;
    Ok(String::from_utf8(output.stdout)?)
}
