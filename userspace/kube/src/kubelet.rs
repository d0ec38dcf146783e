//! The kubelet of a node: which profiles its Pods name, those included that have not started yet.

use crate::{
    cluster::{innermost, one_line},
    pod::containers,
};
use kube::{Client, Config};
use serde_json::Value;
use std::{path::PathBuf, time::Duration};

/// Where a Pod has its token and the cluster's CA.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Longest time for the answer.
const LIMIT: Duration = Duration::from_secs(20);

/// How the kubelet is reached, and how its certificate is judged.
#[derive(Clone, Debug)]
pub struct Kubelet {
    /// `https://NODE:10250`.
    pub url: String,
    /// A file with the token; `None` is the Pod's service account. It needs `get` of `nodes/proxy`, or `nodes/pods` from 1.33 on.
    pub token: Option<PathBuf>,
    /// A file with the CA of the kubelet's certificate; `None` is the service account's. Kubelets that sign their own need theirs.
    pub ca: Option<PathBuf>,
    /// Whether any certificate is taken: then whoever answers there gets the token.
    pub insecure: bool,
}

/// Why the kubelet does not say it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KubeletError {
    /// No address.
    #[error("`{}` is not the address of a kubelet, such as https://node1:10250", .0.escape_debug())]
    Url(String),
    /// It cannot be reached.
    #[error("the kubelet {url} cannot be asked: {reason}")]
    Unreachable {
        /// Its address.
        url: String,
        /// Why.
        reason: String,
    },
    /// It refused.
    #[error(
        "the kubelet {url} refuses to list its Pods ({code}: {message}): the token needs `get` of `nodes/proxy`"
    )]
    Refused {
        /// Its address.
        url: String,
        /// The HTTP status.
        code: u16,
        /// What it says.
        message: String,
    },
}

/// A container that names a Localhost profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// `localhostProfile`.
    pub profile: String,
    /// `NAMESPACE/POD`.
    pub pod: String,
}

impl Kubelet {
    /// Every Localhost profile that a Pod of this node names.
    ///
    /// # Errors
    /// When the kubelet cannot be reached, is not who it should be, or does not allow it.
    pub fn profiles(&self) -> Result<Vec<Use>, KubeletError> {
        let unreachable = |reason: String| KubeletError::Unreachable {
            url: self.url.clone(),
            reason,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| unreachable(error.to_string()))?;
        runtime.block_on(async {
            let client = self.client()?;
            let request = http::Request::get("/pods").body(Vec::new());
            let request = request.map_err(|error| unreachable(error.to_string()))?;
            match tokio::time::timeout(LIMIT, client.request::<Value>(request)).await {
                Ok(Ok(pods)) => Ok(uses(&pods)),
                Ok(Err(kube::Error::Api(status))) => Err(KubeletError::Refused {
                    url: self.url.clone(),
                    code: status.code,
                    message: one_line(&status.message),
                }),
                Ok(Err(error)) => Err(unreachable(innermost(&error))),
                Err(_) => Err(unreachable(format!(
                    "no answer within {} s",
                    LIMIT.as_secs()
                ))),
            }
        })
    }

    fn client(&self) -> Result<Client, KubeletError> {
        let account = |file: &str| PathBuf::from(ACCOUNT).join(file);
        let url: Option<http::Uri> = self.url.parse().ok();
        let url = url.filter(|url| url.scheme_str() == Some("https") && url.host().is_some());
        let mut config = Config::new(url.ok_or_else(|| KubeletError::Url(self.url.clone()))?);
        let token = self.token.clone().unwrap_or_else(|| account("token"));
        config.auth_info.token_file = Some(token.display().to_string());
        config.accept_invalid_certs = self.insecure;
        if !self.insecure {
            config.root_cert_file = Some(self.ca.clone().unwrap_or_else(|| account("ca.crt")));
        }
        config.default_retry = false;
        Client::try_from(config).map_err(|error| KubeletError::Unreachable {
            url: self.url.clone(),
            reason: innermost(&error),
        })
    }
}

/// Pods and containers of every kind; what they ask for, whether they run or not.
fn uses(pods: &Value) -> Vec<Use> {
    let text = |value: &Value, pointer: &str| {
        let text = value.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let mut uses = Vec::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        let spec = &pod["spec"];
        let containers = containers(spec);
        let values = containers.iter().map(|container| container.value(spec));
        for of in values.chain([spec]) {
            let profile = text(of, "/securityContext/seccompProfile/localhostProfile");
            if !profile.is_empty() {
                let (namespace, name) = (
                    text(pod, "/metadata/namespace"),
                    text(pod, "/metadata/name"),
                );
                uses.push(Use {
                    profile,
                    pod: format!("{namespace}/{name}"),
                });
            }
        }
    }
    uses
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_and_all_kinds_of_containers_name_profiles() {
        let seccomp =
            |path: &str| json!({"seccompProfile": {"type": "Localhost", "localhostProfile": path}});
        let pods = json!({"items": [
            {"metadata": {"namespace": "shop", "name": "web"}, "spec": {
                "securityContext": seccomp("seccast/pod.json"),
                "containers": [{"securityContext": seccomp("seccast/app.json")}, {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, {}],
                "initContainers": [{"securityContext": seccomp("seccast/init.json")}],
                "ephemeralContainers": [{"securityContext": seccomp("debug.json")}],
            }},
            {"metadata": {"namespace": "a", "name": "b"}, "spec": {"containers": [{}]}},
        ]});
        let names: Vec<_> = uses(&pods)
            .into_iter()
            .map(|one| format!("{} {}", one.profile, one.pod))
            .collect();
        assert_eq!(
            names,
            [
                "seccast/init.json shop/web",
                "seccast/app.json shop/web",
                "debug.json shop/web",
                "seccast/pod.json shop/web"
            ]
        );
    }

    #[test]
    fn only_https_is_an_address() {
        for url in ["node1:10250", "http://node1:10255", "https://", ""] {
            let kubelet = Kubelet {
                url: url.to_owned(),
                token: None,
                ca: None,
                insecure: false,
            };
            let error = kubelet.client().map(drop).unwrap_err();
            assert!(matches!(error, KubeletError::Url(_)), "{url}: {error}");
        }
    }
}
