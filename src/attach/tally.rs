//! Figures of a probe, an import or a watched server: functions of steps, distributions and
//! counters.

use super::bracket::OmittedSampling;
use super::earlier::EarlierProbe;
use super::estimate::{Brackets, Distributions, Estimates, Scored};
use super::{Counters, Event, Identity, Step, Window};
use crate::cache_file::seconds_since_1970;
use crate::theory::intervals::{Estimate, Interval};
use crate::theory::light::{best_fixed, fastest_reading_pass};

/// Steps of one size from which on their mean time enters a ceiling.
const FEWEST_PASSES: usize = 4;

/// Passes of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PassTime {
    /// Tokens of the pass, the root included.
    pub tokens: usize,
    /// Steps with such a pass.
    pub passes: usize,
    /// Mean seconds of these steps, drafting included.
    pub seconds: f64,
}

/// Ceiling on decoding speed from step times, and its reached fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerCeiling {
    /// Ceiling in tokens per second.
    ///
    /// For independent positions; for greedy text it is the reading speed.
    pub ceiling: Estimate,
    /// Pass size that attains it.
    pub best_budget: usize,
    /// Fraction of the ceiling that was reached.
    pub share: Estimate,
}

/// Figures over all that was seen; `None` where they can't be known.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Number of texts that ended.
    pub texts: usize,
    /// Tokens generated, those outside of steps included.
    pub tokens: Option<f64>,
    /// Decode steps, with a draft or without.
    pub steps: Option<f64>,
    /// Steps that are certain to be single ones.
    pub exact_steps: usize,
    /// Steps with a draft.
    pub drafted_steps: Option<f64>,
    /// Drafted tokens over all steps, accepted or rejected.
    pub drafted: Option<f64>,
    /// Accepted drafted tokens over all steps, bonus tokens excluded.
    pub accepted: Option<f64>,
    /// Accepted drafted tokens per step; of a server that is only watched, per drafted step.
    pub accepted_mean: Option<f64>,
    /// Accepted drafted tokens per drafted step.
    pub accepted_per_drafted_step: Option<f64>,
    /// Drafted tokens per drafted step.
    pub drafted_mean: Option<f64>,
    /// Tokens per step, over all steps.
    pub tokens_per_step: Option<f64>,
    /// Share of steps without a draft.
    pub undrafted_share: Option<f64>,
    /// Acceptance rate at each depth, given that it was reached.
    pub acceptance_by_depth: Vec<f64>,
    /// True if these rates are lower bounds.
    pub depth_is_lower_bound: bool,
    /// B: tokens of a verify pass, the root included.
    pub budget: Option<usize>,
    /// True if the text is greedy: the ceiling is B, and estimates are a reference.
    pub greedy: bool,
    /// Estimates for the text as it was sampled.
    pub estimates: Option<Estimates>,
    /// Estimates for the same contexts at temperature 1, where the text is greedy.
    pub reference: Option<Estimates>,
    /// Brackets from the listed tokens alone, of the estimates or of the reference.
    pub brackets: Option<Brackets>,
    /// Figures of a probe of an earlier run, of other text; apart from all others.
    pub earlier: Option<EarlierProbe>,
    /// Mean seconds of a step.
    pub step_seconds: Option<f64>,
    /// Tokens per second of steps; of a server that is watched, of all its requests.
    pub tokens_per_second: Option<f64>,
    /// Times of passes by size.
    pub pass_times: Vec<PassTime>,
    /// Ceiling on decoding speed, from the times of passes.
    pub light: Option<ServerCeiling>,
    /// Ready-made means of the engine, by its own definition.
    pub own_tokens_per_step: Option<f64>,
}

impl Summary {
    /// Returns the figures of a probe that has just ended, for the cache.
    ///
    /// `None` without estimates and intervals.
    pub fn to_earlier_probe(&self, temperature: f64, top_p: f64) -> Option<EarlierProbe> {
        let found = self.estimates.as_ref()?;
        found.mu?.interval?;
        Some(EarlierProbe {
            ended: seconds_since_1970(),
            tokens: self.tokens.unwrap_or(0.0) as u64,
            texts: self.texts,
            temperature,
            top_p,
            budget: self.budget,
            estimates: found.clone(),
        })
    }
}

