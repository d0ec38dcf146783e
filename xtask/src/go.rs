//! A Go compiler that is new enough for Kubernetes: the machine's, or one that an older one downloads as a module.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::places;
use crate::process::Run;

/// What Kubernetes asks for in its go.mod.
const WANTED: (u32, u32) = (1, 26);

/// The release that is downloaded where the machine's own Go is older.
const RELEASE: &str = "1.26.8";

/// The program `go`, wherever one of any age is.
pub(crate) fn find() -> Option<PathBuf> {
    // Where go.dev's archive goes by its own instructions, which not every PATH has.
    let usual = PathBuf::from("/usr/local/go/bin/go");
    places::command("go").or_else(|| usual.is_file().then_some(usual))
}

/// A compiler and where it keeps what it downloads and builds.
pub(crate) struct Go {
    program: PathBuf,
    caches: PathBuf,
}

impl Go {
    /// Finds one that is new enough; `caches` is where it may put gigabytes.
    pub(crate) fn new(caches: &Path) -> Result<Self> {
        let program = find().context("no Go compiler; run `cargo xtask setup --cluster`")?;
        let mut go = Self {
            program,
            caches: caches.to_owned(),
        };
        let version = go.run().args(["version"]).stdout()?;
        if !is_new_enough(&version) {
            let by_hand = format!(
                "Kubernetes is built with Go {}.{} or newer, and {} is {}: install a newer Go, for example Debian's \
                 backports' or go.dev's archive in /usr/local/go",
                WANTED.0,
                WANTED.1,
                go.program.display(),
                version.trim()
            );
            go.program = go.download().context(by_hand)?;
        }
        Ok(go)
    }

    /// `go` with caches of its own, unless the user has named others. To be completed.
    pub(crate) fn run(&self) -> Run {
        let mut run = Run::new(&self.program)
            // The caches can be removed as they are; binaries do not depend on where they are built.
            .env("GOFLAGS", "-modcacherw -mod=mod -trimpath -buildvcs=false")
            .env("GOTOOLCHAIN", "local")
            .env("CGO_ENABLED", "0")
            // One of another release, where a distribution or an image has set it.
            .env("GOROOT", "")
            .limit(Duration::from_secs(3600));
        for (variable, folder) in [("GOMODCACHE", "modules"), ("GOCACHE", "built")] {
            if std::env::var_os(variable).is_none() {
                run = run.env(variable, self.caches.join(folder));
            }
        }
        run
    }

    /// The folder of a module of this version, downloaded.
    pub(crate) fn module(&self, module: &str, version: &str) -> Result<PathBuf> {
        let module = format!("{module}@{version}");
        let told = self
            .run()
            .args(["mod", "download", "-json", &module])
            .dir(&self.caches)
            .stdout()?;
        let told: serde_json::Value = serde_json::from_str(&told)
            .context("failed to read the answer of `go mod download`")?;
        let dir = told.get("Dir").and_then(|dir| dir.as_str());
        dir.map(PathBuf::from)
            .with_context(|| format!("`go mod download` names no folder for {module}"))
    }

    /// Go's releases are modules as well, which a Go of any age can download and check.
    fn download(&self) -> Result<PathBuf> {
        eprintln!("cluster: downloading Go {RELEASE}");
        let version = format!(
            "v0.0.1-go{RELEASE}.linux-{}",
            seccast_rig::oci::architecture()
        );
        let root = self.module("golang.org/toolchain", &version)?;
        // Modules carry no modes.
        let tools = root
            .join("pkg/tool")
            .join(format!("linux_{}", seccast_rig::oci::architecture()));
        for folder in [root.join("bin"), tools] {
            for file in fs::read_dir(&folder)
                .with_context(|| format!("failed to list {}", folder.display()))?
            {
                let file = file?.path();
                fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
                    .with_context(|| format!("failed to change the mode of {}", file.display()))?;
            }
        }
        Ok(root.join("bin/go"))
    }
}

/// Reads `go version go1.26.8 linux/amd64`.
fn is_new_enough(version: &str) -> bool {
    let release = version.split_whitespace().nth(2).unwrap_or_default();
    let mut parts = release
        .trim_start_matches("go")
        .split(|c: char| !c.is_ascii_digit());
    let mut part = || parts.next().and_then(|part| part.parse::<u32>().ok());
    (part().unwrap_or(0), part().unwrap_or(0)) >= WANTED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        for (version, enough) in [
            ("go version go1.26.8 linux/amd64", true),
            ("go version go1.26rc1 linux/amd64", true),
            ("go version go1.27 linux/arm64", true),
            ("go version go1.19.8 linux/amd64", false),
            ("go version go1.9 linux/amd64", false),
            ("go version devel", false),
        ] {
            assert_eq!(is_new_enough(version), enough, "{version}");
        }
    }
}
