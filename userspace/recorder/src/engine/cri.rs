//! Kubernetes' Container Runtime Interface, by which the kubelet speaks to containerd and CRI-O: Pods, and the profiles of containers.
//!
//! Read-only calls, each with a time limit. The socket is root's: whoever may use it controls the node, so the DaemonSet does not get it.

use crate::runtime::cri::STATES;
use hyper_util::rt::TokioIo;
use k8s_cri::v1::{self as wire, runtime_service_client::RuntimeServiceClient};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{net::UnixStream, runtime, time::timeout};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

/// CRI-O's socket.
const CRIO: &str = "/run/crio/crio.sock";

/// Longest time that one call may take.
const LIMIT: Duration = Duration::from_secs(10);

/// An answer may have these bytes, as for the kubelet.
const MAX_ANSWER: usize = 16 << 20;

/// CRI-O's note of the profile that it was asked for.
const CRIO_PROFILE: &str = "io.kubernetes.cri-o.SeccompProfilePath";

/// Why a runtime could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CriError {
    /// None of the usual sockets is there, or has the interface.
    #[error("no container runtime has a CRI socket in a usual place ({}): name it with --cri-socket", sockets().collect::<Vec<_>>().join(", "))]
    NoSocket,
    /// Nobody answers there.
    #[error("no container runtime answers at {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The reason.
        source: tonic::transport::Error,
    },
    /// No answer in time.
    #[error("the container runtime at {} did not answer within {} seconds", socket.display(), LIMIT.as_secs())]
    Slow {
        /// The socket.
        socket: PathBuf,
    },
    /// It refused.
    #[error("the container runtime at {} refused {call}: {} ({:?})", socket.display(), status.message(), status.code())]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// What was asked.
        call: &'static str,
        /// Its answer.
        status: Box<Status>,
    },
    /// It does not say which profile a container has.
    #[error("the container runtime at {} does not say which seccomp profile container {container} has", socket.display())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// The container's id.
        container: String,
    },
    /// The system refused.
    #[error("cannot wait for a container runtime")]
    Io(#[from] io::Error),
}

impl CriError {
    /// Is it a containerd whose CRI plugin is off, as docker's is by default?
    #[must_use]
    pub fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == Code::Unimplemented)
    }
}

/// A container of a Pod; the Pod's sandbox is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 digits.
    pub id: String,
    /// Its Pod.
    pub pod: Pod,
}

/// A Pod on this node, one start of its sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its labels, those that the kubelet adds included.
    pub labels: BTreeMap<String, String>,
}

/// A container runtime that answers.
#[derive(Debug)]
pub struct Runtime {
    socket: PathBuf,
    client: RuntimeServiceClient<Channel>,
    runtime: runtime::Runtime,
}

impl Runtime {
    /// The runtimes at all of the usual sockets that are there: beside the kubelet's a node may have docker's containerd, which knows
    /// no Pod. A containerd without the interface answers here, and refuses each call as unimplemented.
    pub fn all() -> impl Iterator<Item = Result<Self, CriError>> {
        let there = sockets()
            .map(PathBuf::from)
            .filter(|socket| socket.exists());
        there.map(|socket| Self::at(&socket))
    }