/// Sums over the steps of texts.
#[derive(Clone, Debug)]
pub struct Tally {
    temperature: f64,
    budget: Option<usize>,
    texts: usize,
    tokens: usize,
    steps: Vec<Step>,
    /// Totals that come without steps.
    totals: Counters,
    distributions: Distributions,
    /// First reading of a server that is watched, moved on where it restarts.
    window: Option<Window>,
    earlier: Option<EarlierProbe>,
}

impl Tally {
    /// Nothing yet, of a server with this identity and of text at this temperature.
    pub fn new(identity: &Identity, temperature: f64) -> Tally {
        Tally {
            temperature,
            budget: identity.budget,
            texts: 0,
            tokens: 0,
            steps: Vec::new(),
            totals: Counters::default(),
            distributions: Distributions::new(identity.vocabulary, OmittedSampling::NONE),
            window: None,
            earlier: None,
        }
    }

    /// Same, of text sampled with parameters that its distributions are reported without.
    pub fn omitting(mut self, omitted: OmittedSampling, identity: &Identity) -> Tally {
        self.distributions = Distributions::new(identity.vocabulary, omitted);
        self
    }

    /// Same, beside the figures of an earlier probe.
    pub fn beside(mut self, earlier: Option<EarlierProbe>) -> Tally {
        self.earlier = earlier;
        self
    }

