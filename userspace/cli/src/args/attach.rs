//! `seccast attach`.

use super::target::duration;
use clap::Args;
use seccast_kube::pod::LocalhostProfile;
use std::{path::PathBuf, time::Duration};

/// Write a profile into manifests and other files, or into a workload of a cluster.
#[derive(Debug, Args)]
#[command(
    long_about = "\
Writes a profile into the securityContext of a container: in files, of which only the lines that it takes are changed, or in a
workload of a cluster.

Files are manifests (Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob, List, several documents, kustomize patches),
compose files and Helm values. What is changed is read again and compared before anything is written; a file is whole or untouched.",
    after_long_help = "\
Examples:
  seccast attach deploy.yaml --profile seccast/web.json -c web --in-place
      the container web runs under seccast/web.json below the kubelet's seccomp folder
  seccast attach deploy.yaml --profile seccast/web.json --dry-run
      the only container of the file, as a diff
  seccast attach k8s/web.yaml k8s/cron.yaml --profile seccast/web.json -c web --check
      for CI: 1 where a file is not as wanted
  seccast attach deploy.yaml -c web --detach --in-place
      takes it out again
  seccast attach deploy.yaml -c web --audit
      the profile for recording, which denies nothing
  seccast attach values.yaml --profile seccast/web.json --values-path controller.containerSecurityContext
      the values of a Helm chart
  seccast attach compose.yaml --profile ./web.json -c web
      the service web
  seccast attach deploy/web -c web --profile seccast/web.json
      a workload of the cluster, by the API server; its rollout is followed
  seccast attach deploy/web -c web --profile seccast/web.json --dry-run
      what the API server would make of it, as a diff
  seccast attach deploy/web -c web --detach --timeout 5m
      takes it out again

Exit codes: 0 done, or as wanted; 1 --check: not as wanted; 2 usage, or which container is meant is not clear; 3 could not."
)]
pub struct AttachArgs {
    /// Files, or KIND/NAME of workloads in the cluster; `-` is stdin
    #[arg(required = true, value_name = "FILE|KIND/NAME")]
    pub targets: Vec<String>,
    /// The profile, below the kubelet's seccomp folder (`localhostProfile`); for compose its file
    #[arg(short, long, value_name = "REL/PATH.json", required_unless_present_any = ["audit", "detach"])]
    pub profile: Option<String>,
    /// The profile for recording, which denies nothing: seccast/audit.json
    #[arg(long, conflicts_with_all = ["profile", "detach"])]
    pub audit: bool,
    /// A container, init container or sidecar; of several workloads WORKLOAD/CONTAINER; a compose service. May be repeated
    #[arg(short, long, value_name = "NAME")]
    pub container: Vec<String>,
    /// Take the profile out again; with --profile only this one
    #[arg(long)]
    pub detach: bool,
    /// Write files in place; without it the changed text of one file goes to stdout
    #[arg(short, long, conflicts_with_all = ["dry_run", "check"])]
    pub in_place: bool,
    /// Change nothing, show the difference
    #[arg(long)]
    pub dry_run: bool,
    /// Change nothing, exit 1 when something is not as wanted
    #[arg(long, conflicts_with = "dry_run")]
    pub check: bool,
    /// Where profiles are looked up by --profile, to be checked
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub profiles: PathBuf,
    /// Every name is of a file, also where it looks like KIND/NAME
    #[arg(long, conflicts_with = "live")]
    pub file: bool,
    /// Every name is KIND/NAME, also where a file is called so
    #[arg(long)]
    pub live: bool,
    /// Print warnings and errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// Where the securityContext is in Helm values, such as controller.containerSecurityContext; without it the only one there is
    #[arg(
        long,
        value_name = "PATH",
        conflicts_with = "container",
        help_heading = "Files"
    )]
    pub values_path: Option<String>,
    /// The workload's namespace; without it the context's
    #[arg(short, long, value_name = "NS", help_heading = "Cluster")]
    pub namespace: Option<String>,
    /// A context of the kubeconfig; without it the current one
    #[arg(long, value_name = "CTX", help_heading = "Cluster")]
    pub context: Option<String>,
    /// The kubeconfig; without it that of KUBECONFIG, ~/.kube/config, or the Pod's service account
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// Take over fields that somebody else has set
    #[arg(long, help_heading = "Cluster")]
    pub force_conflicts: bool,
    /// How long to wait for the rollout; 0s: not at all
    #[arg(long, value_name = "D", default_value = "2m", value_parser = duration, help_heading = "Cluster")]
    pub timeout: Duration,
}

impl AttachArgs {
    /// The path that is to be attached; `None` when any is to be taken out.
    pub fn wanted(&self) -> Option<&str> {
        if self.audit {
            return Some(LocalhostProfile::AUDIT);
        }
        self.profile.as_deref()
    }
}
