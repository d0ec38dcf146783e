//! `seccast precreate`: podman's hook of the stage `precreate` (oci-hooks(5), podman 1.8+).
//!
//! Neither a pod's file nor a container that exists can be told another filter from outside (podman 4.3.1 ignores
//! containers.conf and annotations for `kube play`), but the OCI config passes through here before the runtime reads it.
//! Called for nothing but the containers of one command, it also is the evidence which containers those are.

use crate::{args::precreate::PrecreateArgs, exit::Exit};
use anyhow::{Context as _, bail};
use seccast_recorder::cgroup::id_in;
use serde_json::Value;
use std::{
    fs::File,
    io::{Read as _, Write as _, stdin, stdout},
};

/// Larger configs are refused: they have some ten kilobytes.
const LIMIT: u64 = 16 << 20;

/// Does it.
pub fn run(args: &PrecreateArgs) -> anyhow::Result<Exit> {
    let mut text = String::new();
    stdin()
        .take(LIMIT)
        .read_to_string(&mut text)
        .context("cannot read the OCI config from stdin")?;
    let mut config: Value = serde_json::from_str(&text).context("the OCI config on stdin")?;
    let cgroup = config
        .pointer("/linux/cgroupsPath")
        .and_then(Value::as_str)
        .unwrap_or_default();
    // The systemd driver separates by colons: `machine.slice:libpod:ID`.
    let cgroup = cgroup.replace(':', "/");
    let Some(id) = id_in(&cgroup) else {
        bail!(
            "the OCI config names no cgroup with the container's id (--cgroups=disabled?), so it cannot be recorded"
        );
    };
    // A pod's first container holds its namespaces: no workload of the user's.
    let program = config.pointer("/process/args/0").and_then(Value::as_str);
    if !matches!(program, Some("/catatonit" | "/pause")) {
        let names_one = |config: &Value| {
            let annotations = config.get("annotations").and_then(Value::as_object);
            annotations.is_some_and(|all| {
                all.keys()
                    .any(|key| key.contains("seccomp.security.alpha.kubernetes.io"))
            })
        };
        let mut given = false;
        if let Some(path) = &args.profile
            && !names_one(&config)
            && let Some(filter) = config.pointer_mut("/linux/seccomp")
        {
            let profile =
                std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            *filter = serde_json::from_slice(&profile)
                .with_context(|| format!("{} is no JSON", path.display()))?;
            given = true;
        }
        let line = if given {
            format!("{id} filtered\n")
        } else {
            format!("{id}\n")
        };
        // One short line: appended at once (write(2), O_APPEND).
        let ids = File::options().append(true).create(true).open(&args.ids);
        ids.and_then(|mut file| file.write_all(line.as_bytes()))
            .with_context(|| format!("cannot write {}", args.ids.display()))?;
    }
    stdout()
        .write_all(config.to_string().as_bytes())
        .context("cannot write the OCI config to stdout")?;
    Ok(Exit::Done)
}
