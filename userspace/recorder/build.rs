//! Builds `ebpf/programs` for bpfel-unknown-none and leaves the object for `object.rs` to embed.
//!
//! aya-build calls `rustup run` and so cannot use a compiler outside rustup: hence this file. It looks for a compiler that
//! has a `core` for BPF: `SECCAST_BPF_RUSTC`, Debian's rustc with `libstd-rust-web-dev-bpf`, a nightly with rust-src; and
//! for bpf-linker: `SECCAST_BPF_LINKER`, the cache of `cargo xtask setup`, the PATH. `SECCAST_SKIP_EBPF=1` builds without.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "bpfel-unknown-none";

fn main() {
    for variable in [
        "SECCAST_SKIP_EBPF",
        "SECCAST_BPF_RUSTC",
        "SECCAST_BPF_LINKER",
        "SECCAST_CACHE",
    ] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let ebpf =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../../ebpf");
    for path in [
        "common/src",
        "common/Cargo.toml",
        "programs/src",
        "programs/Cargo.toml",
        "programs/Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", ebpf.join(path).display());
    }
    let object = out.join("seccast.o");
    let built = if env::var_os("SECCAST_SKIP_EBPF").is_some_and(|value| value == "1") {
        fs::write(&object, [])
            .map_err(|error| format!("cannot write {}: {error}", object.display()))
    } else {
        build(&ebpf.join("programs"), &out, &object)
    };
    if let Err(error) = built {
        println!("cargo::error={error}");
        println!(
            "cargo::error=run `cargo xtask setup`, or build without recording: SECCAST_SKIP_EBPF=1 cargo build"
        );
    }
}

fn build(programs: &Path, out: &Path, object: &Path) -> Result<(), String> {
    let linker = linker()?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if let Some(rustc) = prebuilt_core() {
        cargo.env("RUSTC", rustc);
    } else if nightly() {
        cargo = Command::new("rustup");
        cargo.args(["run", "nightly", "cargo", "-Zbuild-std=core"]);
        // Set for build scripts: the compiler and the cargo of the host build.
        for name in ["RUSTC", "RUSTDOC", "CARGO"] {
            cargo.env_remove(name);
        }
    } else {
        return Err(format!(
            "no compiler with a `core` for {TARGET}: neither rustc-web + libstd-rust-web-dev-bpf nor a nightly with rust-src"
        ));
    }
    // The host build's flags and wrappers are not for this target.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_") && name != "CARGO_HOME" && name != "CARGO_NET_OFFLINE"
            || name.starts_with("RUSTC_")
            || name == "RUSTFLAGS"
        {
            cargo.env_remove(&name);
        }
    }
    let target = out.join("ebpf");
    cargo
        .current_dir(programs)
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "RUSTFLAGS",
            format!(
                "-C linker={} -C link-arg=--btf -C debuginfo=2 -C target-cpu=v3",
                linker.display()
            ),
        )
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(&target);
    if env::var_os("CARGO_FEATURE_LOG").is_some() {
        cargo.args(["--features", "log"]);
    }
    let output = cargo
        .output()
        .map_err(|error| format!("cannot run {cargo:?}: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "the eBPF programs do not build: {}",
            text.trim().replace('\n', "\ncargo::error=")
        ));
    }
    let from = target.join(TARGET).join("release/seccast");
    fs::copy(&from, object).map_err(|error| format!("cannot copy {}: {error}", from.display()))?;
    Ok(())
}

/// A compiler outside rustup that brings `core` for BPF.
fn prebuilt_core() -> Option<PathBuf> {
    if let Some(rustc) = env::var_os("SECCAST_BPF_RUSTC") {
        return Some(rustc.into());
    }
    let rustc = Path::new("/usr/bin/rustc");
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(TARGET)
        .is_dir()
        .then(|| rustc.into())
}

fn nightly() -> bool {
    let Ok(output) = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .output()
    else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success()
        && Path::new(&sysroot)
            .join("lib/rustlib/src/rust/library/core")
            .is_dir()
}

fn linker() -> Result<PathBuf, String> {
    if let Some(linker) = env::var_os("SECCAST_BPF_LINKER") {
        return Ok(linker.into());
    }
    let cache = env::var_os("SECCAST_CACHE").map(PathBuf::from).or_else(|| {
        let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        base.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))
            .map(|base| base.join("seccast"))
    });
    let cached = cache.map(|cache| cache.join("tools/bin/bpf-linker"));
    let on_path = env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join("bpf-linker"))
        .collect::<Vec<_>>();
    cached
        .into_iter()
        .chain(on_path)
        .find(|path| path.is_file())
        .ok_or_else(|| "bpf-linker is not installed".to_owned())
}
