//! The API server, with what the user has: a kubeconfig, or a Pod's service account.
//!
//! kube is async; nothing outside of this file notices. Each request has a limit of its own, and each way to fail has an
//! error that names what was asked, why it failed, and what to do.

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
    core::{
        Request, Status,
        params::{GetParams, ListParams, Patch, PatchParams},
        response::StatusCause,
    },
};
use seccast_model::near;
use serde_json::Value;
use std::{env, path::PathBuf, time::Duration};
use thiserror::Error;

/// The longest wait for one answer: the API server itself gives up after 60 s.
const ANSWER: Duration = Duration::from_secs(30);
/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Which cluster, and as whom: what kubectl's options of these names say.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `--kubeconfig`; else `KUBECONFIG`, else `~/.kube/config`, else the service account of the Pod.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`; else the current one.
    pub context: Option<String>,
    /// `--namespace`; else the context's, else `default`.
    pub namespace: Option<String>,
}

/// A connection to an API server.
pub struct Cluster {
    runtime: tokio::runtime::Runtime,
    client: Client,
    namespace: String,
    server: String,
}

/// What is asked for, in the words of RBAC.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// `get`, `list`, `patch`.
    pub verb: &'a str,
    /// The folder of the URL: `apis/apps/v1`, `api/v1`.
    pub path: &'a str,
    /// The plural: `deployments`.
    pub plural: &'a str,
    /// The object's name; empty for a list.
    pub name: &'a str,
}

impl Question<'_> {
    /// As `kubectl auth can-i` takes it: `deployments.apps/web`.
    fn resource(&self) -> String {
        let group = self.path.strip_prefix("apis/");
        let group = group.and_then(|path| path.split('/').next());
        let group = group.map_or(String::new(), |group| format!(".{group}"));
        let name = match self.name {
            "" => String::new(),
            name => format!("/{name}"),
        };
        format!("{}{group}{name}", self.plural)
    }
}

/// Why the API server could not be asked, or what it said.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// Neither a kubeconfig nor a service account.
    #[error(
        "no access to a cluster: no kubeconfig at {looked}, and this is no Pod with a service account; set KUBECONFIG or give --kubeconfig"
    )]
    NoKubeconfig {
        /// Where one was looked for.
        looked: String,
    },
    /// A kubeconfig that cannot be used.
    #[error("cannot use the kubeconfig {from}: {reason}")]
    Kubeconfig {
        /// Its path, or where it is from.
        from: String,
        /// Why.
        reason: String,
    },
    /// `proxy-url`, or a variable.
    #[error(
        "the environment or the kubeconfig {from} says to ask the API server through the proxy {proxy}, and seccast uses none: unset HTTPS_PROXY and https_proxy, or take proxy-url out of the kubeconfig"
    )]
    Proxy {
        /// The kubeconfig.
        from: String,
        /// The proxy's host.
        proxy: String,
    },
    /// A context that it does not have.
    #[error(
        "the kubeconfig {from} has no context {context}{near}; `kubectl config get-contexts` lists them"
    )]
    Context {
        /// Its path, or where it is from.
        from: String,
        /// The context.
        context: String,
        /// Near names.
        near: String,
    },
    /// No answer.
    #[error("the API server {server} cannot be asked: {reason}; {advice}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What the network says.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// 401.
    #[error(
        "the API server {server} does not know who asks ({message}): the token or certificate of the kubeconfig is wrong or has expired; log in again, and try `kubectl auth whoami`"
    )]
    Unauthorized {
        /// Its address.
        server: String,
        /// What it says.
        message: String,
    },
    /// 403 from RBAC.
    #[error(
        "not allowed to {verb} {resource} in namespace {namespace} ({message}); ask for that right, and try `kubectl auth can-i {verb} {resource} --namespace {namespace}`"
    )]
    Forbidden {
        /// `get`, `list`, `patch`.
        verb: String,
        /// `deployments.apps/web`.
        resource: String,
        /// Where.
        namespace: String,
        /// What the server says: it names the user.
        message: String,
    },
    /// 404.
    #[error(
        "no {resource} in namespace {namespace}{near}; `kubectl get {plural} --all-namespaces` lists them"
    )]
    NotFound {
        /// `deployments.apps/web`.
        resource: String,
        /// The plural.
        plural: String,
        /// Where.
        namespace: String,
        /// Near names.
        near: String,
    },
    /// 409 of server-side apply.
    #[error("{resource}: {} set by somebody else: {}; change it there, or take it over with --force-conflicts", if conflicts.len() == 1 { "a field is" } else { "fields are" }, join(conflicts))]
    Conflict {
        /// `deployments.apps/web`.
        resource: String,
        /// Each field with its owner.
        conflicts: Vec<Conflict>,
    },
    /// 409 for another reason.
    #[error("{resource} was replaced or changed at the same time ({message}); run it again")]
    Changed {
        /// `deployments.apps/web`.
        resource: String,
        /// What the server says.
        message: String,
    },
    /// Refused by validation, by an admission webhook or a policy, or an error of the server's own.
    #[error("the API server refuses to {verb} {resource}: {message}")]
    Refused {
        /// `get`, `list`, `patch`.
        verb: String,
        /// `deployments.apps/web`.
        resource: String,
        /// What it says.
        message: String,
    },
}