    /// Takes an event in.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Step(step) => self.steps.push(step.clone()),
            Event::Scored(scored) => self.score(scored),
            Event::Budget(budget) => self.budget = Some((*budget).max(self.budget.unwrap_or(0))),
            Event::TextEnded { tokens } => {
                self.texts += 1;
                self.tokens += tokens;
            }
            Event::Window(window) => self.window = Some((**window).clone()),
            _ => {}
        }
    }

    /// Takes the distributions of one text in.
    pub fn score(&mut self, scored: &Scored) {
        self.distributions.add(scored);
    }

    /// Adds totals that come without steps, as of a histogram.
    pub fn add_totals(&mut self, more: &Counters) {
        let add = |sum: &mut Option<f64>, more: Option<f64>| {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0.0) + more);
            }
        };
        let sums = &mut self.totals;
        add(&mut sums.drafted_steps, more.drafted_steps);
        add(&mut sums.drafted, more.drafted);
        add(&mut sums.accepted, more.accepted);
        add(&mut sums.steps, more.steps);
        add(&mut sums.step_tokens, more.step_tokens);
        add(&mut sums.step_seconds, more.step_seconds);
        add(&mut sums.tokens, more.tokens);
        for (list, more) in [
            (&mut sums.accepted_by_depth, &more.accepted_by_depth),
            (&mut sums.drafted_by_depth, &more.drafted_by_depth),
        ] {
            list.resize(list.len().max(more.len()), 0.0);
            list.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
        sums.own = more.own.or(sums.own);
        self.budget = self.budget.max(more.budget);
    }

    /// Returns the steps taken in so far.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// B, root included: the server's own figure, or the largest draft that was seen.
    fn budget(&self) -> Option<usize> {
        let seen =
            self.steps.iter().filter_map(|step| step.drafted).max().filter(|drafted| *drafted > 0);
        self.budget.max(seen.map(|drafted| drafted + 1))
    }

    /// Figures over all events so far.
    pub fn summary(&self) -> Summary {
        if let Some(window) = &self.window {
            return self.watched(window);
        }
        let counted = counters(&self.steps);
        let mut all = Tally { steps: Vec::new(), ..self.clone() };
        all.add_totals(&counted);
        let budget = self.budget();
        let figures = all.totals.since(&Counters::default(), 0.0);
        let known = !self.steps.is_empty() && self.steps.iter().all(|step| step.accepted.is_some());
        let accepted_mean = match figures.accepted.zip(figures.steps.filter(|steps| *steps > 0.0)) {
            Some((accepted, steps)) => Some(accepted / steps),
            None => figures.accepted_mean,
        };
        let mean_drafted = if self.steps.iter().all(|step| step.drafted.is_some()) {
            figures
                .drafted
                .zip(figures.steps.filter(|steps| *steps > 0.0))
                .map(|(drafted, steps)| drafted / steps)
        } else {
            None
        };
        let greedy = self.temperature <= 0.0;
        let found = (self.distributions.positions() > 0 || self.distributions.marks() > 0)
            .then(|| self.distributions.estimates(budget, mean_drafted));
        let (estimates, reference) = if greedy { (None, found) } else { (found, None) };
        let own = all.totals.own.map(|own| own.tokens_per_step);
        let pass_times = pass_times(&self.steps);
        let timed: (f64, f64) =
            self.steps.iter().fold((0.0, 0.0), |(tokens, seconds), step| match step.seconds {
                Some(more) => (tokens + step.emitted as f64, seconds + more),
                None => (tokens, seconds),
            });
        let speed = (timed.1 > 0.0).then(|| timed.0 / timed.1);
        let light = speed.and_then(|speed| {
            light(&pass_times, speed, greedy, &self.distributions, estimates.as_ref())
        });
        Summary {
            texts: self.texts,
            tokens: if self.tokens > 0 {
                Some(self.tokens as f64)
            } else {
                figures_tokens(&all.totals)
            },
            steps: figures.steps,
            exact_steps: self.steps.iter().filter(|step| step.exact).count(),
            drafted_steps: figures.drafted_steps,
            drafted: figures.drafted,
            accepted: figures.accepted,
            accepted_mean: accepted_mean.filter(|_| known || self.steps.is_empty()),
            accepted_per_drafted_step: figures.accepted_mean,
            drafted_mean: figures.drafted_mean,
            tokens_per_step: figures.tokens_per_step.or(own),
            undrafted_share: figures.undrafted_share,
            acceptance_by_depth: figures.acceptance_by_depth,
            depth_is_lower_bound: figures.depth_is_lower_bound,
            budget,
            greedy,
            estimates,
            reference,
            brackets: self.distributions.brackets(budget, mean_drafted),
            earlier: self.earlier.clone(),
            step_seconds: figures.step_seconds,
            tokens_per_second: speed,
            pass_times,
            light,
            own_tokens_per_step: own,
        }
    }

    /// Figures of a server that is watched: nothing but its counters is known.
    fn watched(&self, window: &Window) -> Summary {
        Summary {
            tokens: window.tokens_per_second.map(|rate| (rate * window.seconds).round()),
            steps: window.steps,
            drafted_steps: window.drafted_steps,
            drafted: window.drafted,
            accepted: window.accepted,
            accepted_mean: window.accepted_mean,
            accepted_per_drafted_step: window.accepted_mean,
            drafted_mean: window.drafted_mean,
            tokens_per_step: window.tokens_per_step,
            undrafted_share: window.undrafted_share,
            acceptance_by_depth: window.acceptance_by_depth.clone(),
            depth_is_lower_bound: window.depth_is_lower_bound,
            budget: self.budget.max(window.budget),
            step_seconds: window.step_seconds,
            tokens_per_second: window.tokens_per_second,
            own_tokens_per_step: window.own.map(|own| own.tokens_per_step),
            earlier: self.earlier.clone(),
            ..Summary::default()
        }
    }
}

fn figures_tokens(totals: &Counters) -> Option<f64> {
    totals.tokens.or(totals.step_tokens)
}

