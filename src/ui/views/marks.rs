//! The marks of the gauge, the losses between them and the causes of misses, each with definition, assumptions and source.

use super::Pen;
use super::help::{Line, sheet};
use crate::theme::{Glyphs, Role};

/// A mark of the gauge.
struct Mark {
    name: &'static str,
    role: Role,
    definition: &'static str,
    assumes: &'static str,
    source: &'static str,
}

/// The marks, from the highest down.
const MARKS: &[Mark] = &[
    Mark {
        name: "B",
        role: Role::GaugeCeiling,
        definition: "the budget: tokens of one verify pass, the pending one included. At most B - 1 drafted tokens are accepted, and with the bonus B come out",
        assumes: "nothing",
        source: "docs/bounds.md, Setting",
    },
    Mark {
        name: "published",
        role: Role::GaugeUnknown,
        definition: "(mu + mu2) ln(B) / mu^2 + O(1). The constant is not given: a shape, no number to reach",
        assumes: "laws independent and alike along the tree, a drafter that knows them, passes that take as long at B as at 1, free drafting",
        source: "Pankratov & Alistarh, Speculative Decoding Speed-of-Light, EACL 2026 (arXiv 2512.11718), abstract",
    },
    Mark {
        name: "renewal",
        role: Role::GaugeCeiling,
        definition: "ln(P)/mu + mu2/mu^2, P = B - 1: a closed form with its constant",
        assumes: "laws independent along the tree; any drafter",
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
        definition: "min over t of M(t) + (P - N(t)) e^-t over the pool of the laws seen so far: the best mean of any drafter, tight for many nodes",
        assumes: "laws along the tree are independent draws from the pool; any drafter",
        source: "docs/bounds.md, The fluid bound",
    },
    Mark {
        name: "oracle",
        role: Role::GaugeOracle,
        definition: "the P most probable nodes after this very context, found by the target itself, off the measured time. While it is refined, a band: what is found, and what no tree exceeds",
        assumes: "nothing; exact for this context",
        source: "docs/bounds.md, The ceilings on one ruler",
    },
    Mark {
        name: "best",
        role: Role::GaugeBest,
        definition: "drafter's best: the best tree of P nodes under the drafter's own q, valued under p, or the drafted one where that is worth more",
        assumes: "this drafter",
        source: "docs/bounds.md, The ceilings on one ruler",
    },
    Mark {
        name: "E[X|T]",
        role: Role::GaugeExpected,
        definition: "sum of pi over the drafted tree: what it was worth before the draw. Exact, and steadier than accepted",
        assumes: "nothing",
        source: "docs/bounds.md, Setting",
    },
    Mark {
        name: "accepted",
        role: Role::GaugeAccepted,
        definition: "drafted tokens that were accepted, the bonus not counted; the mean over steps at these settings",
        assumes: "nothing",
        source: "counted",
    },
];

/// The parts of the bar against the speed of light.
const LIGHT: [(&str, Role, &str); 10] = [
    (
        "light",
        Role::Light,
        "speed of light: tokens per second of a perfect drafter that takes no time, with the best size of each pass on this machine",
    ),
    ("reached", Role::LightReached, "tokens put out over the time spent in steps"),
    ("drafting time", Role::LightDrafting, "seconds of the drafter"),
    ("other time", Role::LightOverhead, "sampling, records and the rest of the time"),
    (
        "not known",
        Role::LightKnowledge,
        "what the drafter doesn't know: trees of perfect knowledge at the sizes verified, less the drafter's best",
    ),
    ("shape", Role::LightShape, "the drafter's best trees of their size, less those drafted"),
    ("budget", Role::LightBudget, "the best size for each context, less the sizes verified"),
    ("luck", Role::LightLuck, "what the trees were worth, less what was drawn; of either sign, 0 in the long run"),
    ("plain", Role::Base, "plain decoding of the same model, measured on this machine"),
    ("free drafting", Role::LightDrafting, "what would be reached if the drafter took no time"),
];