/// A field of server-side apply that somebody else has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// `.spec.template.spec.containers[name="app"].securityContext.seccompProfile.type`
    pub field: String,
    /// The manager's name, and how it came by it: `kubectl-edit with apps/v1`.
    pub manager: String,
}

fn join(conflicts: &[Conflict]) -> String {
    let each = conflicts
        .iter()
        .map(|Conflict { field, manager }| format!("{manager} has set {field}"));
    each.collect::<Vec<_>>().join(", ")
}

impl Cluster {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// When there is no kubeconfig and this is no Pod, or what it says cannot be used.
    pub fn connect(access: &Access) -> Result<Self, ClusterError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ClusterError::Kubeconfig {
                from: "of this process".to_owned(),
                reason: error.to_string(),
            })?;
        let (mut config, from) = runtime.block_on(config(access))?;
        config.connect_timeout = Some(CONNECT);
        if let Some(proxy) = &config.proxy_url {
            // Without what comes before the host: it may be a password.
            return Err(ClusterError::Proxy {
                from,
                proxy: proxy.host().unwrap_or_default().to_owned(),
            });
        }
        // A busy server says 429 with Retry-After; each request has a limit here, and waits ask again by themselves.
        config.default_retry = false;
        let server = config.cluster_url.to_string();
        let namespace = access.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let guard = runtime.enter();
        let client = Client::try_from(config).map_err(|error| ClusterError::Kubeconfig {
            from,
            reason: innermost(&error),
        })?;
        drop(guard);
        Ok(Self {
            runtime,
            client,
            namespace,
            server: server.trim_end_matches('/').to_owned(),
        })
    }

    /// One object of the namespace.
    ///
    /// # Errors
    ///
    /// What the server or the network says; near names where there is no such object.
    pub fn get(&self, path: &str, plural: &str, name: &str) -> Result<Value, ClusterError> {
        let question = Question {
            verb: "get",
            path,
            plural,
            name,
        };
        let request = self.folder(question).get(name, &GetParams::default());
        self.ask(question, request).map_err(|error| match error {
            ClusterError::NotFound {
                resource,
                plural,
                namespace,
                ..
            } => ClusterError::NotFound {
                near: self.near(question),
                resource,
                plural,
                namespace,
            },
            error => error,
        })
    }

    /// The objects of a kind that a label selector matches.
    ///
    /// # Errors
    ///
    /// What the server or the network says.
    pub fn list(&self, path: &str, plural: &str, labels: &str) -> Result<Vec<Value>, ClusterError> {
        let question = Question {
            verb: "list",
            path,
            plural,
            name: "",
        };
        let request = self
            .folder(question)
            .list(&ListParams::default().labels(labels));
        let mut list: Value = self.ask(question, request)?;
        Ok(match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        })
    }

    /// Server-side apply by the field manager `manager`; returns the object as it is then, or would be.
    ///
    /// # Errors
    ///
    /// What the server or the network says; with each field and its owner on a conflict.
    pub fn apply(
        &self,
        path: &str,
        plural: &str,
        object: &Value,
        apply: &Apply<'_>,
    ) -> Result<Value, ClusterError> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let question = Question {
            verb: "patch",
            path,
            plural,
            name,
        };
        let mut params = PatchParams::apply(apply.manager).validation_strict();
        params.dry_run = apply.dry_run;
        params.force = apply.force;
        self.ask(
            question,
            self.folder(question)
                .patch(name, &params, &Patch::Apply(object)),
        )
    }

    fn folder(&self, question: Question<'_>) -> Request {
        Request::new(format!(
            "/{}/namespaces/{}/{}",
            question.path, self.namespace, question.plural
        ))
    }

    /// Sends one request; `question` is what its errors name.
    ///
    /// # Errors
    ///
    /// What the server or the network says.
    pub(crate) fn ask<T: serde::de::DeserializeOwned>(
        &self,
        question: Question<'_>,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, ClusterError> {
        let request = request.map_err(|error| ClusterError::Refused {
            verb: question.verb.to_owned(),
            resource: question.resource(),
            message: error.to_string(),
        })?;
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(ANSWER, self.client.request(request)).await });
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => Err(self.refusal(question, &status)),
            Ok(Err(error)) => Err(self.unreachable(&innermost(&error))),
            Err(_) => Err(self.unreachable(&format!("no answer within {} s", ANSWER.as_secs()))),
        }
    }

    /// What is meant by a status that is not success.
    fn refusal(&self, question: Question<'_>, status: &Status) -> ClusterError {
        let (verb, resource) = (question.verb.to_owned(), question.resource());
        let namespace = self.namespace.clone();
        let message = one_line(&status.message);
        match status.code {
            401 => ClusterError::Unauthorized {
                server: self.server.clone(),
                message,
            },
            // RBAC's message; admission plugins say 403 as well.
            403 if status
                .message
                .contains(&format!(" cannot {} ", question.verb)) =>
            {
                ClusterError::Forbidden {
                    verb,
                    resource,
                    namespace,
                    message,
                }
            }
            404 => ClusterError::NotFound {
                resource,
                plural: question.plural.to_owned(),
                namespace,
                near: String::new(),
            },
            409 => match conflicts(status) {
                conflicts if conflicts.is_empty() => ClusterError::Changed { resource, message },
                conflicts => ClusterError::Conflict {
                    resource,
                    conflicts,
                },
            },
            // The uid of an intent is not that of the object.
            422 if causes(status).any(|cause| cause.field == "metadata.uid") => {
                ClusterError::Changed { resource, message }
            }
            _ => ClusterError::Refused {
                verb,
                resource,
                message,
            },
        }
    }

    fn unreachable(&self, reason: &str) -> ClusterError {
        ClusterError::Unreachable {
            server: self.server.clone(),
            reason: reason.to_owned(),
            advice: advice(reason),
        }
    }

    /// What may have been meant: near names, or another namespace. Nothing where they may not be listed.
    fn near(&self, question: Question<'_>) -> String {
        let Question {
            path, plural, name, ..
        } = question;
        let text = |object: &Value, key: &str| object["metadata"][key].as_str().map(str::to_owned);
        let there = self.list(path, plural, "").unwrap_or_default();
        let there = there.iter().filter_map(|object| text(object, "name"));
        let near = near::suggestion(&near::names(name, there));
        if !near.is_empty() {
            return near;
        }
        let everywhere = Request::new(format!("/{path}/{plural}"));
        let named = ListParams::default()
            .fields(&format!("metadata.name={name}"))
            .limit(1);
        let list = self.ask::<Value>(question, everywhere.list(&named));
        let namespace = list
            .ok()
            .and_then(|list| text(&list["items"][0], "namespace"));
        namespace.map_or_else(String::new, |namespace| {
            format!(" (there is one in namespace {namespace})")
        })
    }
}

