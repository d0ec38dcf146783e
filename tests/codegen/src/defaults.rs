//! `docs/defaults.md`: the sizes of the default profiles of `profiles/defaults`, which the model has built in.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Result;
use seccast_model::Arch;
use seccast_model::defaults::{Engine, ResolvedDefault, resolve};

const INTRODUCTION: &str = "\
# What engines allow by default

Made by `cargo xtask codegen` from `profiles/defaults`, whose origin is in [profiles/README.md](../profiles/README.md).

\"The default\" does not exist: it depends on the engine, its release, the architecture and the container's capabilities. These are the
tables that `--compare` and `check` compare with. Names are counted that the architecture has (Linux 7.2) and that are allowed on the newest
kernel; on a node with an older libseccomp those that it does not know are denied as well.

| engine | profile of | capabilities that it gives by default |
| --- | --- | --- |
";

const SIZES: &str = "
| engine | architecture | capabilities | allowed | of these with some arguments only |
| --- | --- | --- | --- | --- |
";

const DIFFERENCES: &str = "
Beside docker's, each with the engine's own capabilities:

| engine | architecture | allows and docker does not | docker allows and it does not |
| --- | --- | --- | --- |
";

/// What each engine allows, by architecture and capabilities, and how engines differ.
pub(crate) fn page() -> Result<String> {
    let mut text = String::from(INTRODUCTION);
    for engine in Engine::ALL {
        writeln!(
            text,
            "| {engine} | {} | {} |",
            engine.version(),
            engine.capabilities().join(", ")
        )?;
    }
    text.push_str(SIZES);
    for arch in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64] {
        for engine in Engine::ALL {
            let own = engine.capabilities();
            let admin: Vec<&str> = own.iter().copied().chain(["CAP_SYS_ADMIN"]).collect();
            let sets: [(&str, &[&str]); 3] = [
                ("none", &[]),
                ("its own", own),
                ("its own and CAP_SYS_ADMIN", &admin),
            ];
            for (set, capabilities) in sets {
                let default = resolve(engine, arch, capabilities.iter().copied())?;
                let conditional: Vec<&str> =
                    default.conditional.iter().map(String::as_str).collect();
                writeln!(
                    text,
                    "| {engine} | {arch} | {set} ({}) | {} of {} | {} |",
                    capabilities.len(),
                    default.len(),
                    default.known,
                    conditional.join(", "),
                )?;
            }
        }
    }
    text.push_str(DIFFERENCES);
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let own = |engine: Engine| resolve(engine, arch, engine.capabilities().iter().copied());
        let docker = own(Engine::Docker)?;
        for engine in [Engine::Containerd, Engine::Podman, Engine::Crio] {
            let other = own(engine)?;
            writeln!(
                text,
                "| {engine} | {arch} | {} | {} |",
                missing(&other, &docker),
                missing(&docker, &other)
            )?;
        }
    }
    Ok(text)
}

/// Names that `one` allows and `other` does not.
fn missing(one: &ResolvedDefault, other: &ResolvedDefault) -> String {
    let names: BTreeSet<&str> = one
        .allowed
        .union(&one.conditional)
        .map(String::as_str)
        .filter(|name| !other.allows(name))
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        format!("{}: {}", names.len(), names.join(", "))
    }
}