/// The losses, from the highest mark down.
const LOSSES: [(&str, Role, &str); 6] = [
    ("budget", Role::LossBudget, "from B - 1 to fluid: what no drafter gets from this text with B tokens a pass"),
    (
        "context",
        Role::LossContext,
        "from fluid to the oracle tree: these contexts against independent ones; below 0 where they are easier",
    ),
    (
        "knowledge",
        Role::LossKnowledge,
        "from the oracle tree to the drafter's best: what the drafter does not know of the target",
    ),
    ("shape", Role::LossShape, "from the drafter's best to E[X|T]: another tree of the same drafter was worth more"),
    ("unsplit", Role::LossKnowledge, "context, knowledge and shape together, where the oracle has not looked"),
    ("luck", Role::LossLuck, "from E[X|T] to accepted: the draw; 0 in the long run"),
];

/// Numbers of the verification rule.
const RULES: [(&str, &str); 3] = [
    ("argmax", "p(argmax q): acceptance of the drafter's best token by sample-and-match, as a mean over the nodes of the walk"),
    ("sampled", "sum of min(p, q): acceptance of one token that is sampled from q; two bounds where q is known in part"),
    (
        "first token",
        "P(accepted >= 1) of sampled drafts, and what no lossless rule exceeds there (optimal transport, Hu et al. 2025)",
    ),
];

/// What a loss is, by its name.
pub fn meaning(name: &str) -> Option<&'static str> {
    LOSSES.iter().find(|l| l.0 == name).map(|l| l.2)
}

/// Draws the definitions over the screen; says how far they can be scrolled.
pub fn marks(scroll: u16, pen: &mut Pen) -> usize {
    sheet("marks", lines, scroll, pen)
}

fn lines(glyphs: &Glyphs) -> Vec<Line> {
    let entry = |name: &str, role: Role, words: String| Line::Entry(name.to_owned(), role, words);
    let mut out = vec![Line::Heading("bar, in tokens per second: its parts add up to the speed of light")];
    out.extend(LIGHT.iter().map(|(name, role, words)| entry(name, *role, (*words).to_owned())));
    out.push(entry(
        "",
        Role::Label,
        "assumes that the contexts where steps begin stand for those of a perfect drafter, and t(B) as measured here. Source: docs/bounds.md"
            .to_owned(),
    ));
    out.extend([Line::Empty, Line::Heading("marks of the gauge, in drafted tokens per step")]);
    for mark in MARKS {
        out.push(entry(mark.name, mark.role, mark.definition.to_owned()));
        out.push(entry("", Role::Label, format!("assumes {}. Source: {}", mark.assumes, mark.source)));
    }
    out.push(entry(
        glyphs.band,
        Role::GaugeExpected,
        "95% interval of E[X|T] and of fluid: bootstrap over steps, the share's with both together; none while it is too early (256 steps)"
            .to_owned(),
    ));
    out.extend([Line::Empty, Line::Heading("losses: they add up to B - 1 less accepted")]);
    out.extend(LOSSES.iter().map(|(name, role, words)| entry(name, *role, (*words).to_owned())));
    out.extend([Line::Empty, Line::Heading("rules: what is accepted of one token, and at most")]);
    for (name, words) in RULES {
        out.push(entry(name, Role::Value, words.to_owned()));
    }
    out.extend([Line::Empty, Line::Heading("misses: why the tree did not hold the token drawn")]);
    for (name, words) in [
        ("knowledge", "the drafter had not proposed it"),
        ("ranking", "the drafter had proposed it, at a worse rank than the target's"),
        (
            "budget",
            "the drafter ranked it no worse than the target does, and budget or shape left it out; or nothing was asked there",
        ),
        ("unlucky", "drawn from the tail: an oracle of the same budget misses it too"),
    ] {
        out.push(entry(name, Role::Value, words.to_owned()));
    }
    out
}