/// How to apply.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// Take over what others have set.
    pub force: bool,
    /// Validate and answer, but keep nothing.
    pub dry_run: bool,
}

async fn config(access: &Access) -> Result<(Config, String), ClusterError> {
    let variable = env::var_os("KUBECONFIG").filter(|value| !value.is_empty());
    let home = env::home_dir().map(|home| home.join(".kube/config"));
    let (read, from) = match (&access.kubeconfig, variable) {
        (Some(path), _) => (Kubeconfig::read_from(path), path.display().to_string()),
        (None, Some(paths)) => (Kubeconfig::read(), paths.to_string_lossy().into_owned()),
        (None, None) => {
            let path = home.unwrap_or_else(|| PathBuf::from("~/.kube/config"));
            let from = path.display().to_string();
            if !path.exists() && access.context.is_none() {
                return match Config::incluster() {
                    Ok(config) => Ok((config, "of the Pod's service account".to_owned())),
                    Err(_) => Err(ClusterError::NoKubeconfig { looked: from }),
                };
            }
            (Kubeconfig::read_from(&path), from)
        }
    };
    let unusable = |error: &KubeconfigError| ClusterError::Kubeconfig {
        from: from.clone(),
        reason: match error {
            KubeconfigError::ReadConfig(error, path) if path.as_os_str() == from.as_str() => {
                error.to_string()
            }
            KubeconfigError::ReadConfig(error, path) => format!("{}: {error}", path.display()),
            KubeconfigError::CurrentContextNotSet => {
                "it has no current context; give --context".to_owned()
            }
            error => one_line(&error.to_string()),
        },
    };
    let kubeconfig = read.map_err(|error| unusable(&error))?;
    if let Some(context) = &access.context
        && !kubeconfig
            .contexts
            .iter()
            .any(|known| known.name == *context)
    {
        let known = kubeconfig.contexts.iter().map(|known| known.name.clone());
        return Err(ClusterError::Context {
            near: near::suggestion(&near::names(context, known)),
            from,
            context: context.clone(),
        });
    }
    let options = KubeConfigOptions {
        context: access.context.clone(),
        ..Default::default()
    };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Ok((config.map_err(|error| unusable(&error))?, from))
}

