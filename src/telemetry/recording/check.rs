//! Checks of entries from a file, before anything else sees them.
//!
//! A recording may come from anywhere. Views and averages index lists by the numbers in a record
//! and allocate by them, so each must be consistent and bounded.

use super::{Entry, OracleEntry};
use crate::draft::DrafterKind;
use crate::telemetry::{
    FluidBound, OracleResult, OracleTree, RankedToken, RunInfo, StageTimes, StepRecord,
    StepSettings, TreeRecord,
};
use crate::theory::light::OracleCurve;

/// Maximum number of nodes of a tree, and of a budget.
const MAX_NODES: usize = 512;
/// Maximum number of nodes listed as drafted but not verified.
const MAX_CUT: usize = 64;
/// Maximum length of a token's text, and of a name, in bytes.
const MAX_TEXT: usize = 4096;
/// Maximum number of points of a curve.
const MAX_CURVE: usize = 4096;
/// Maximum number of drafters, shapes, and members of a mix.
const MAX_NAMES: usize = 64;
/// Maximum number of a step, position, or token count.
const MAX_COUNT: usize = 1 << 32;
/// Maximum value of a time in seconds, and of a mean.
const MAX_AMOUNT: f64 = 1e9;
/// Maximum probability, with room for rounding.
const MAX_PROBABILITY: f64 = 1.000_01;

/// Result of a check: the first problem in a few words.
type Check = Result<(), &'static str>;

/// Checks an entry for internal consistency and bounded sizes.
pub(super) fn check(entry: &Entry) -> Check {
    match entry {
        Entry::Step(record) => step(record),
        Entry::Ready { info, settings } => run_info(info).and_then(|()| step_settings(settings)),
        Entry::Settings { settings } => step_settings(settings),
        Entry::PlainTimed { plain_tokens_per_second, seconds } => {
            amounts(&[*plain_tokens_per_second, *seconds], "a speed is out of range")
        }
        Entry::Cost { points } => {
            within(points.points().len(), MAX_CURVE, "the cost has too many points").and_then(
                |()| {
                    let sound = |&(tokens, seconds): &(usize, f64)| {
                        tokens <= MAX_COUNT && seconds <= MAX_AMOUNT
                    };
                    ensure(points.points().iter().all(sound), "a time of the cost is out of range")
                },
            )
        }
        Entry::Load(load) => {
            let all: Vec<f64> =
                [load.other_cores, load.stolen, load.spread].into_iter().flatten().collect();
            amounts(&all, "the load is out of range")
        }
        Entry::PromptStarted { index, id, tokens, prefill_seconds, .. } => {
            ensure(
                *index < MAX_COUNT && *tokens < MAX_COUNT,
                "a number of the prompt is out of range",
            )?;
            within(id.len(), MAX_TEXT, "the id of the prompt is too long")?;
            amounts(&[*prefill_seconds], "the prefill time is out of range")
        }
        Entry::OracleSearched(OracleEntry { prompt_id, step, result }) => {
            within(prompt_id.len(), MAX_TEXT, "the id of the prompt is too long")?;
            ensure(*step < MAX_COUNT, "the number of the step is out of range")?;
            oracle(result)
        }
        Entry::SearchEvery { steps } => {
            ensure(*steps < MAX_COUNT, "the interval of searches is out of range")
        }
        Entry::Pace { steps_per_second, slow_start } => ensure(
            *steps_per_second != Some(0) && slow_start.is_none_or(|texts| texts < MAX_COUNT),
            "the pace is out of range",
        ),
        Entry::Search { curve, tree, .. } => {
            curve.as_deref().map_or(Ok(()), oracle_curve)?;
            tree.as_deref().map_or(Ok(()), oracle_tree)
        }
        Entry::Fluid(fluid) => fluid_bound(fluid),
        Entry::Loading { done, .. } => {
            ensure(done.is_none_or(f64::is_finite), "the progress is not a number")
        }
        Entry::At { seconds } => {
            ensure((0.0..=MAX_AMOUNT).contains(seconds), "the time is out of range")
        }
        Entry::Caption { text } => within(text.len(), MAX_TEXT, "the caption is too long"),
        Entry::Recording(_)
        | Entry::PromptEnded { .. }
        | Entry::Paused
        | Entry::Resumed
        | Entry::Refused { .. }
        | Entry::Failed { .. }
        | Entry::Finished
        | Entry::End
        | Entry::Other => Ok(()),
    }
}

