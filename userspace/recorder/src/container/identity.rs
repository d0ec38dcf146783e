//! Which container a cgroup is, by what its runtime and its engine left on the machine.

use super::pods::Pods;
use crate::{
    cgroup::{id_in, is_id},
    engine::{Client, Kind},
    proc,
    runtime::{
        bundle::Bundle,
        cri::{self, Contained},
        line::{self, Conmon, Starts},
        state::State,
    },
};
use seccast_model::observation::Target;
use std::path::{Path, PathBuf};

/// What is known of a container.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Its id; for a runtime alone and for containerd that is its name.
    pub id: String,
    /// The name that the engine gave it.
    pub name: Option<String>,
    /// The low-level runtime's program.
    pub runtime: Option<String>,
    /// The folder in which the runtime keeps it, where it was told one.
    pub root: Option<PathBuf>,
    /// Its bundle.
    pub bundle: Option<Bundle>,
    /// The engine, where it can be told.
    pub engine: Option<Kind>,
    /// containerd's namespace.
    pub namespace: Option<String>,
    /// containerd's socket.
    pub address: Option<PathBuf>,
    /// The client that started it, as conmon calls it.
    pub client: Option<Client>,
    /// Only the cgroup's path names it: no process of a runtime was seen.
    pub by_path: bool,
}

impl Identity {
    /// An id in a path: a kubelet's container has its bundle in one of `folders` before it has its cgroup. Of others only the
    /// id is known.
    pub(super) fn of_path(path: &str, folders: &[PathBuf]) -> Option<Self> {
        let id = id_in(path)?;
        Some(match cri::container(folders, id) {
            Some(contained) if contained.bundle.pod().is_some() => Self::of_contained(contained),
            _ => Self {
                id: id.to_owned(),
                by_path: true,
                ..Self::default()
            },
        })
    }

    /// What the runtime behind a kubelet has of it.
    pub(super) fn of_contained(contained: Contained) -> Self {
        Self {
            id: contained.id,
            name: contained.bundle.container_name().map(str::to_owned),
            runtime: contained.runtime,
            bundle: Some(contained.bundle),
            engine: contained.containerd.then_some(Kind::Containerd),
            namespace: contained.containerd.then(|| cri::NAMESPACE.to_owned()),
            ..Self::default()
        }
    }

    /// A runtime that starts it, and what stands behind the runtime: conmon has the name.
    pub(super) fn of_runtime(starts: Starts, ancestors: &[u32]) -> Self {
        let conmon = ancestors.iter().find_map(|pid| line::conmon(*pid));
        let address = ancestors
            .iter()
            .find_map(|pid| line::shim_address(*pid, &starts.id));
        let bundle = starts.read_bundle();
        let namespace = starts.containerd_namespace();
        Self {
            runtime: Some(starts.program),
            root: starts.root,
            address,
            ..Self::of_bundle(starts.id, bundle, namespace, conmon)
        }
    }

    /// What a runtime's state folder has.
    pub(super) fn of_state(state: &State) -> Self {
        let bundle = state.bundle.as_deref();
        let namespace = bundle.and_then(line::containerd_namespace);
        // The init process is conmon's child.
        let conmon = proc::parent(state.pid).and_then(line::conmon);
        Self {
            runtime: Some(state.runtime.to_owned()),
            root: Some(state.root.clone()),
            ..Self::of_bundle(
                state.name.clone(),
                bundle.and_then(Bundle::read),
                namespace,
                conmon,
            )
        }
    }

    fn of_bundle(
        id: String,
        bundle: Option<Bundle>,
        namespace: Option<String>,
        conmon: Option<Conmon>,
    ) -> Self {
        let conmon = conmon.filter(|conmon| conmon.id == id);
        let engine = match (&namespace, &conmon) {
            // dockerd's own namespace.
            (Some(namespace), _) if namespace == "moby" => Some(Kind::Docker),
            (Some(_), _) => Some(Kind::Containerd),
            (None, Some(conmon)) if !conmon.client.is_empty() => Some(Kind::Podman),
            _ => None,
        };
        let annotated = bundle.as_ref().and_then(Bundle::container_name);
        let name = annotated.map(str::to_owned);
        // Another user's podman is not run: as root it would spoil that user's storage, and be whatever the user put there.
        let client = conmon.as_ref().filter(|conmon| {
            let program = conmon.client.first();
            conmon.ours && program.is_some_and(|program| line::base(program) == "podman")
        });
        let client = client.map(|conmon| Client::new(Kind::Podman, conmon.client.clone()));
        Self {
            id,
            name: conmon.and_then(|conmon| conmon.name).or(name),
            bundle,
            engine,
            namespace,
            client,
            ..Self::default()
        }
    }

