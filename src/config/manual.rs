//! What the program says of its own command line, for shells and for `man`.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::aot::Shell;
use clap_mangen::Man;

use super::args::Args;

/// What makes a shell complete the command line.
pub fn completions(shell: Shell) -> String {
    let mut command = Args::command_line();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    // For bash, the hyphens of this program's name are taken for separators of commands in one place and not in the other.
    String::from_utf8_lossy(&script).replace("disk__subcmd__usage__subcmd__exporter", "disk__usage__exporter")
}

/// The manual page: one for all commands, for what is printed is one page.
pub fn man() -> io::Result<Vec<u8>> {
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    let mut page = Vec::new();
    let whole = Man::new(command.clone());
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    writeln!(page, ".SH COMMANDS")?;
    for command in command.get_subcommands() {
        let about = command.get_about().unwrap_or_default();
        writeln!(page, ".TP\n\\fB{}\\fR\n{about}.", command.get_name())?;
    }
    whole.render_options_section(&mut page)?;
    // Those that a command has for itself are below a heading of their own.
    for command in command.get_subcommands() {
        let command = command.clone().mut_args(|arg| {
            let is_common = arg.get_help_heading().is_none();
            arg.hide(is_common)
        });
        Man::new(command).render_options_section(&mut page)?;
    }
    whole.render_version_section(&mut page)?;
    Ok(page)
}