fn ensure(holds: bool, problem: &'static str) -> Check {
    if holds { Ok(()) } else { Err(problem) }
}

fn within(length: usize, most: usize, problem: &'static str) -> Check {
    ensure(length <= most, problem)
}

/// Checks values that are nonnegative and bounded.
fn amounts(values: &[f64], problem: &'static str) -> Check {
    ensure(values.iter().all(|value| (0.0..=MAX_AMOUNT).contains(value)), problem)
}

fn probabilities(values: &[f64], problem: &'static str) -> Check {
    ensure(values.iter().all(|value| (0.0..=MAX_PROBABILITY).contains(value)), problem)
}

fn run_info(info: &RunInfo) -> Check {
    let names = (info.drafters.iter().map(DrafterKind::name))
        .chain(info.drafter_costs.iter().map(String::as_str));
    let single = [&info.version, &info.model, &info.quantisation, &info.device];
    let single = single.map(String::as_str);
    ensure(
        names.chain(single).all(|name| name.len() <= MAX_TEXT),
        "a name of the run is too long",
    )?;
    let counts = [info.drafters.len(), info.drafter_costs.len(), info.shapes.len()];
    ensure(
        counts.iter().all(|&count| count <= MAX_NAMES),
        "the run has too many drafters or shapes",
    )?;
    ensure(
        info.context < MAX_COUNT && info.vocabulary < MAX_COUNT,
        "a size of the model is out of range",
    )
}

fn step_settings(settings: &StepSettings) -> Check {
    ensure((1..=MAX_NODES).contains(&settings.budget), "the budget is out of range")?;
    let sampling = [f64::from(settings.temperature), f64::from(settings.top_p)];
    amounts(&sampling, "a sampling parameter is out of range")?;
    ensure(settings.top_k.is_none_or(|k| k < MAX_COUNT), "top-k is out of range")?;
    ensure(settings.drafter.name().len() <= MAX_TEXT, "a name in the settings is too long")
}

