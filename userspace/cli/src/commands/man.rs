//! `seccast man`: manual pages, made from what `--help` says.

use crate::{
    args::{Args, man::ManArgs},
    exit::Exit,
    output::file::Destination,
};
use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use std::fs;

/// Does it.
pub fn run(args: &ManArgs) -> anyhow::Result<Exit> {
    let mut seccast = Args::command().disable_help_subcommand(true);
    seccast.build();
    let Some(folder) = &args.folder else {
        Destination::Stdout.write(&page(&seccast)?)?;
        return Ok(Exit::Done);
    };
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let verbs = seccast.get_subcommands().filter(|verb| !verb.is_hide_set());
    for command in verbs.chain([&seccast]) {
        let path = folder.join(Man::new(command.clone()).get_filename());
        Destination::check(&path)?.write(&page(command)?)?;
    }
    Ok(Exit::Done)
}

const APOSTROPHE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// The page of a command: what clap_mangen makes, with the end of `--help` in the sections that man(7) has for it.
fn page(command: &Command) -> anyhow::Result<String> {
    let man = Man::new(command.clone())
        .source(concat!("seccast ", env!("CARGO_PKG_VERSION")))
        .manual("seccast");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let end = command.get_after_long_help().map(ToString::to_string);
    last_sections(&end.unwrap_or_default(), command.has_subcommands()).to_writer(&mut page)?;
    // Each section comes with the same definition of the apostrophe, which is needed once.
    let page = String::from_utf8(page)?;
    Ok(format!("{APOSTROPHE}{}", page.replace(APOSTROPHE, "")))
}

fn last_sections(help: &str, top: bool) -> Roff {
    let mut roff = Roff::new();
    for paragraph in help.split("\n\n") {
        if let Some(examples) = paragraph.strip_prefix("Examples:\n") {
            roff.control("SH", ["EXAMPLES"]);
            for line in examples.lines() {
                // A command is indented by two, what it does by six.
                match line.strip_prefix("      ") {
                    Some(text) => roff.text([roman(text)]),
                    None => roff.control("TP", ["4"]).text([bold(line.trim_start())]),
                };
            }
        } else if let Some(codes) = paragraph.strip_prefix("Exit codes: ") {
            roff.control("SH", ["EXIT STATUS"]);
            for line in codes.replace('\n', " ").trim_end_matches('.').split("; ") {
                roff.control("PP", []).text([roman(line)]);
            }
        } else if !paragraph.is_empty() {
            roff.control("SH", ["NOTES"]).text([roman(paragraph)]);
        }
    }
    if !top {
        roff.control("SH", ["SEE ALSO"]).text([roman("seccast(1)")]);
    }
    roff
}
