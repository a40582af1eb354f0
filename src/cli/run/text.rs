//! Generated text and the summary table on standard output.

use std::io::{self, Write};

use crate::sanitize::{self, Signs};
use crate::telemetry::{MissCause, StepRecord, Summary};

/// Escapes for a terminal: line breaks and tabs work, all other control characters are shown.
const SIGNS: Signs = Signs { ascii: false, newline: "\n", tab: "\t" };
/// SGR codes of tokens accepted at depths 1 to 6; deeper ones use the last.
///
/// These are of the 16 standard colors, which follow the palette of the user's terminal.
const DEPTHS: [&str; 6] = ["32", "92", "36", "96", "34", "94"];
const BONUS: &str = "33";

/// Style of the written text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextStyle {
    /// Unchanged text, for a pipe or a file.
    Raw,
    /// Control characters escaped, for a terminal without color.
    Escaped,
    /// Control characters escaped, and tokens colored by their origin.
    Colored,
}

impl TextStyle {
    /// Selects the style for standard output by terminal, `NO_COLOR` and `TERM`.
    pub fn of(terminal: bool, var: impl Fn(&str) -> Option<String>) -> TextStyle {
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        match terminal {
            false => TextStyle::Raw,
            true if set("NO_COLOR").is_some() || set("TERM").as_deref() == Some("dumb") => {
                TextStyle::Escaped
            }
            true => TextStyle::Colored,
        }
    }
}

/// Writer of generated texts, one after the other.
pub struct TextOutput<W> {
    to: W,
    style: TextStyle,
    /// The last line has no line break yet.
    open: bool,
}

impl<W: Write> TextOutput<W> {
    /// Creates a writer to `to`.
    pub fn new(to: W, style: TextStyle) -> Self {
        Self { to, style, open: false }
    }

    /// Returns true if the output is a terminal.
    pub fn for_a_person(&self) -> bool {
        self.style != TextStyle::Raw
    }

    /// Writes the tokens that a step emitted.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn step(&mut self, record: &StepRecord) -> io::Result<()> {
        let drafted = record.tree.parents.len() > 1;
        for (i, text) in record.emitted_text.iter().enumerate().filter(|(_, text)| !text.is_empty())
        {
            let color = match i.checked_sub(record.accepted) {
                None => DEPTHS[i.min(DEPTHS.len() - 1)],
                Some(_) if drafted => BONUS,
                Some(_) => "",
            };
            self.open = !text.ends_with('\n');
            match self.style {
                TextStyle::Raw => self.to.write_all(text.as_bytes())?,
                TextStyle::Colored if !color.is_empty() => {
                    // Line breaks are kept out of the colored span, which would color the rest of
                    // the line.
                    let safe = sanitize::visible_line(text, &SIGNS);
                    for part in safe.split_inclusive('\n') {
                        let (words, end) =
                            part.strip_suffix('\n').map_or((part, ""), |words| (words, "\n"));
                        write!(self.to, "\x1b[{color}m{words}\x1b[0m{end}")?;
                    }
                }
                TextStyle::Colored | TextStyle::Escaped => {
                    self.to.write_all(sanitize::visible_line(text, &SIGNS).as_bytes())?
                }
            }
        }
        self.to.flush()
    }

    /// Ends the current line, so that the next text starts on a new one.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn end(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.open) {
            self.to.write_all(b"\n")?;
        }
        self.to.flush()
    }

    /// Writes a title line before a text.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn title(&mut self, title: &str) -> io::Result<()> {
        let title = sanitize::visible_line(title, &Signs { newline: " ", ..SIGNS });
        match self.style {
            TextStyle::Colored => writeln!(self.to, "\x1b[2m--- {title}\x1b[0m"),
            _ => writeln!(self.to, "--- {title}"),
        }
    }

    /// Writes the summary table, with a legend of the colors if they are used.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn table(&mut self, summary: &Summary) -> io::Result<()> {
        writeln!(self.to)?;
        for (name, value) in rows(summary) {
            writeln!(self.to, "{name:<16}{value}")?;
        }
        if self.style == TextStyle::Colored {
            write!(self.to, "{:<16}accepted at depth", "colors")?;
            for (i, color) in DEPTHS.iter().enumerate() {
                let more = if i + 1 == DEPTHS.len() { "+" } else { "" };
                write!(self.to, " \x1b[{color}m{}{more}\x1b[0m", i + 1)?;
            }
            writeln!(self.to, ", \x1b[{BONUS}mbonus\x1b[0m, plain")?;
        }
        self.to.flush()
    }
}

