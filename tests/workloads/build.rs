//! Compiles each `programs/*.c` to a static program without a C library.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// No library and no start files, and nothing that would add a call: no position independence (relocation), no stack protector.
const FLAGS: &[&str] = &[
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-static",
    "-no-pie",
    "-fno-pie",
    "-nostdlib",
    "-nostartfiles",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fcf-protection=none",
    "-fno-tree-loop-distribute-patterns",
    "-Wl,--build-id=none",
    "-Wl,-z,noexecstack",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=programs");
    println!("cargo::rerun-if-env-changed=CC");
    if env::var("CARGO_CFG_TARGET_ARCH")? != "x86_64" {
        println!("cargo::warning=the workloads are programs for x86_64: none was built");
        return Ok(());
    }
    let cc = env::var("CC").unwrap_or_else(|_| "gcc".into());
    let out = env::var("OUT_DIR")?;
    for entry in fs::read_dir("programs")? {
        let source = entry?.path();
        let Some(name) = source
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".c"))
        else {
            continue;
        };
        let mut compiler = Command::new(&cc);
        compiler.args(FLAGS);
        if name == "i386" {
            compiler.arg("-m32");
        }
        let status = compiler
            .arg(&source)
            .arg("-o")
            .arg(Path::new(&out).join(name))
            .status()
            .map_err(|error| format!("{cc}: {error} (install gcc, or name a C compiler in CC)"))?;
        if !status.success() {
            return Err(format!("{cc} could not compile {}", source.display()).into());
        }
    }
    Ok(())
}
