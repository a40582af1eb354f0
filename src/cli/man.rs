//! `speclight man`: the manual page of the program and its subcommands.

use std::io::{self, Write};
use std::process::ExitCode;

use clap_mangen::Man;

use super::errors::print_bytes;

/// Writes one roff page for `program` and its subcommands to standard output.
///
/// # Errors
/// If standard output can't be written.
pub fn run(program: clap::Command) -> anyhow::Result<ExitCode> {
    print_bytes(&page(program)?)?;
    Ok(ExitCode::SUCCESS)
}

fn page(program: clap::Command) -> io::Result<Vec<u8>> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let mut text = Vec::new();
    let man = Man::new(program.clone()).manual("User commands");
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    subcommands(&program, "speclight", &mut text)?;
    man.render_extra_section(&mut text)?;
    man.render_version_section(&mut text)?;
    Ok(text)
}

/// Appends a section for each subcommand, with its own subcommands after it.
fn subcommands(command: &clap::Command, path: &str, text: &mut Vec<u8>) -> io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let path = format!("{path} {}", sub.get_name());
        let man = Man::new(sub.clone());
        writeln!(text, ".SH \"{}\"", path.to_uppercase())?;
        for section in [
            Man::render_synopsis_section,
            Man::render_description_section,
            Man::render_options_section,
        ] {
            let mut part = Vec::new();
            section(&man, &mut part)?;
            // Section headings (.SH) become subsections (.SS) of the subcommand.
            let part = String::from_utf8_lossy(&part).replace("\n.SH ", "\n.SS ");
            text.extend(
                part.strip_prefix(".SH ")
                    .map_or(part.clone(), |rest| format!(".SS {rest}"))
                    .bytes(),
            );
        }
        subcommands(sub, &path, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_subcommand_is_in_the_page() {
        let text = String::from_utf8(page(Cli::command()).unwrap()).unwrap();
        for heading in
            ["RUN", "MODELS", "MODELS FETCH", "MODELS VERIFY", "DOCTOR", "COMPLETIONS", "MAN"]
        {
            assert!(text.contains(&format!("\n.SH \"SPECLIGHT {heading}\"\n")), "{heading}");
        }
        assert!(text.contains("\\-\\-drafter") && text.contains("Examples:"), "{text}");
        assert_eq!(text.matches("\n.SH NAME\n").count(), 1);
    }
}
