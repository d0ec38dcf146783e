//! `xtask/data/syscalls.csv` to the model's tables.

use anyhow::{Context, Result, bail};
use seccast_rig::oci::hex;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Hash of the committed data: a change of the data is a change of this line. `refresh` prints the new one.
const SHA256: &str = "742239edd3b1a060a4c80f5e346516016a2a985718f34d1fb8210288eaf7e0a2";

/// Architectures in the order of the columns, which is that of `Arch::ALL`: the column, and the name of the table in the generated file.
pub(super) const TABLES: [(&str, &str); 6] = [
    ("x86_64", "X86_64"),
    ("i386", "X86"),
    ("x32", "X32"),
    ("aarch64", "AARCH64"),
    ("arm", "ARM"),
    ("riscv64", "RISCV64"),
];

/// The first line of the data.
pub(super) fn columns() -> String {
    let arches = TABLES.map(|(column, _)| column).join(",");
    format!("name,{arches},since_kernel,since_libseccomp")
}

struct Row<'a> {
    name: &'a str,
    nrs: [Option<u32>; TABLES.len()],
    since_kernel: Option<[u8; 3]>,
    since_libseccomp: Option<&'a str>,
}

/// The Rust source of the tables.
pub(super) fn render(data: &Path) -> Result<String> {
    let text =
        fs::read_to_string(data).with_context(|| format!("failed to read {}", data.display()))?;
    let found = sha256(text.as_bytes());
    if found != SHA256 {
        bail!("{} has sha256 {found}, pinned is {SHA256}", data.display());
    }
    let mut rows = Vec::new();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let columns = columns();
    if lines.next() != Some(&*columns) {
        bail!("{}: the columns are not `{columns}`", data.display());
    }
    for line in lines {
        rows.push(row(line).with_context(|| format!("{}: bad line `{line}`", data.display()))?);
    }

    let mut out = String::from(
        "// Made by `cargo xtask codegen` from xtask/data/syscalls.csv. Do not edit.\n\n\
         use super::{Info, Release, Syscall};\n\n\
         /// Every name, sorted; the numbers are in the order of `Arch::ALL`.\n",
    );
    writeln!(out, "pub(super) static INFOS: [Info; {}] = [", rows.len())?;
    for row in &rows {
        let nrs: Vec<String> = row
            .nrs
            .iter()
            .map(|nr| nr.map_or("None".into(), |nr| format!("Some({nr})")))
            .collect();
        let kernel = row.since_kernel.map_or("None".into(), |[a, b, c]| {
            format!("Some(Release::new({a}, {b}, {c}))")
        });
        let libseccomp = row
            .since_libseccomp
            .map_or("None".into(), |v| format!("Some({v:?})"));
        writeln!(
            out,
            "    Info {{ name: {:?}, nrs: [{}], since_kernel: {kernel}, since_libseccomp: {libseccomp} }},",
            row.name,
            nrs.join(", ")
        )?;
    }
    out.push_str("];\n");
    for (column, (_, table)) in TABLES.iter().enumerate() {
        let mut calls: Vec<(u32, &str)> = rows
            .iter()
            .filter_map(|row| row.nrs[column].map(|nr| (nr, row.name)))
            .collect();
        calls.sort_unstable();
        if let Some([(nr, a), (_, b)]) = calls.array_windows::<2>().find(|[a, b]| a.0 == b.0) {
            bail!("{table}: {a} and {b} share the number {nr}");
        }
        writeln!(
            out,
            "\n/// By number.\npub(super) static {table}: [Syscall; {}] = [",
            calls.len()
        )?;
        for (nr, name) in calls {
            writeln!(out, "    Syscall {{ nr: {nr}, name: {name:?} }},")?;
        }
        out.push_str("];\n");
    }
    Ok(out)
}

fn row(line: &str) -> Result<Row<'_>> {
    let fields: Vec<&str> = line.split(',').collect();
    let [name, numbers @ .., kernel, libseccomp] = &fields[..] else {
        bail!("{} fields are too few", fields.len());
    };
    if numbers.len() != TABLES.len() {
        bail!("{} numbers, not {}", numbers.len(), TABLES.len());
    }
    let mut nrs = [None; TABLES.len()];
    for (nr, field) in nrs.iter_mut().zip(numbers) {
        *nr = if field.is_empty() {
            None
        } else {
            Some(field.parse()?)
        };
    }
    let since_kernel = if kernel.is_empty() {
        None
    } else {
        let mut release = [0; 3];
        for (part, text) in release.iter_mut().zip(kernel.split('.')) {
            *part = text.parse()?;
        }
        Some(release)
    };
    Ok(Row {
        name,
        nrs,
        since_kernel,
        since_libseccomp: (!libseccomp.is_empty()).then_some(*libseccomp),
    })
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
