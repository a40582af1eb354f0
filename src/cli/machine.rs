//! Terminal and CPU findings for `speclight doctor`.

use super::finding::Finding;
use crate::model::cpu::{Kernel, cpu_features, cpu_name};

/// Returns the findings about terminal, CPU and kernel.
pub(super) fn findings() -> Vec<Finding> {
    vec![terminal(), cpu(), kernel()]
}

#[cfg(feature = "tui")]
fn terminal() -> Finding {
    use std::io::IsTerminal;

    use crate::tui::theme::TerminalAbilities;

    let var = |name: &str| std::env::var(name).ok();
    let abilities = TerminalAbilities::from_env(false, None, var);
    let colors = abilities.depth.describe();
    let characters = if abilities.ascii { "ASCII" } else { "UTF-8" };
    let term = var("TERM")
        .filter(|term| !term.is_empty())
        .map_or_else(|| "no TERM".to_owned(), |term| format!("TERM={term}"));
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let said = format!(
            "{term}; input or output is not a terminal, so the monitor can't start: use one, or `speclight run`"
        );
        return Finding::warn("terminal", said);
    }
    let size = crossterm::terminal::size().ok();
    let said = size
        .map_or_else(|| "unknown size".to_owned(), |(width, height)| format!("{width}x{height}"));
    let said = format!("{said}, {term}, {colors}, {characters}");
    match size {
        Some((width, height)) if width < 40 || height < 12 => Finding::warn(
            "terminal",
            format!("{said}; the monitor needs at least 40x12: enlarge the window"),
        ),
        _ if term == "TERM=dumb" => Finding::warn(
            "terminal",
            format!("{said}; the monitor can't draw on it: use `speclight run`"),
        ),
        _ if abilities.ascii => Finding::warn(
            "terminal",
            format!(
                "{said}; the locale is not UTF-8, so lines are drawn in ASCII: set LANG, for example to C.UTF-8"
            ),
        ),
        _ => Finding::ok("terminal", said),
    }
}

#[cfg(not(feature = "tui"))]
fn terminal() -> Finding {
    Finding::warn(
        "terminal",
        "this build has no monitor: use `speclight run`, or build with the tui feature",
    )
}

fn cpu() -> Finding {
    let mut said = cpu_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let features: Vec<&str> =
        cpu_features().iter().filter(|(_, here)| *here).map(|(name, _)| *name).collect();
    said.push_str(&format!(
        " ({})",
        if features.is_empty() { "no known vector unit".to_owned() } else { features.join(", ") }
    ));
    let needed: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["avx2", "fma", "f16c"],
        "aarch64" => &["neon"],
        _ => &["a supported vector unit"],
    };
    let missing: Vec<&str> =
        needed.iter().filter(|name| !features.contains(name)).copied().collect();
    if missing.is_empty() {
        return Finding::ok("cpu", said);
    }
    Finding::warn(
        "cpu",
        format!("{said}; runs slowly without {}: use a newer CPU or a GPU", missing.join(", ")),
    )
}

fn kernel() -> Finding {
    let kernel = Kernel::detect().name;
    if kernel == "scalar" {
        return Finding::warn(
            "kernel",
            "scalar: no vector kernel for this CPU, so models run slowly: use a newer CPU or a GPU",
        );
    }
    Finding::ok("kernel", format!("{kernel}; all kernels give bit-identical results"))
}