fn step(record: &StepRecord) -> Check {
    step_settings(&record.settings)?;
    within(record.prompt_id.len(), MAX_TEXT, "the id of the prompt is too long")?;
    ensure(
        record.step < MAX_COUNT && record.position < MAX_COUNT,
        "the number of the step is out of range",
    )?;
    tree(&record.tree)?;
    let count = record.tree.tokens.len();
    // The accepted path runs from the root down, one node at a depth.
    let mut at = 0;
    for &node in &record.path {
        ensure(
            node > 0 && record.tree.parents.get(node).copied().flatten() == Some(at),
            "the accepted path is broken",
        )?;
        at = node;
    }
    ensure(record.accepted == record.path.len(), "the accepted length is not that of the path")?;
    ensure(record.emitted.len() <= record.path.len() + 1, "more tokens are emitted than accepted")?;
    ensure(record.emitted.len() == record.emitted_text.len(), "the emitted tokens lack texts")?;
    within(
        record.entropy.len(),
        record.emitted.len(),
        "more positions have an entropy than tokens",
    )?;
    texts(record.emitted_text.iter().chain([&record.bonus_text]))?;
    ensure(record.bonus_rank < MAX_COUNT, "the rank of the bonus token is out of range")?;
    within(record.overlap.len(), count, "the overlap has too many nodes")?;
    for overlap in &record.overlap {
        ensure(overlap.node < count, "the overlap is of a missing node")?;
        let values = [overlap.p_argmax, overlap.overlap, overlap.overlap_max, overlap.covered];
        probabilities(&values, "an overlap is out of range")?;
    }
    for position in &record.entropy {
        let moments = [
            position.sampled.entropy,
            position.sampled.second,
            position.plain.entropy,
            position.plain.second,
        ];
        amounts(&moments, "an entropy is out of range")?;
        probabilities(
            &[position.p, position.p_plain.unwrap_or(0.0)],
            "a probability is out of range",
        )?;
    }
    if let Some(miss) = &record.miss {
        ensure((1..=MAX_NODES).contains(&miss.depth), "the depth of the miss is out of range")?;
        within(miss.text.len(), MAX_TEXT, "the text of the miss is too long")?;
        let values = [miss.p, miss.p_plain.unwrap_or(0.0), miss.pi, miss.q.unwrap_or(0.0)];
        probabilities(&values, "a probability of the miss is out of range")?;
        ensure(
            miss.rank < MAX_COUNT && miss.draft_rank.is_none_or(|r| r < MAX_COUNT),
            "a rank of the miss is out of range",
        )?;
        ranked_tokens(&miss.target_best)?;
        ranked_tokens(&miss.draft_best)?;
    }
    if let Some(rule) = &record.rule_ceiling {
        within(rule.drafts, MAX_NODES, "the rule's ceiling has too many drafts")?;
        amounts(&[rule.ceiling, rule.accepted], "the rule's ceiling is out of range")?;
    }
    if let Some(choice) = &record.choice {
        within(choice.drafted.max(choice.kept), MAX_COUNT, "the choice is out of range")?;
        let values = [choice.expected, choice.tokens_per_second, choice.plain_tokens_per_second];
        amounts(&values, "the choice is out of range")?;
    }
    within(record.notice.as_ref().map_or(0, String::len), MAX_TEXT, "the notice is too long")?;
    let StageTimes { draft, verify, other } = record.time;
    amounts(&[draft, verify, other], "a time is out of range")?;
    let c = record.ceilings;
    let known = [c.published, c.renewal, c.renewal_tuned, c.fluid, c.fluid_at_mean, c.fluid_floor];
    let known: Vec<f64> = known.into_iter().flatten().collect();
    ensure(known.iter().all(|value| value.abs() <= MAX_AMOUNT), "a ceiling is out of range")?;
    amounts(&[record.mu, record.mu2, record.expected_accepted, c.batch], "a mean is out of range")?;
    amounts(
        &[record.capacity.unwrap_or(0.0), record.bonus_q.unwrap_or(0.0)],
        "a mean is out of range",
    )?;
    if let Some(reached) = &record.reached {
        within(reached.steps, MAX_COUNT, "the number of steps is out of range")?;
        let intervals = [reached.expected, reached.fluid, reached.share].into_iter().flatten();
        let ends: Vec<f64> = intervals.flat_map(|interval| [interval.low, interval.high]).collect();
        amounts(&ends, "an interval is out of range")?;
        amounts(
            &[reached.expected_mean.unwrap_or(0.0), reached.share_mean.unwrap_or(0.0)],
            "a mean is out of range",
        )?;
    }
    Ok(())
}