/// Returns names and values of the summary table.
fn rows(s: &Summary) -> Vec<(&'static str, String)> {
    let or_unknown = |value: Option<f64>, unit: &str| {
        value.map_or("unknown".into(), |x| format!("{x:.2}{unit}"))
    };
    // A mean over steps with an automatic budget.
    let batch = s.ceilings.batch;
    let mut ceilings = vec![if batch.fract() == 0.0 {
        format!("batch {batch}")
    } else {
        format!("batch {batch:.2}")
    }];
    // For greedy decoding the fluid bound is also B - 1: an oracle accepts all on any text.
    for (name, value) in [
        ("fluid", s.ceilings.fluid.filter(|_| !greedy(s))),
        ("renewal", s.ceilings.renewal),
        ("published", s.ceilings.published),
    ] {
        let constant = if name == "published" { " + O(1)" } else { "" };
        ceilings.extend(value.map(|x| format!("{name} {x:.2}{constant}")));
    }
    if greedy(s) && s.ceilings.batch > 0.0 {
        ceilings.push("no others (a greedy oracle reaches it)".into());
    }
    if s.drawn {
        ceilings.push("others unavailable for sampled trees".into());
    }
    let ratio = s.speed_up.reached;
    let ends = s.speed_up.low.zip(s.speed_up.high).filter(|(low, high)| low < high);
    let ends = ends.map_or(String::new(), |(low, high)| format!(" ({low:.2} to {high:.2})"));
    let ends =
        format!("{ends}{}", if s.busy { "; the machine was busy with other work" } else { "" });
    let total = s.time.total().max(f64::MIN_POSITIVE);
    let share = |seconds: f64| format!("{:.0}%", 100.0 * seconds / total);
    let mut rows = vec![
        ("speed of light", light(s)),
        (
            "tokens",
            format!(
                "{} in {} steps: {:.2} per step, bonus included",
                s.tokens, s.steps, s.tokens_per_step
            ),
        ),
        (
            "accepted",
            format!(
                "{:.2} drafted tokens per step, {:.2} expected",
                s.accepted_mean, s.expected_accepted_mean
            ),
        ),
        ("ceilings", format!("drafted tokens per step: {}", ceilings.join(", "))),
        ("entropy", format!("{:.3} nats per token, mu2 {:.3}", s.mu, s.mu2)),
        (
            "speed",
            format!(
                "{}; plain decoding {}{}",
                or_unknown(s.tokens_per_second, " tokens/s"),
                or_unknown(s.autoregressive_tokens_per_second, " tokens/s"),
                ratio.map_or(String::new(), |x| format!("; speed-up x {x:.2}{ends}"))
            ),
        ),
        (
            "time",
            format!(
                "{:.2} s: draft {}, verify {}, other {}",
                s.time.total(),
                share(s.time.draft),
                share(s.time.verify),
                share(s.time.other)
            ),
        ),
    ];
    // Values that are unknown or do not apply to this run get no row.
    let optional = [
        ("reached", reached(s)),
        ("capacity", capacity(s)),
        ("losses", losses(s)),
        ("overlap", overlap(s)),
        ("misses", misses(s)),
        ("max speed-up", format_max_speed_up(s)),
    ];
    let at = 4;
    rows.splice(at..at, optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    rows
}

/// Returns true if all text was greedy: the sampled distribution has zero entropy.
fn greedy(s: &Summary) -> bool {
    !s.drawn && s.mu == 0.0 && s.ceilings.fluid == Some(s.ceilings.batch)
}

/// Formats the reached fraction of the speed of light, and the losses by cause.
fn light(s: &Summary) -> String {
    let l = &s.speed_of_light;
    let (mut text, unit) = match (l.tokens_per_second, s.tokens_per_second, l.share) {
        (Some(c), Some(v), Some(share)) => {
            let ends = l.share_low.zip(l.share_high);
            let ends = ends.map_or("too early for an interval".into(), |(low, high)| {
                format!("{low:.2} to {high:.2}")
            });
            (
                format!(
                    "{share:.2} of the speed of light ({ends}): {} of {} tokens/s",
                    rate(v),
                    rate(c)
                ),
                "",
            )
        }
        (None, ..) if l.searched_steps == 0 && s.mu > 0.0 && !s.drawn => {
            ("unknown: needs oracle searches (--look-every)".to_owned(), " tokens/s")
        }
        _ => ("unknown: pass times were not measured".to_owned(), " tokens/s"),
    };
    let lost = l.ladder.parts().into_iter().filter_map(|(name, loss)| {
        let name = if name == "knowledge" && l.ladder.shape.is_none() {
            "knowledge and shape"
        } else {
            name
        };
        Some(format!("{name} {}", rate(loss?)))
    });
    let lost: Vec<String> = lost.collect();
    if !lost.is_empty() {
        text += &format!("; losses: {}{unit}", lost.join(", "));
    }
    text
}

/// Formats tokens per second with about three digits.
fn rate(x: f64) -> String {
    let text = if x.abs() < 99.5 { format!("{x:.1}") } else { format!("{x:.0}") };
    if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
        "0".into()
    } else {
        text
    }
}

