//! Reads `hardware.toml`: descriptions of machines, for wall-clock bounds.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::document::{self, TextLocation};
use super::{RegistryError, config_folder, own};
use crate::theory::speed::Hardware;

/// Name and text of the built-in list.
const BUILT_IN: (&str, &str) = ("hardware.toml (built in)", include_str!("../../hardware.toml"));

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawList {
    #[serde(default)]
    hardware: BTreeMap<String, RawMachine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMachine {
    name: Option<String>,
    bandwidth: Spanned<f64>,
    flops: Spanned<f64>,
    memory: Option<Spanned<f64>>,
}

/// Returns the machines of the built-in list and of the user's `hardware.toml`.
///
/// They are sorted by the names of their tables. A machine in the user's file replaces the built-in
/// one of the same name.
///
/// # Errors
/// If the user's file can't be read or is invalid (the error names file, line and key), or there is
/// no config folder.
pub fn load_hardware() -> Result<Vec<Hardware>, RegistryError> {
    hardware_in(&config_folder()?)
}

/// Reads the lists as [`load_hardware`] does, with the given config folder.
pub(crate) fn hardware_in(config: &Path) -> Result<Vec<Hardware>, RegistryError> {
    let mut all = parse(BUILT_IN.0, BUILT_IN.1)?;
    if let Some((file, text)) = own(config, "hardware.toml")? {
        all.extend(parse(&file, &text)?);
    }
    Ok(all.into_values().collect())
}

/// Parses a list of machines, keyed by lower-case table name.
fn parse(file: &str, text: &str) -> Result<BTreeMap<String, Hardware>, RegistryError> {
    let raw: RawList = document::read(file, text)?;
    let figure = |key: &str, value: &Spanned<f64>, unit: &str| match *value.get_ref() {
        x if x.is_finite() && x > 0.0 => Ok(x),
        x => {
            let site = TextLocation::from_offset(file, text, value.span().start);
            Err(site.error(format!("`{key}`: {x}: give a positive number of {unit}")))
        }
    };
    let machine = |(table, raw): (String, RawMachine)| {
        let memory =
            raw.memory.as_ref().map(|memory| figure("memory", memory, "bytes")).transpose()?;
        let hardware = Hardware {
            name: raw.name.unwrap_or_else(|| table.clone()),
            bandwidth: figure("bandwidth", &raw.bandwidth, "bytes a second")?,
            flops: figure("flops", &raw.flops, "operations a second")?,
            memory,
        };
        Ok((table.to_lowercase(), hardware))
    };
    raw.hardware.into_iter().map(machine).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "[hardware.mine]\nname = \"Mine\"\nbandwidth = 4e10\nflops = 1_000_000_000_000\nmemory = 8e9\n";

    #[test]
    fn the_built_in_machines_have_the_figures_of_their_makers() {
        let machines = parse(BUILT_IN.0, BUILT_IN.1).unwrap();
        let figures: Vec<(&str, f64, f64, Option<f64>)> = machines
            .iter()
            .map(|(table, m)| (table.as_str(), m.bandwidth, m.flops, m.memory))
            .collect();
        assert_eq!(
            figures,
            [("a100", 2.039e12, 3.12e14, Some(8e10)), ("h100", 3.35e12, 9.894e14, Some(8e10))]
        );
    }

    #[test]
    fn user_machines_add_and_override() {
        let folder = tempfile::tempdir().unwrap();
        let names =
            || hardware_in(folder.path()).unwrap().into_iter().map(|m| m.name).collect::<Vec<_>>();
        assert_eq!(names(), ["A100 SXM 80 GB", "H100 SXM 80 GB"]);
        let own = format!("{ONE}[hardware.A100]\nbandwidth = 1\nflops = 2\n");
        std::fs::write(folder.path().join("hardware.toml"), own).unwrap();
        assert_eq!(names(), ["A100", "H100 SXM 80 GB", "Mine"]);
        let mine = hardware_in(folder.path()).unwrap().pop().unwrap();
        assert_eq!((mine.bandwidth, mine.flops, mine.memory), (4e10, 1e12, Some(8e9)));
        std::fs::remove_file(folder.path().join("hardware.toml")).unwrap();
        std::fs::create_dir(folder.path().join("hardware.toml")).unwrap();
        assert!(
            hardware_in(folder.path())
                .unwrap_err()
                .to_string()
                .contains("hardware.toml: can't be read")
        );
    }

    #[test]
    fn errors_name_file_line_and_key() {
        for (old, new, line, what) in [
            ("4e10", "\"fast\"", 3, "`bandwidth`: invalid type"),
            ("4e10", "0", 3, "`bandwidth`: 0: give a positive number of bytes a second"),
            ("4e10", "-1.0", 3, "`bandwidth`: -1: give"),
            (
                "1_000_000_000_000",
                "nan",
                4,
                "`flops`: NaN: give a positive number of operations a second",
            ),
            ("8e9", "inf", 5, "`memory`: inf"),
            ("memory", "memori", 5, "unknown field `memori`"),
            ("flops", "#", 1, "missing field `flops`"),
            ("[hardware.mine]", "[machine.mine]", 1, "unknown field `machine`"),
        ] {
            let said = parse("own.toml", &ONE.replace(old, new)).unwrap_err().to_string();
            assert!(
                said.starts_with(&format!("own.toml:{line}: "))
                    && said.contains(what)
                    && !said.contains('\n'),
                "{said}"
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_gives_valid_machines_or_an_error(cut in 0usize..110, put in "[\\[\\]{}=\"'\n a-z0-9.é]{0,6}") {
            let at = cut.min(ONE.len());
            let text = format!("{}{put}{}", &ONE[..at], &ONE[at..]);
            match parse("own.toml", &text) {
                Ok(machines) => prop_assert!(machines.values().all(|m| m.bandwidth > 0.0 && m.flops > 0.0)),
                Err(error) => prop_assert!(error.to_string().starts_with("own.toml:"), "{}", error),
            }
        }
    }
}