/// Each field that somebody else has. The server says so in causes:
/// `{"reason": "FieldManagerConflict", "message": "conflict with \"helm\" using apps/v1", "field": ".spec…"}`.
fn conflicts(status: &Status) -> Vec<Conflict> {
    causes(status)
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| Conflict {
            field: cause.field.clone(),
            manager: cause
                .message
                .split('"')
                .nth(1)
                .unwrap_or(&cause.message)
                .to_owned(),
        })
        .collect()
}

fn causes(status: &Status) -> impl Iterator<Item = &StatusCause> {
    let details = status.details.iter();
    details.flat_map(|details| &details.causes)
}

/// The last cause: "Connection refused (os error 111)" instead of "client error (Connect)".
pub(crate) fn innermost(error: &kube::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    // A failed TLS handshake is an io::Error around rustls' error, and both say the same.
    while let Some(source) = inner.source() {
        inner = source;
    }
    one_line(&inner.to_string())
}

/// What to do about what the network says.
fn advice(reason: &str) -> &'static str {
    let has = |word: &str| reason.to_ascii_lowercase().contains(word);
    if has("refused") {
        "is it running there, and is the address of the kubeconfig right?"
    } else if has("lookup") || has("resolve") || has("name or service") {
        "the name of the server in the kubeconfig does not resolve from here"
    } else if has("certificate") {
        "the kubeconfig's certificate-authority is not the server's: write the kubeconfig again"
    } else {
        "can it be reached from here (VPN, proxy, firewall)? `kubectl cluster-info` says more"
    }
}

/// Messages of servers have newlines.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
