//! `seccast completions`.

use clap::Args;
use clap_complete::Shell;

/// Write the completions of a shell.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  seccast completions bash >/etc/bash_completion.d/seccast
      for every user of this machine
  seccast completions zsh >~/.zfunc/_seccast
      for oneself, where ~/.zfunc is in fpath
  seccast completions fish >~/.config/fish/completions/seccast.fish

Exit codes: 0 done; 2 usage; 3 could not.")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}
