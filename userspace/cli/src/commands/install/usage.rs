//! Which installed files containers of this node use: the runtime says it, and the kubelet.

use crate::args::install::UsageArgs;
use anyhow::Context as _;
use seccast_kube::kubelet::{Kubelet, Use};
use seccast_node::FOLDER;
use seccast_recorder::engine::cri::{CriError, Runtime};

/// The Localhost profiles that are named on this node.
#[derive(Debug)]
pub struct Usage(Vec<Use>);

impl Usage {
    /// Asks the container runtime, of whose containers some may have ended and will be started again, and the kubelet, whose Pods may not
    /// have begun. Both where both are given.
    ///
    /// # Errors
    /// When neither can be asked, or one that was named does not answer.
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
        match Runtime::find(args.cri_socket.as_deref()) {
            // The kubelet is enough.
            Err(CriError::NoSocket) if args.kubelet.is_some() => {}
            Err(error) => return Err(error.into()),
            Ok(runtime) => uses.extend(of_runtime(&runtime)?),
        }
        Ok(Self(uses))
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

fn of_runtime(runtime: &Runtime) -> anyhow::Result<Vec<Use>> {
    let mut uses = Vec::new();
    for container in runtime.containers()? {
        let profile = runtime.localhost_profile(&container.id);
        let profile = profile.with_context(|| format!("asked {}", runtime.socket().display()))?;
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
