//! `seccast install`.

use crate::output::format::Format;
use clap::{ArgGroup, Args};
use std::path::PathBuf;

/// Put profiles onto this node, where Pods find them.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("what").required(true).multiple(true).args(["profiles", "audit", "watch", "list", "remove", "prune"])),
    group(ArgGroup::new("wanted").multiple(true).args(["profiles", "audit", "watch"]).conflicts_with("unwanted")),
    group(ArgGroup::new("unwanted").args(["list", "remove", "prune"])),
    group(ArgGroup::new("asks").multiple(true).args(["list", "remove", "prune", "watch"])),
    after_long_help = "\
Examples:
  seccast install web.json
      below the kubelet's folder; a Pod names it as `localhostProfile: seccast/web.json`
  seccast install web.json db.json --root /var/snap/microk8s/common/var/lib/kubelet/seccomp
      for microk8s; k3s and RKE2 have the usual place
  seccast install --audit
      the profile that allows everything, as `seccast/audit.json`, for containers that are recorded
  seccast install --list
      what is there, whether somebody has changed it, and which Pods use it
  seccast install --remove web.json
      the profile with all its versions, unless a Pod uses it
  seccast install --prune
      old versions that no Pod uses
  seccast install --watch /profiles --root /seccomp --node $(NODE_NAME)
      in a DaemonSet: keep the node equal to a mounted ConfigMap, and let Pods in when it is
  seccast install --check --watch /profiles --root /seccomp
      whether it is: the DaemonSet's readiness probe

Exit codes: 0 done; 1 --check found differences; 2 usage; 3 could not."
)]
pub struct InstallArgs {
    /// Plain OCI profiles; each keeps its file's name, which ends with `.json`
    #[arg(value_name = "PROFILE", conflicts_with = "watch")]
    pub profiles: Vec<PathBuf>,
    /// Install the profile that allows everything, as audit.json
    #[arg(long)]
    pub audit: bool,
    /// Keep the node equal to a folder, such as a mounted ConfigMap, until SIGTERM
    #[arg(long, value_name = "DIR")]
    pub watch: Option<PathBuf>,
    /// The seccomp root; profiles lie in its folder `seccast`
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet/seccomp")]
    pub root: PathBuf,
    /// List what is installed
    #[arg(long)]
    pub list: bool,
    /// Remove these profiles with all their versions
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub remove: Vec<String>,
    /// Remove old versions that nobody uses
    #[arg(long)]
    pub prune: bool,
    /// Remove what is in use as well, or may be
    #[arg(long, requires = "asks", conflicts_with_all = ["profiles", "list"])]
    pub force: bool,
    /// Only compare: exit with 1 when something is not on the node as it should be
    #[arg(long, requires = "wanted")]
    pub check: bool,
    /// Say what would be done, and do nothing
    #[arg(long, conflicts_with_all = ["list", "watch", "check"])]
    pub dry_run: bool,
    /// With --list: the form of the answer
    #[arg(long, value_enum, default_value_t, requires = "list")]
    pub format: Format,
    /// Print warnings, errors and results only
    #[arg(short, long)]
    pub quiet: bool,
    /// What --watch tells others
    #[command(flatten, next_help_heading = "With --watch")]
    pub ready: ReadyArgs,
    /// Who knows which profiles are in use
    #[command(flatten, next_help_heading = "Which profiles are in use")]
    pub usage: UsageArgs,
}

/// What others are told of a node.
#[derive(Debug, Args)]
pub struct ReadyArgs {
    /// A file that is there while all is on the disk
    #[arg(
        long,
        requires = "watch",
        conflicts_with_all = ["check", "profiles", "unwanted"],
        value_name = "FILE"
    )]
    pub ready: Option<PathBuf>,
    /// This node; once all is on the disk, its start-up taint is removed, which needs the right to patch it
    #[arg(
        long,
        requires = "watch",
        conflicts_with_all = ["check", "profiles", "unwanted"],
        value_name = "NAME"
    )]
    pub node: Option<String>,
    /// The taint's key
    #[arg(
        long,
        requires = "node",
        value_name = "KEY",
        default_value = "seccast.dev/profiles"
    )]
    pub taint: String,
    /// How the API server is reached, where not as the Pod's service account
    #[arg(long, requires = "node", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Who is asked which profiles are in use.
#[derive(Debug, Args)]
pub struct UsageArgs {
    /// The container runtime's CRI socket, where not in a usual place
    #[arg(
        long,
        requires = "asks",
        conflicts_with = "profiles",
        value_name = "PATH"
    )]
    pub cri_socket: Option<PathBuf>,
    /// Ask the kubelet as well: its Pods name profiles before they start
    #[arg(
        long,
        requires = "asks",
        conflicts_with = "profiles",
        value_name = "https://NODE:10250"
    )]
    pub kubelet: Option<String>,
    /// The kubelet's token, where not the Pod's service account's
    #[arg(long, requires = "kubelet", value_name = "FILE")]
    pub kubelet_token: Option<PathBuf>,
    /// The CA of the kubelet's certificate, where not the cluster's
    #[arg(long, requires = "kubelet", value_name = "FILE")]
    pub kubelet_ca: Option<PathBuf>,
    /// Take any certificate: whoever answers there gets the token
    #[arg(long, requires = "kubelet", conflicts_with = "kubelet_ca")]
    pub kubelet_insecure: bool,
}