    /// The engine, or the runtime where there is none.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.engine.or(match self.runtime.as_deref() {
            Some("runc") => Some(Kind::Runc),
            Some("crun") => Some(Kind::Crun),
            _ => None,
        })
    }

    /// What a recording says of its target.
    pub(super) fn target(&self) -> Target {
        let image = self.bundle.as_ref().and_then(Bundle::image);
        Target {
            runtime: self.runtime.clone(),
            engine: self.engine.map(|engine| engine.name().to_owned()),
            container_id: Some(self.id.clone()),
            container_name: self.name.clone(),
            image: image.map(str::to_owned),
            pod: self.bundle.as_ref().and_then(Bundle::pod),
            ..Target::default()
        }
    }

    /// Takes what another piece of evidence adds.
    pub(super) fn join(&mut self, other: Self) {
        if self.by_path && !other.by_path {
            *self = other;
        } else if self.id == other.id {
            self.runtime = self.runtime.take().or(other.runtime);
            self.root = self.root.take().or(other.root);
            self.address = self.address.take().or(other.address);
        }
    }

    /// Would a process of its runtime tell more?
    pub(super) fn is_unsure(&self) -> bool {
        self.by_path || self.runtime.is_none()
    }
}

/// Which containers are meant.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Names and ids.
    pub names: Vec<String>,
    /// Every one.
    pub all: bool,
    /// Those of Pods.
    pub pods: Option<Pods>,
    /// Only those of this engine.
    pub engine: Option<Kind>,
    /// Only those of this namespace of containerd.
    pub namespace: Option<String>,
    /// Only those of the containerd at this socket.
    pub address: Option<PathBuf>,
    /// Only those that a runtime keeps here.
    pub root: Option<PathBuf>,
}

impl Wanted {
    /// Is this one meant? What is not known of it is no reason against it.
    #[must_use]
    pub fn is(&self, identity: &Identity) -> bool {
        let same = |left: Option<&str>, right: Option<&str>| match (left, right) {
            (Some(left), Some(right)) => left == right,
            _ => true,
        };
        // An engine's id that a runtime was told by somebody who is gone is no container of the runtime alone.
        let engine = match (self.engine, identity.engine) {
            (None, _) => true,
            (Some(wanted), Some(engine)) => wanted.server() == engine.server(),
            (Some(wanted), None) if wanted.is_runtime() => {
                same(Some(wanted.name()), identity.runtime.as_deref())
            }
            (Some(_), None) => is_id(&identity.id),
        };
        let root = identity
            .root
            .as_deref()
            .or_else(|| default_root(identity.runtime.as_deref()?));
        let roots = match (&self.root, root) {
            (Some(wanted), Some(root)) => same_folder(wanted, root),
            _ => true,
        };
        let addresses = match (&self.address, &identity.address) {
            (Some(wanted), Some(address)) => same_folder(wanted, address),
            _ => true,
        };
        let named = |name: &str| self.names.iter().any(|wanted| wanted == name);
        let bundle = identity.bundle.as_ref();
        let of_pods = |pods: &Pods| bundle.is_some_and(|bundle| pods.have(bundle));
        let meant = (self.all && !identity.by_path)
            || self.pods.as_ref().is_some_and(of_pods)
            || named(&identity.id)
            || identity.name.as_deref().is_some_and(named);
        meant
            && roots
            && addresses
            && engine
            && same(self.namespace.as_deref(), identity.namespace.as_deref())
    }
}

/// Where a runtime keeps containers when it is not told.
fn default_root(runtime: &str) -> Option<&'static Path> {
    match runtime {
        "runc" => Some(Path::new("/run/runc")),
        "crun" => Some(Path::new("/run/crun")),
        _ => None,
    }
}

/// /var/run is /run.
pub(super) fn same_folder(left: &Path, right: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    left == right || whole(left) == whole(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_roots_and_two_namespaces_are_told_apart() {
        let of = |runtime: &str, root: Option<&str>, namespace: Option<&str>| Identity {
            id: "web".to_owned(),
            runtime: Some(runtime.to_owned()),
            root: root.map(PathBuf::from),
            namespace: namespace.map(str::to_owned),
            ..Identity::default()
        };
        let wanted = Wanted {
            names: vec!["web".to_owned()],
            root: Some("/r".into()),
            namespace: Some("x".to_owned()),
            ..Wanted::default()
        };
        assert!(wanted.is(&of("other", None, None)));
        assert!(wanted.is(&of("runc", Some("/r"), Some("x"))));
        assert!(!wanted.is(&of("runc", None, Some("x"))));
        assert!(!wanted.is(&of("runc", Some("/r"), Some("y"))));
    }

    #[test]
    fn an_engines_id_is_its_own_though_only_the_runtime_was_seen() {
        let wanted = |name: &str| Wanted {
            names: vec![name.to_owned()],
            engine: Some(Kind::Podman),
            ..Wanted::default()
        };
        let of = |id: &str, engine| Identity {
            id: id.to_owned(),
            runtime: Some("runc".to_owned()),
            engine,
            ..Identity::default()
        };
        let id = "a".repeat(64);
        assert!(wanted(&id).is(&of(&id, None)));
        assert!(wanted(&id).is(&of(&id, Some(Kind::Podman))));
        assert!(!wanted(&id).is(&of(&id, Some(Kind::Docker))));
        // runc's own.
        assert!(!wanted("web").is(&of("web", None)));
    }
}
