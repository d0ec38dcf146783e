//! Which installed files containers of this node use: the runtime says it, and the kubelet.

use crate::args::install::{InstallArgs, UsageArgs};
use seccast_kube::kubelet::{Kubelet, Use};
use seccast_node::FOLDER;
use seccast_recorder::engine::cri::{CriError, Runtime};
use std::cell::OnceCell;

/// The Localhost profiles that are named on this node.
#[derive(Debug)]
pub struct Usage(Vec<Use>);

impl Usage {
    /// Asks the container runtime, of whose containers some may have ended and will be started again, and the kubelet, whose Pods may not
    /// have begun. Both where both are given.
    ///
    /// # Errors
    /// When neither can be asked, or one that was named or has its socket in a usual place does not answer.
    pub fn ask(args: &UsageArgs) -> anyhow::Result<Self> {
        let mut uses = Vec::new();
        if let Some(url) = &args.kubelet {
            let kubelet = Kubelet {
                url: url.clone(),
                token: args.kubelet_token.clone(),
                ca: args.kubelet_ca.clone(),
                insecure: args.kubelet_insecure,
            };
            uses.extend(kubelet.profiles()?);
        }
        // The kubelet is enough.
        let mut answered = args.kubelet.is_some();
        if let Some(socket) = &args.cri_socket {
            uses.extend(of_runtime(&Runtime::at(socket)?)?);
            answered = true;
        } else {
            for runtime in Runtime::all() {
                match of_runtime(&runtime?) {
                    Ok(more) => {
                        uses.extend(more);
                        answered = true;
                    }
                    Err(error) if error.is_unimplemented() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if !answered {
            return Err(CriError::NoSocket.into());
        }
        Ok(Self(uses))
    }

    /// The same; `None` where nobody was named, and no runtime is in a usual place.
    ///
    /// # Errors
    /// When somebody does not answer: then everything may be in use.
    pub fn ask_if_any(args: &UsageArgs) -> anyhow::Result<Option<Self>> {
        match Self::ask(args) {
            Err(error) if matches!(error.downcast_ref(), Some(CriError::NoSocket)) => Ok(None),
            usage => usage.map(Some),
        }
    }

    /// Who uses a file of our folder, `NAMESPACE/POD`, sorted. Kubelets give absolute paths to runtimes, and a root may be mounted anywhere:
    /// what ends with our folder and the file is meant.
    pub fn of(&self, file: &str) -> Vec<String> {
        let path = format!("{FOLDER}/{file}");
        let is = |profile: &str| {
            let before = profile.strip_suffix(&path);
            before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
        };
        let uses = self.0.iter().filter(|one| is(&one.profile));
        let mut pods: Vec<_> = uses.map(|one| one.pod.clone()).collect();
        pods.sort();
        pods.dedup();
        pods
    }
}

/// What is in use, asked for when it is needed, and once.
#[derive(Default)]
pub struct Asked(OnceCell<anyhow::Result<Option<Usage>>>);

impl Asked {
    /// Whether a file of our folder is in use, or may be, since somebody does not answer; `None` where there is nobody to ask. With
    /// `--force` nobody is asked, and nothing is.
    pub fn is(&self, args: &InstallArgs, file: &str) -> Option<bool> {
        if args.force {
            return Some(false);
        }
        match self.0.get_or_init(|| Usage::ask_if_any(&args.usage)) {
            Ok(Some(usage)) => Some(!usage.of(file).is_empty()),
            Ok(None) => None,
            Err(_) => Some(true),
        }
    }

    /// Why nobody knows it.
    pub fn error(&self) -> Option<&anyhow::Error> {
        self.0.get()?.as_ref().err()
    }

    /// Was there nobody to ask?
    pub fn nobody(&self) -> bool {
        matches!(self.0.get(), Some(Ok(None)))
    }
}

fn of_runtime(runtime: &Runtime) -> Result<Vec<Use>, CriError> {
    let mut uses = Vec::new();
    for container in runtime.containers()? {
        let profile = runtime.localhost_profile(&container.id)?;
        uses.extend(profile.map(|profile| Use {
            profile,
            pod: format!("{}/{}", container.pod.namespace, container.pod.name),
        }));
    }
    Ok(uses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_named_and_does_not_answer_is_an_error() {
        let args = UsageArgs {
            cri_socket: Some("/nonexistent/none.sock".into()),
            kubelet: None,
            kubelet_token: None,
            kubelet_ca: None,
            kubelet_insecure: false,
        };
        let error = Usage::ask_if_any(&args).unwrap_err();
        assert!(error.to_string().contains("none.sock"), "{error}");
    }

    #[test]
    fn a_file_is_in_use_wherever_its_root_is_mounted() {
        let uses = [
            "/var/lib/kubelet/seccomp/seccast/web.json",
            "seccast/db.json",
            "/x/notseccast/no.json",
            "other/no.json",
        ];
        let uses = uses.map(|profile| Use {
            profile: profile.to_owned(),
            pod: "shop/web".to_owned(),
        });
        let usage = Usage([uses.to_vec(), uses.to_vec()].concat());
        assert_eq!(usage.of("web.json"), ["shop/web"]);
        assert_eq!(usage.of("db.json"), ["shop/web"]);
        for unused in ["eb.json", "no.json", "json", ""] {
            assert_eq!(usage.of(unused), [""; 0], "{unused}");
        }
    }
}