/// Sums steps into counters; `None` for figures that some step lacks.
pub(crate) fn counters(steps: &[Step]) -> Counters {
    if steps.is_empty() {
        return Counters::default();
    }
    let mut sums = Counters { steps: Some(steps.len() as f64), ..Counters::default() };
    sums.step_tokens = Some(steps.iter().map(|step| step.emitted as f64).sum());
    if steps.iter().all(|step| step.seconds.is_some()) {
        sums.step_seconds = Some(steps.iter().filter_map(|step| step.seconds).sum());
    }
    if steps.iter().all(|step| step.accepted.is_some()) {
        sums.accepted = Some(steps.iter().filter_map(|step| step.accepted).sum::<usize>() as f64);
    }
    if !steps.iter().all(|step| step.drafted.is_some()) {
        return sums;
    }
    sums.drafted = Some(steps.iter().filter_map(|step| step.drafted).sum::<usize>() as f64);
    sums.drafted_steps = Some(steps.iter().filter(|step| step.drafted > Some(0)).count() as f64);
    let by_depth = |of: fn(&Step) -> Option<usize>| -> Vec<f64> {
        let mut list: Vec<f64> = Vec::new();
        for depth in steps.iter().filter_map(of) {
            list.resize(list.len().max(depth), 0.0);
            list[..depth].iter_mut().for_each(|count| *count += 1.0);
        }
        list
    };
    sums.accepted_by_depth = by_depth(|step| step.accepted.filter(|_| step.drafted > Some(0)));
    sums.drafted_by_depth = by_depth(|step| step.drafted);
    sums
}

/// Mean times of passes by size, over steps that are certain.
fn pass_times(steps: &[Step]) -> Vec<PassTime> {
    let mut sizes: Vec<PassTime> = Vec::new();
    for step in steps.iter().filter(|step| step.exact) {
        let (Some(drafted), Some(seconds)) =
            (step.drafted, step.seconds.filter(|seconds| *seconds > 0.0))
        else {
            continue;
        };
        let at = sizes.partition_point(|size| size.tokens < drafted + 1);
        if sizes.get(at).is_none_or(|size| size.tokens != drafted + 1) {
            sizes.insert(at, PassTime { tokens: drafted + 1, ..PassTime::default() });
        }
        sizes[at].passes += 1;
        sizes[at].seconds += seconds;
    }
    sizes.iter_mut().for_each(|size| size.seconds /= size.passes as f64);
    sizes
}

/// Seconds of a pass over 1, 2, ... tokens up to the largest measured size, rising and with
/// straight lines between sizes that were measured. Smaller passes than the smallest measured one
/// are taken to last as long. Empty without enough passes of one size.
fn seconds_by_size(times: &[PassTime]) -> Vec<f64> {
    let mut known: Vec<(usize, f64)> = Vec::new();
    for time in times.iter().filter(|time| time.passes >= FEWEST_PASSES) {
        let least = known.last().map_or(0.0, |(_, seconds)| *seconds);
        known.push((time.tokens, time.seconds.max(least)));
    }
    let Some(&(first, seconds)) = known.first() else { return Vec::new() };
    let mut all = vec![seconds; first];
    for pair in known.windows(2) {
        let ((from, t), (to, u)) = (pair[0], pair[1]);
        all.extend((from + 1..=to).map(|b| t + (u - t) * (b - from) as f64 / (to - from) as f64));
    }
    all
}

