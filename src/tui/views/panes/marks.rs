//! Definitions sheet: marks of the gauge, losses, and causes of misses, with assumptions and
//! sources.

use super::Pen;
use super::help::{SheetLine, sheet};
use crate::tui::theme::{Glyphs, Role};

/// Mark of the gauge, with its definition.
struct Mark {
    name: &'static str,
    role: Role,
    definition: &'static str,
    assumes: &'static str,
    source: &'static str,
}

/// Marks of the gauge, from the highest down.
const MARKS: &[Mark] = &[
    Mark {
        name: "B",
        role: Role::GaugeCeiling,
        definition: "budget: tokens of one verify pass, the pending one included. At most B - 1 drafted tokens are accepted; with the bonus, B are emitted",
        assumes: "nothing",
        source: "docs/bounds.md, Setting",
    },
    Mark {
        name: "published",
        role: Role::GaugeUnknown,
        definition: "(mu + mu2) ln(B) / mu^2 + O(1). The constant is not given, so only the shape of the curve is known",
        assumes: "i.i.d. distributions along the tree, a drafter that knows them, verify time constant up to B, free drafting",
        source: "Pankratov & Alistarh, Speculative Decoding Speed-of-Light, EACL 2026 (arXiv 2512.11718), abstract",
    },
    Mark {
        name: "renewal",
        role: Role::GaugeCeiling,
        definition: "ln(P)/mu + mu2/mu^2, P = B - 1: a closed form with its constant",
        assumes: "distributions independent along the tree; any drafter",
        source: "docs/bounds.md, The renewal form (Lorden's inequality)",
    },
    Mark {
        name: "tuned",
        role: Role::GaugeCeiling,
        definition: "(ln(P mu) + 1)/mu + mu2/mu^2 - 1: the renewal form at its best t, never looser",
        assumes: "as renewal, and P mu >= 1",
        source: "docs/bounds.md, The renewal form",
    },
    Mark {
        name: "fluid",
        role: Role::GaugeFluid,
        definition: "min over t of M(t) + (P - N(t)) e^-t over the pool of distributions seen so far: upper bound on any drafter's mean, tight for many nodes",
        assumes: "distributions along the tree are sampled independently from the pool; any drafter",
        source: "docs/bounds.md, The fluid bound",
    },
    Mark {
        name: "oracle",
        role: Role::GaugeOracle,
        definition: "the P most probable nodes after this context, found by the target itself, outside the measured time. A band until the search converges: mass found, and upper bound for any tree",
        assumes: "nothing; exact for this context",
        source: "docs/bounds.md, The ceilings on one ruler",
    },
    Mark {
        name: "best",
        role: Role::GaugeBest,
        definition: "drafter's best: best tree of P nodes under the drafter's q, valued under p, or the drafted tree if that has a higher value",
        assumes: "this drafter",
        source: "docs/bounds.md, The ceilings on one ruler",
    },
    Mark {
        name: "E[X|T]",
        role: Role::GaugeExpected,
        definition: "sum of pi over the drafted tree: its expected accepted length. Exact, with less variance than accepted",
        assumes: "nothing",
        source: "docs/bounds.md, Setting",
    },
    Mark {
        name: "accepted",
        role: Role::GaugeAccepted,
        definition: "accepted drafted tokens, without the bonus; mean over the steps at these settings",
        assumes: "nothing",
        source: "counted",
    },
];

/// Parts of the speed-of-light bar.
const LIGHT: [(&str, Role, &str); 10] = [
    (
        "light",
        Role::Light,
        "speed of light: tokens per second of a free, perfect drafter with the best size of each pass on this machine",
    ),
    ("reached", Role::LightReached, "tokens emitted over the time spent in steps"),
    ("drafting time", Role::LightDrafting, "time spent drafting"),
    ("other time", Role::LightOverhead, "sampling, records, and the rest of the step"),
    (
        "knowledge",
        Role::LightKnowledge,
        "imperfect knowledge of the target: oracle trees at the verified sizes, less the drafter's best",
    ),
    ("shape", Role::LightShape, "the drafter's best trees of their size, less the drafted ones"),
    ("budget", Role::LightBudget, "the best size for each context, less the verified sizes"),
    (
        "luck",
        Role::LightLuck,
        "expected accepted length less the actual one; of either sign, 0 in the long run",
    ),
    ("plain", Role::Base, "plain decoding of the same model, measured on this machine"),
    ("free drafting", Role::LightDrafting, "speed if the drafter took no time"),
];