fn tree(tree: &TreeRecord) -> Check {
    let count = tree.tokens.len();
    ensure((1..=MAX_NODES).contains(&count), "the tree has no node, or too many")?;
    let lists = [
        tree.text.len(),
        tree.parents.len(),
        tree.depth.len(),
        tree.p.len(),
        tree.p_plain.len(),
        tree.q.len(),
        tree.rank.len(),
    ];
    ensure(lists.iter().all(|&length| length == count), "the lists of the tree differ in length")?;
    let optional = [tree.accept.len(), tree.calibrated.len(), tree.origin.len()];
    ensure(
        optional.iter().all(|&length| length == 0 || length == count),
        "the lists of the tree differ in length",
    )?;
    ensure(
        tree.parents[0].is_none() && tree.depth[0] == 0,
        "the tree does not start with its root",
    )?;
    for node in 1..count {
        let parent = tree.parents[node].filter(|&parent| parent < node);
        ensure(
            parent.is_some_and(|parent| tree.depth[node] == tree.depth[parent] + 1),
            "a node's parent is not before it",
        )?;
    }
    texts(&tree.text)?;
    within(tree.members.len(), MAX_NAMES, "the tree has too many members")?;
    texts(&tree.members)?;
    ensure(
        tree.origin.iter().flatten().all(|&origin| origin < tree.members.len()),
        "a node is of a missing drafter",
    )?;
    ensure(tree.rank.iter().all(|&rank| rank < MAX_COUNT), "a rank is out of range")?;
    for list in [&tree.p, &tree.p_plain, &tree.q, &tree.accept, &tree.calibrated] {
        probabilities(list, "a probability of the tree is out of range")?;
    }
    within(tree.cut.len(), MAX_CUT, "too many nodes were cut")?;
    for (i, cut) in tree.cut.iter().enumerate() {
        ensure(cut.parent < count + i, "the parent of a cut node is not before it")?;
        within(cut.text.len(), MAX_TEXT, "a text is too long")?;
        probabilities(&[cut.q], "a probability of the tree is out of range")?;
    }
    Ok(())
}

fn texts<'a>(all: impl IntoIterator<Item = &'a String>) -> Check {
    ensure(all.into_iter().all(|text| text.len() <= MAX_TEXT), "a text is too long")
}

fn oracle(result: &OracleResult) -> Check {
    ensure(result.passes < MAX_COUNT, "the number of passes is out of range")?;
    let values = [
        result.oracle_lower,
        result.oracle_upper,
        result.oracle_floor,
        result.drafter_best.unwrap_or(0.0),
    ];
    amounts(&values, "a result of the oracle search is out of range")
}

fn ranked_tokens(tokens: &[RankedToken]) -> Check {
    within(tokens.len(), MAX_NAMES, "the miss lists too many tokens")?;
    texts(tokens.iter().map(|token| &token.text))?;
    ensure(
        tokens.iter().all(|token| (0.0..=MAX_PROBABILITY).contains(&token.probability)),
        "a probability of the miss is out of range",
    )
}

fn oracle_tree(tree: &OracleTree) -> Check {
    let count = tree.tokens.len();
    within(count, MAX_NODES, "the oracle's tree has too many nodes")?;
    ensure(
        [tree.text.len(), tree.parents.len(), tree.p.len()].iter().all(|&length| length == count),
        "the lists of the oracle's tree differ in length",
    )?;
    ensure(
        tree.parents.iter().enumerate().all(|(node, &parent)| parent < node.max(1)),
        "a node's parent is not before it in the oracle's tree",
    )?;
    texts(&tree.text)?;
    probabilities(&tree.p, "a probability of the oracle's tree is out of range")
}

fn oracle_curve(curve: &OracleCurve) -> Check {
    ensure(
        (1..=MAX_CURVE).contains(&curve.mass.len()),
        "the oracle's curve has no point, or too many",
    )?;
    amounts(&curve.mass, "the oracle's curve is out of range")?;
    amounts(&[curve.unknown], "the oracle's curve is out of range")
}

fn fluid_bound(fluid: &FluidBound) -> Check {
    ensure(fluid.positions < MAX_COUNT, "the number of positions is out of range")?;
    within(
        fluid.curve.len().max(fluid.kinds.len()),
        MAX_CURVE,
        "the fluid bound has too many points",
    )?;
    amounts(&fluid.curve, "the fluid bound is out of range")?;
    for kind in &fluid.kinds {
        amounts(
            &[kind.entropy_from, kind.share, kind.mu, kind.fluid.unwrap_or(0.0)],
            "an entropy class is out of range",
        )?;
    }
    Ok(())
}