fn light(
    times: &[PassTime],
    speed: f64,
    greedy: bool,
    distributions: &Distributions,
    estimates: Option<&Estimates>,
) -> Option<ServerCeiling> {
    let seconds = seconds_by_size(times);
    if greedy {
        let best = fastest_reading_pass(&seconds)?;
        let ceiling = Estimate { value: best.rate(), interval: None };
        let share = Estimate { value: speed / best.rate(), interval: None };
        return Some(ServerCeiling { ceiling, best_budget: best.budget, share });
    }
    let fluid = estimates?.fluid?;
    let curve = distributions.fluid_curve(seconds.len().checked_sub(1)?);
    let best = best_fixed(&curve, &seconds)?;
    let scaled = |scale: f64| {
        let curve: Vec<f64> =
            curve.iter().enumerate().map(|(p, fluid)| (fluid * scale).min(p as f64)).collect();
        best_fixed(&curve, &seconds).map_or(f64::NAN, |best| best.rate())
    };
    // The curve moves as a whole with the fluid bound at B.
    let interval = fluid.interval.filter(|_| fluid.value > 0.0).map(|i| Interval {
        low: scaled(i.low / fluid.value).min(best.rate()),
        high: scaled(i.high / fluid.value).max(best.rate()),
    });
    let shares = interval.map(|i| Interval { low: speed / i.high, high: speed / i.low });
    let ceiling = Estimate { value: best.rate(), interval };
    Some(ServerCeiling {
        ceiling,
        best_budget: best.budget,
        share: Estimate { value: speed / best.rate(), interval: shares },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::attach::estimate::{Drawn, Position};

    fn step(accepted: usize, drafted: usize, seconds: f64) -> Event {
        Event::Step(Step {
            prompt_id: "p".into(),
            step: 0,
            start: 1,
            accepted: Some(accepted),
            drafted: Some(drafted),
            emitted: accepted + 1,
            seconds: Some(seconds),
            exact: true,
        })
    }

    #[test]
    fn steps_become_figures() {
        let mut tally = Tally::new(&Identity::default(), 1.0);
        for event in [step(2, 3, 0.2), step(0, 3, 0.2), step(1, 1, 0.1), step(0, 0, 0.1)] {
            tally.take(&event);
        }
        tally.take(&Event::TextEnded { tokens: 8 });
        let found = tally.summary();
        assert_eq!(
            (found.budget, found.steps, found.tokens, found.exact_steps),
            (Some(4), Some(4.0), Some(8.0), 4)
        );
        assert_eq!((found.accepted_mean, found.accepted_per_drafted_step), (Some(0.75), Some(1.0)));
        assert_eq!((found.tokens_per_step, found.undrafted_share), (Some(1.75), Some(0.25)));
        // Of three drafts two had the first token accepted, and of those one had drafted a second.
        assert_eq!(found.acceptance_by_depth, [2.0 / 3.0, 0.5]);
        assert!((found.tokens_per_second.unwrap() - 7.0 / 0.6).abs() < 1e-9);
        assert!(found.estimates.is_none() && found.brackets.is_none() && found.light.is_none());
    }

    #[test]
    fn times_between_measured_sizes_lie_on_a_line() {
        let time = |tokens, passes, seconds| PassTime { tokens, passes, seconds };
        let times = [time(2, 9, 1.0), time(3, 1, 9.0), time(4, 5, 2.0), time(5, 5, 1.5)];
        assert_eq!(seconds_by_size(&times), [1.0, 1.0, 1.5, 2.0, 2.0]);
        assert!(seconds_by_size(&times[1..2]).is_empty());
    }

    #[test]
    fn step_times_and_distributions_give_a_ceiling_on_speed() {
        let mut tally = Tally::new(&Identity { vocabulary: Some(4), ..Identity::default() }, 1.0);
        for text in 0..8 {
            for i in 0..20 {
                tally.take(&step(usize::from((i + text) % 3 > 0), 3, 0.1));
                tally.take(&step(0, 0, 0.08));
            }
            let position = |i: usize| {
                Position::new(
                    [0.6, 0.2],
                    Some(Drawn { surprisal: 2.0, in_top: !i.is_multiple_of(5) }),
                )
            };
            tally.take(&Event::Scored(Box::new(Scored {
                positions: (0..20).map(position).collect(),
                chains: Vec::new(),
            })));
            tally.take(&Event::TextEnded { tokens: 60 });
        }
        let found = tally.summary();
        let light = found.light.unwrap();
        assert_eq!(light.best_budget, 4);
        assert!(
            light.share.value < 1.0
                && (light.share.value * light.ceiling.value - found.tokens_per_second.unwrap())
                    .abs()
                    < 1e-9
        );
        let (low, high) = crate::attach::estimate::ends(light.ceiling.interval);
        assert!(low.unwrap() <= light.ceiling.value && light.ceiling.value <= high.unwrap());
        let greedy = Tally { temperature: 0.0, ..tally }.summary();
        assert!(greedy.estimates.is_none() && greedy.reference.is_some());
        assert!((greedy.light.unwrap().ceiling.value - 40.0).abs() < 1e-9);
    }
}