/// Losses, from the highest mark down.
const LOSSES: [(&str, Role, &str); 6] = [
    (
        "budget",
        Role::LossBudget,
        "from B - 1 to fluid: out of reach of any drafter on this text with B tokens per pass",
    ),
    (
        "context",
        Role::LossContext,
        "from fluid to the oracle tree: these contexts against independent ones; negative if they are easier",
    ),
    (
        "knowledge",
        Role::LossKnowledge,
        "from the oracle tree to the drafter's best: the drafter's imperfect knowledge of the target",
    ),
    (
        "shape",
        Role::LossShape,
        "from the drafter's best to E[X|T]: other trees of this drafter had a higher value",
    ),
    (
        "unsplit",
        Role::LossKnowledge,
        "context, knowledge, and shape together, where no oracle search is available",
    ),
    ("luck", Role::LossLuck, "from E[X|T] to accepted: sampling; 0 in the long run"),
];

/// Numbers of the verification rule.
const RULES: [(&str, &str); 3] = [
    (
        "argmax",
        "p(argmax q): acceptance rate of the drafter's best token under sample-and-match; mean over root and accepted nodes",
    ),
    (
        "sampled",
        "sum of min(p, q): acceptance rate of one token sampled from q; two bounds where q is partly known",
    ),
    (
        "first token",
        "P(accepted >= 1) of sampled drafts, and its upper bound for any lossless rule (optimal transport, Hu et al. 2025)",
    ),
];

/// Returns the meaning of a loss by its name.
pub fn meaning(name: &str) -> Option<&'static str> {
    LOSSES.iter().find(|l| l.0 == name).map(|l| l.2)
}

/// Draws the definitions over the screen; returns its maximum scroll offset in lines.
pub fn marks(scroll: u16, pen: &mut Pen) -> usize {
    let lines = lines(pen.glyphs());
    sheet("marks", lines, scroll, pen)
}

fn lines(glyphs: &Glyphs) -> Vec<SheetLine> {
    let entry =
        |name: &str, role: Role, words: String| SheetLine::Entry(name.to_owned(), role, words);
    let mut out = vec![SheetLine::Heading(
        "bar, in tokens per second: its parts add up to the speed of light",
    )];
    out.extend(LIGHT.iter().map(|(name, role, words)| entry(name, *role, (*words).to_owned())));
    out.push(entry(
        "",
        Role::Label,
        "assumes that contexts at step starts represent those of a perfect drafter, and t(B) as measured here. Source: docs/bounds.md, The speed of light"
            .to_owned(),
    ));
    out.extend([
        SheetLine::Empty,
        SheetLine::Heading("marks of the gauge, in drafted tokens per step"),
    ]);
    for mark in MARKS {
        out.push(entry(mark.name, mark.role, mark.definition.to_owned()));
        out.push(entry(
            "",
            Role::Label,
            format!("assumes {}. Source: {}", mark.assumes, mark.source),
        ));
    }
    out.push(entry(
        glyphs.band,
        Role::GaugeExpected,
        "95% interval of E[X|T] and of fluid: bootstrap over steps, joint for their ratio; shown from 256 steps on".to_owned(),
    ));
    out.extend([
        SheetLine::Empty,
        SheetLine::Heading("losses: they add up to B - 1 minus accepted"),
    ]);
    out.extend(LOSSES.iter().map(|(name, role, words)| entry(name, *role, (*words).to_owned())));
    out.extend([
        SheetLine::Empty,
        SheetLine::Heading("verification rules: acceptance of one token, and its upper bound"),
    ]);
    for (name, words) in RULES {
        out.push(entry(name, Role::Value, words.to_owned()));
    }
    out.extend([
        SheetLine::Empty,
        SheetLine::Heading("misses: why the tree lacked the sampled token"),
    ]);
    for (name, words) in [
        ("knowledge", "the drafter did not propose it"),
        ("vocabulary", "the drafter can't propose it: it is outside the draft vocabulary"),
        ("ranking", "the drafter proposed it, at a worse rank than the target's"),
        (
            "budget",
            "the drafter ranked it no worse than the target does, but budget or shape left it out; or the drafter was not queried there",
        ),
        ("unlucky", "sampled from the tail: an oracle with the same budget misses it too"),
    ] {
        out.push(entry(name, Role::Value, words.to_owned()));
    }
    out
}
