//! `seccast install`.

use crate::output::format::Format;
use clap::{ArgGroup, Args};
use std::path::PathBuf;

/// Put profiles onto this node, where Pods find them.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("what").required(true).multiple(true).args(["profiles", "audit", "list", "remove"])),
    after_long_help = "\
Examples:
  seccast install web.json
      below the kubelet's folder; a Pod names it as `localhostProfile: seccast/web.json`
  seccast install web.json db.json --root /var/snap/microk8s/common/var/lib/kubelet/seccomp
      for microk8s; k3s and RKE2 have the usual place
  seccast install --audit
      the profile that allows everything, as `seccast/audit.json`, for containers that are recorded
  seccast install --list
      what is there, whether somebody has changed it, and old versions
  seccast install --remove web.json --force
      the profile with all its versions

Exit codes: 0 done; 2 usage; 3 could not."
)]
pub struct InstallArgs {
    /// Plain OCI profiles; each keeps its file's name, which ends with `.json`
    #[arg(value_name = "PROFILE")]
    pub profiles: Vec<PathBuf>,
    /// Install the profile that allows everything, as audit.json
    #[arg(long)]
    pub audit: bool,
    /// The seccomp root; profiles lie in its folder `seccast`
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet/seccomp")]
    pub root: PathBuf,
    /// List what is installed
    #[arg(long, conflicts_with_all = ["profiles", "audit", "remove", "dry_run", "force"])]
    pub list: bool,
    /// Remove these profiles with all their versions
    #[arg(long, value_name = "NAME", num_args = 1.., conflicts_with_all = ["profiles", "audit"])]
    pub remove: Vec<String>,
    /// Remove what may be in use
    #[arg(long, requires = "remove")]
    pub force: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// With --list: the form of the answer
    #[arg(long, value_enum, default_value_t, requires = "list")]
    pub format: Format,
    /// Print warnings, errors and names only
    #[arg(short, long)]
    pub quiet: bool,
}
