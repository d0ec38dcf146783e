//! `seccast man`.

use clap::Args;
use std::path::PathBuf;

/// Write the man pages.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  seccast man | man -l -
      read the page of seccast itself
  seccast man /usr/local/share/man/man1
      install them all: seccast(1), and one for each command, such as seccast-record(1)

Exit codes: 0 done; 2 usage; 3 could not.")]
pub struct ManArgs {
    /// Write every page into this folder, which is made if need be; without it, the page of seccast goes to stdout
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
}
