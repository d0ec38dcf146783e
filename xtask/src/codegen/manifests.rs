//! `deploy/seccast.yaml`: the resources of `deploy/kustomize` in one file, for those who have no kustomize.

use super::made::Made;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

#[derive(serde::Deserialize)]
struct Kustomization {
    resources: Vec<String>,
}

/// The kustomization changes nothing of what it lists; a test of the cluster holds the file against kubectl's own rendering.
pub(super) fn render(root: &Path) -> Result<Made> {
    let folder = root.join("deploy/kustomize");
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    };
    let list: Kustomization = serde_saphyr::from_str(&read("kustomization.yaml")?)
        .context("deploy/kustomize/kustomization.yaml")?;
    let mut text =
        "# Made from deploy/kustomize by `cargo xtask codegen`: kubectl apply -f seccast.yaml\n"
            .to_owned();
    for (nth, name) in list.resources.iter().enumerate() {
        let between = if nth == 0 { "" } else { "---\n" };
        let _ = write!(text, "{between}{}", read(name)?);
    }
    Ok(Made {
        path: "deploy/seccast.yaml".into(),
        text,
    })
}