/// Formats the used capacity of the verify passes.
fn capacity(s: &Summary) -> Option<String> {
    let used = s.capacity_mean?;
    let (Some(share), Some(most)) = (s.tree_nats_share, s.capacity_ceiling) else {
        return Some("0 nats per pass: the text is deterministic".into());
    };
    let percent = |share: f64| format!("{:.0}%", 100.0 * share);
    let text = format!(
        "{} of ln B nats per pass used, {} of the text's nats came from the trees",
        percent(used),
        percent(share)
    );
    Some(format!("{text}; at most {most:.2} tokens per step"))
}

/// Formats the reached fraction of the fluid bound and of the oracle trees.
fn reached(s: &Summary) -> Option<String> {
    let percent = |share: f64| format!("{:.0}%", 100.0 * share);
    if greedy(s) {
        return None;
    }
    let fluid = s.ceilings.fluid.filter(|fluid| *fluid > 0.0)?;
    // Mean and interval are of the same moment: a newer mean may lie outside an older interval.
    let mut text = match s.reached.and_then(|reached| reached.share_mean.zip(reached.share)) {
        Some((mean, share)) => {
            format!(
                "{} of the fluid bound (95% interval {} to {})",
                percent(mean),
                percent(share.low),
                percent(share.high)
            )
        }
        None => format!(
            "{} of the fluid bound (too early for an interval)",
            percent(s.expected_accepted_mean / fluid)
        ),
    };
    if let Some(oracle) = s.oracle.filter(|oracle| oracle.lower > 0.0) {
        let gap = s.losses.knowledge.unwrap_or(0.0) + s.losses.shape.unwrap_or(0.0);
        let allowed = s.expected_accepted_mean + gap;
        text += &format!(
            "; {} of the oracle trees ({} searched steps)",
            percent(s.expected_accepted_mean / allowed),
            oracle.looks
        );
    }
    Some(text)
}

/// Formats the losses from B - 1 down to the accepted length.
fn losses(s: &Summary) -> Option<String> {
    let l = &s.losses;
    let named = [
        ("budget", l.budget),
        ("context", l.context),
        ("knowledge", l.knowledge),
        ("shape", l.shape),
    ];
    let mut parts: Vec<String> =
        named.iter().filter_map(|(name, loss)| Some(format!("{name} {:.2}", (*loss)?))).collect();
    if l.context.is_none() {
        parts.push(format!(
            "context, knowledge and shape together {:.2} (--look-every splits them)",
            l.unsplit
        ));
    }
    parts.push(format!("luck {:.2}", l.luck));
    (s.ceilings.batch > 0.0 && l.budget.is_some())
        .then(|| format!("{} drafted tokens per step", parts.join(", ")))
}

/// Formats acceptance of the drafter's best token against a sampled one, with the rule's ceiling.
fn overlap(s: &Summary) -> Option<String> {
    let o = s.overlap?;
    let (low, high) = (format!("{:.2}", o.overlap_mean), format!("{:.2}", o.overlap_max_mean));
    let sampled = if low == high {
        low
    } else {
        format!("{low} to {high}, {:.0}% of q known", 100.0 * o.covered_mean)
    };
    let mut text = format!(
        "p(argmax q) {:.2}, sum min(p, q) {sampled}, at {} nodes",
        o.p_argmax_mean, o.nodes
    );
    if let Some(rule) = s.rule_ceiling {
        text += &format!(
            "; first token accepted {:.2}, at most {:.2} by any rule",
            rule.accepted_mean, rule.ceiling_mean
        );
    }
    Some(text)
}