    /// The runtime at this socket.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn at(socket: &Path) -> Result<Self, CriError> {
        let socket = socket.to_owned();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let path = socket.clone();
        let connect = service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        // The address is only written into requests.
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = runtime
            .block_on(async { timeout(LIMIT, endpoint.connect_with_connector(connect)).await });
        let slow = |_| CriError::Slow {
            socket: socket.clone(),
        };
        let channel = channel.map_err(slow)?.map_err(|source| CriError::Connect {
            socket: socket.clone(),
            source,
        })?;
        let client = RuntimeServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        Ok(Self {
            socket,
            client,
            runtime,
        })
    }

    /// Where it was found.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Every container with its Pod, those that have ended included.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub fn containers(&self) -> Result<Vec<Container>, CriError> {
        let mut client = self.client.clone();
        let pods = client.list_pod_sandbox(wire::ListPodSandboxRequest::default());
        let mut pods: BTreeMap<_, _> = (self.ask("ListPodSandbox", pods)?.items.into_iter())
            .map(|sandbox| (sandbox.id.clone(), pod(sandbox)))
            .collect();
        let mut client = self.client.clone();
        let containers = client.list_containers(wire::ListContainersRequest::default());
        let containers = self.ask("ListContainers", containers)?.containers;
        let container = |found: wire::Container| Container {
            id: found.id,
            pod: pods.entry(found.pod_sandbox_id).or_default().clone(),
        };
        Ok(containers.into_iter().map(container).collect())
    }

    /// The Localhost profile of a container, as the kubelet gave it: an absolute path. `None` for every other kind of profile, and for a
    /// container that is gone.
    ///
    /// # Errors
    /// When the runtime does not answer, or does not say.
    pub fn localhost_profile(&self, container: &str) -> Result<Option<String>, CriError> {
        let request = wire::ContainerStatusRequest {
            container_id: container.to_owned(),
            verbose: true,
        };
        let mut client = self.client.clone();
        let info = match self.ask("ContainerStatus", client.container_status(request)) {
            Ok(answer) => answer.info,
            Err(CriError::Refused { status, .. }) if status.code() == Code::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let info = info
            .get("info")
            .and_then(|text| serde_json::from_str(text).ok());
        info.as_ref()
            .and_then(profile)
            .ok_or_else(|| CriError::Silent {
                socket: self.socket.clone(),
                container: container.to_owned(),
            })
    }

    fn ask<T>(
        &self,
        call: &'static str,
        answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, CriError> {
        let answer = self
            .runtime
            .block_on(async { timeout(LIMIT, answer).await });
        let socket = || self.socket.clone();
        let answer = answer.map_err(|_| CriError::Slow { socket: socket() })?;
        Ok(answer
            .map_err(|status| CriError::Refused {
                socket: socket(),
                call,
                status: Box::new(status),
            })?
            .into_inner())
    }
}

/// Where runtimes have their sockets: every containerd in its state folder or beside it, and CRI-O.
fn sockets() -> impl Iterator<Item = String> {
    let of = |state: &str| [format!("{state}/containerd.sock"), format!("{state}.sock")];
    let containerd = STATES.into_iter().flat_map(of);
    containerd.chain([CRIO.to_owned()])
}

fn pod(sandbox: wire::PodSandbox) -> Pod {
    let metadata = sandbox.metadata.unwrap_or_default();
    Pod {
        name: metadata.name,
        namespace: metadata.namespace,
        labels: sandbox.labels.into_iter().collect(),
    }
}

/// What a verbose status says of the profile: `None` when it says nothing, `Some(None)` when it is no Localhost one.
///
/// containerd repeats the kubelet's request (`config`); CRI-O gives the OCI configuration with an annotation of its own.
fn profile(info: &Value) -> Option<Option<String>> {
    let named = |path: &Value| {
        path.as_str()
            .filter(|path| !path.is_empty())
            .map(str::to_owned)
    };
    if let Some(config) = info.get("config").filter(|config| config.is_object()) {
        let context = config.pointer("/linux/security_context");
        let seccomp = context.and_then(|context| context.get("seccomp"));
        // Localhost; the others have no path. Before 1.19 kubelets gave a path with its kind before it.
        let path = seccomp.and_then(|seccomp| seccomp.get("localhost_ref"));
        let old = context.and_then(|context| context.get("seccomp_profile_path"));
        return Some(path.and_then(named).or_else(|| {
            let old = old.and_then(named)?;
            old.strip_prefix("localhost/").map(str::to_owned)
        }));
    }
    let annotations = info.pointer("/runtimeSpec/annotations")?;
    let path = annotations.get(CRIO_PROFILE)?;
    Some(named(path).filter(|path| path.ends_with(".json")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_profile_is_what_the_kubelet_asked_for() {
        let context = |context: Value| json!({"config": {"linux": {"security_context": context}}});
        let path = "/var/lib/kubelet/seccomp/seccast/web.json";
        let localhost = Some(Some(path.to_owned()));
        for (info, says) in [
            (
                context(json!({"seccomp": {"profile_type": 2, "localhost_ref": path}})),
                localhost.clone(),
            ),
            (context(json!({"seccomp": {"profile_type": 1}})), Some(None)),
            (
                context(json!({"seccomp_profile_path": format!("localhost/{path}")})),
                localhost.clone(),
            ),
            (
                context(json!({"seccomp_profile_path": "runtime/default"})),
                Some(None),
            ),
            (json!({"config": {}}), Some(None)),
            (
                json!({"runtimeSpec": {"annotations": {CRIO_PROFILE: path}}}),
                localhost,
            ),
            (
                json!({"runtimeSpec": {"annotations": {CRIO_PROFILE: "runtime/default"}}}),
                Some(None),
            ),
            (json!({"runtimeSpec": {"annotations": {}}}), None),
            (json!({"pid": 1}), None),
        ] {
            assert_eq!(profile(&info), says, "{info}");
        }
    }

    #[test]
    fn every_distribution_has_its_socket_among_the_usual_ones() {
        let usual: Vec<_> = sockets().collect();
        for socket in [
            "/run/containerd/containerd.sock",
            "/run/crio/crio.sock",
            "/run/k3s/containerd/containerd.sock",
            "/var/snap/microk8s/common/run/containerd.sock",
            "/run/k0s/containerd.sock",
        ] {
            assert!(usual.iter().any(|one| one == socket), "{socket}");
        }
    }

    #[test]
    fn a_socket_without_a_runtime_is_named() {
        let socket = std::env::temp_dir().join("seccast-no-such.sock");
        let error = Runtime::at(&socket).unwrap_err();
        assert!(
            error.to_string().contains("seccast-no-such.sock"),
            "{error}"
        );
    }
}