/// Formats the misses by cause.
fn misses(s: &Summary) -> Option<String> {
    let (causes, total) = (s.misses.causes, s.misses.causes.total());
    let part = |cause: MissCause, words: &str| format!("{} {words}", causes.count_of(cause));
    let outside = (causes.count_of(MissCause::Vocabulary) > 0)
        .then(|| part(MissCause::Vocabulary, "outside the draft vocabulary"));
    let parts = [
        part(MissCause::Knowledge, "not proposed by the drafter"),
        part(MissCause::Ranking, "ranked too low"),
        part(MissCause::Budget, "cut by budget or shape"),
        part(MissCause::Unlucky, "missed by the oracle, too"),
    ];
    let parts: Vec<String> = parts.into_iter().chain(outside).collect();
    (total > 0).then(|| format!("{total} misses: {}", parts.join(", ")))
}

/// Formats the ceilings of the speed-up at a fixed budget.
fn format_max_speed_up(s: &Summary) -> Option<String> {
    let ceiling = s.speed_up.ceiling?;
    let mut text = format!(
        "x {:.2} with a perfect drafter at no cost, at budget {}",
        ceiling.speed_up, ceiling.budget
    );
    if let Some(own) = s.speed_up.drafter {
        text += &format!("; x {:.2} with this drafter, at budget {}", own.speed_up, own.budget);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::telemetry::{
        Ceilings, Interval, LightLadder, Losses, OracleMean, OverlapMean, ReachedIntervals,
        RuleCeilingMean, SpeedOfLight, StageTimes, StepSettings, TreeRecord,
    };
    use crate::theory::speed::BestSpeedUp;

    fn record(nodes: usize, accepted: usize, texts: &[&str]) -> StepRecord {
        StepRecord {
            choice: None,
            prompt_id: "0".into(),
            step: 0,
            repeated: false,
            position: 1,
            settings: StepSettings::new("ngram", crate::draft::Shape::Chain, 8, 0.0),
            tree: TreeRecord {
                parents: (0..nodes).map(|i| i.checked_sub(1)).collect(),
                ..TreeRecord::default()
            },
            path: (1..=accepted).collect(),
            accepted,
            bonus: 0,
            bonus_text: texts.last().copied().unwrap_or_default().into(),
            bonus_rank: 0,
            bonus_q: None,
            overlap: Vec::new(),
            rule_ceiling: None,
            emitted: vec![0; texts.len()],
            emitted_text: texts.iter().map(|text| (*text).to_owned()).collect(),
            expected_accepted: 0.0,
            capacity: None,
            notice: None,
            miss: None,
            reached: None,
            entropy: Vec::new(),
            time: StageTimes::default(),
            mu: 0.0,
            mu2: 0.0,
            ceilings: Ceilings::default(),
        }
    }

    fn written(style: TextStyle, records: &[StepRecord]) -> String {
        let mut text = TextOutput::new(Vec::new(), style);
        records.iter().for_each(|record| text.step(record).unwrap());
        text.end().unwrap();
        String::from_utf8(text.to).unwrap()
    }

    #[test]
    fn a_pipe_gets_the_text_as_it_is() {
        let records = [record(3, 2, &["a", "\u{1b}[2J", ""]), record(1, 0, &["\tz"])];
        assert_eq!(written(TextStyle::Raw, &records), "a\u{1b}[2J\tz\n");
        // A text that ends with a line break gets no second one.
        assert_eq!(written(TextStyle::Raw, &[record(1, 0, &["z\n"])]), "z\n");
        assert_eq!(written(TextStyle::Raw, &[]), "");
    }

    #[test]
    fn a_terminal_obeys_nothing_in_the_text() {
        let records = [record(3, 1, &["a\u{1b}[2J\r", "\u{202e}b\tc\n"])];
        assert_eq!(written(TextStyle::Escaped, &records), "a␛[2J␍<202e>b\tc\n");
        let colored = written(TextStyle::Colored, &records);
        assert_eq!(colored, "\u{1b}[32ma␛[2J␍\u{1b}[0m\u{1b}[33m<202e>b\tc\u{1b}[0m\n");
    }

    #[test]
    fn colors_tell_where_a_token_came_from() {
        let deep = record(9, 7, &["1", "2", "3", "4", "5", "6", "7", "b"]);
        let plain = record(1, 0, &["p"]);
        let got = written(TextStyle::Colored, &[deep, plain]);
        let marked = |code: &str, text: &str| format!("\u{1b}[{code}m{text}\u{1b}[0m");
        let codes = ["32", "92", "36", "96", "34", "94", "94"];
        let want: String =
            codes.iter().enumerate().map(|(i, code)| marked(code, &(i + 1).to_string())).collect();
        assert_eq!(got, format!("{want}{}p\n", marked("33", "b")));
    }

    #[test]
    fn the_environment_decides_on_color() {
        let style = |terminal, pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, String)> =
                pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            TextStyle::of(terminal, |name| {
                pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
            })
        };
        assert_eq!(style(true, &[("TERM", "xterm"), ("NO_COLOR", "")]), TextStyle::Colored);
        assert_eq!(style(true, &[("NO_COLOR", "1")]), TextStyle::Escaped);
        assert_eq!(style(true, &[("TERM", "dumb")]), TextStyle::Escaped);
        assert_eq!(style(false, &[("TERM", "xterm")]), TextStyle::Raw);
    }

    #[test]
    fn summary_splits_losses_when_steps_were_searched() {
        let ceilings = Ceilings { batch: 7.0, fluid: Some(4.0), ..Ceilings::default() };
        let losses = Losses { budget: Some(3.0), unsplit: 2.0, luck: -0.5, ..Losses::default() };
        let mut s = Summary {
            expected_accepted_mean: 2.0,
            accepted_mean: 2.5,
            ceilings,
            losses,
            ..Summary::default()
        };
        let row = |s: &Summary, name: &str| {
            rows(s).into_iter().find(|row| row.0 == name).map(|row| row.1)
        };
        assert_eq!(
            row(&s, "reached").unwrap(),
            "50% of the fluid bound (too early for an interval)"
        );
        assert_eq!(
            row(&s, "losses").unwrap(),
            "budget 3.00, context, knowledge and shape together 2.00 (--look-every splits them), luck -0.50 drafted tokens per step"
        );
        assert_eq!((row(&s, "misses"), row(&s, "max speed-up")), (None, None));
        s.losses = Losses {
            context: Some(1.0),
            knowledge: Some(0.75),
            shape: Some(0.25),
            unsplit: 0.0,
            ..losses
        };
        s.oracle = Some(OracleMean { looks: 3, lower: 2.9, upper: 3.0 });
        s.reached = Some(ReachedIntervals {
            share: Some(Interval { low: 0.4, high: 0.6 }),
            share_mean: Some(0.5),
            ..ReachedIntervals::default()
        });
        s.speed_up.ceiling = Some(BestSpeedUp { budget: 16, speed_up: 3.0 });
        s.speed_up.drafter = Some(BestSpeedUp { budget: 4, speed_up: 1.25 });
        assert_eq!(
            row(&s, "reached").unwrap(),
            "50% of the fluid bound (95% interval 40% to 60%); 67% of the oracle trees (3 searched steps)"
        );
        assert_eq!(
            row(&s, "losses").unwrap(),
            "budget 3.00, context 1.00, knowledge 0.75, shape 0.25, luck -0.50 drafted tokens per step"
        );
        assert_eq!(
            row(&s, "max speed-up").unwrap(),
            "x 3.00 with a perfect drafter at no cost, at budget 16; x 1.25 with this drafter, at budget 4"
        );
    }

    #[test]
    fn a_greedy_run_has_no_fluid_bound_and_no_share_of_it() {
        let ceilings = Ceilings { batch: 63.0, fluid: Some(63.0), ..Ceilings::default() };
        let s = Summary {
            expected_accepted_mean: 2.0,
            accepted_mean: 2.0,
            tokens: 9,
            steps: 3,
            ceilings,
            ..Summary::default()
        };
        let row = |name: &str| rows(&s).into_iter().find(|row| row.0 == name).map(|row| row.1);
        assert_eq!(
            row("ceilings").unwrap(),
            "drafted tokens per step: batch 63, no others (a greedy oracle reaches it)"
        );
        assert_eq!(row("reached"), None);
        let sampled = Summary { mu: 1.0, ..s };
        assert!(rows(&sampled).iter().any(|row| row.1.contains("fluid 63.00")));
    }

    #[test]
    fn the_headline_is_the_share_of_the_speed_of_light() {
        let ladder = LightLadder {
            budget: Some(41.2),
            knowledge: Some(611.0),
            shape: Some(-0.01),
            drafting: Some(184.4),
            overhead: Some(30.0),
            luck: Some(-7.5),
        };
        let mut s = Summary { mu: 1.0, tokens_per_second: Some(646.4), ..Summary::default() };
        let headline = |s: &Summary| rows(s).into_iter().next().unwrap();
        assert_eq!(headline(&s).0, "speed of light");
        assert_eq!(headline(&s).1, "unknown: needs oracle searches (--look-every)");
        s.speed_of_light.searched_steps = 9;
        s.speed_of_light.ladder = LightLadder { drafting: Some(184.4), ..LightLadder::default() };
        assert_eq!(
            headline(&s).1,
            "unknown: pass times were not measured; losses: drafting 184 tokens/s"
        );
        s.speed_of_light = SpeedOfLight {
            tokens_per_second: Some(1505.3),
            share: Some(0.4294),
            ladder,
            ..SpeedOfLight::default()
        };
        assert!(headline(&s).1.starts_with(
            "0.43 of the speed of light (too early for an interval): 646 of 1505 tokens/s;"
        ));
        (s.speed_of_light.share_low, s.speed_of_light.share_high) = (Some(0.401), Some(0.458));
        assert_eq!(
            headline(&s).1,
            "0.43 of the speed of light (0.40 to 0.46): 646 of 1505 tokens/s; \
             losses: budget 41.2, knowledge 611, shape 0, drafting 184, overhead 30.0, luck -7.5"
        );
        s.speed_of_light.ladder.shape = None;
        assert!(headline(&s).1.contains("knowledge and shape 611, drafting"));
    }

    #[test]
    fn the_capacity_has_a_row_where_it_is_known() {
        let row =
            |s: &Summary| rows(s).into_iter().find(|row| row.0 == "capacity").map(|row| row.1);
        let mut s = Summary::default();
        assert_eq!(row(&s), None);
        s.capacity_mean = Some(0.0);
        assert_eq!(row(&s).unwrap(), "0 nats per pass: the text is deterministic");
        (s.capacity_mean, s.tree_nats_share, s.capacity_ceiling) =
            (Some(0.414), Some(0.35), Some(6.2));
        let want = "41% of ln B nats per pass used, 35% of the text's nats came from the trees; at most 6.20 tokens per step";
        assert_eq!(row(&s).unwrap(), want);
    }

    #[test]
    fn the_table_compares_the_best_token_with_a_sampled_one() {
        let row = |s: &Summary| rows(s).into_iter().find(|row| row.0 == "overlap").map(|row| row.1);
        let mut s = Summary::default();
        assert_eq!(row(&s), None);
        let mean = OverlapMean {
            nodes: 9,
            p_argmax_mean: 0.61,
            overlap_mean: 0.52,
            overlap_max_mean: 0.6,
            covered_mean: 0.87,
        };
        s.overlap = Some(mean);
        assert_eq!(
            row(&s).unwrap(),
            "p(argmax q) 0.61, sum min(p, q) 0.52 to 0.60, 87% of q known, at 9 nodes"
        );
        s.overlap = Some(OverlapMean { overlap_max_mean: 0.52, covered_mean: 1.0, ..mean });
        s.rule_ceiling =
            Some(RuleCeilingMean { steps: 4, ceiling_mean: 0.63, accepted_mean: 0.58 });
        assert_eq!(
            row(&s).unwrap(),
            "p(argmax q) 0.61, sum min(p, q) 0.52, at 9 nodes; first token accepted 0.58, at most 0.63 by any rule"
        );
    }

    #[test]
    fn unknown_values_are_labeled_unknown() {
        let mut text = TextOutput::new(Vec::new(), TextStyle::Escaped);
        let ceilings = Ceilings {
            batch: 7.0,
            renewal: Some(3.0),
            published: Some(9.5),
            ..Ceilings::default()
        };
        let summary =
            Summary { tokens: 9, steps: 4, tokens_per_step: 2.25, ceilings, ..Summary::default() };
        text.table(&summary).unwrap();
        let table = String::from_utf8(text.to).unwrap();
        assert!(table.contains("9 in 4 steps: 2.25 per step"), "{table}");
        assert!(
            table.contains(
                "drafted tokens per step: batch 7, renewal 3.00, published 9.50 + O(1)\n"
            ),
            "{table}"
        );
        assert!(table.contains("speed           unknown; plain decoding unknown\n"), "{table}");
        assert!(!table.contains("NaN") && !table.contains('\u{1b}'), "{table}");
    }
}
