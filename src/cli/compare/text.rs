//! Comparison as text and as comma-separated values.

use super::report::{ComparisonReport, PairRow, SettingRow};
use crate::cli::study::outputs::number;
use crate::cli::study::text::written;
use crate::cli::table;
use crate::csv_row::format_csv_row;
use crate::sanitize::{self, Signs, sanitize_line, sanitize_name};
use crate::study::compare::{
    ContextChange, ContextComparison, ExclusiveAccept, ExclusiveAccepts, Outcomes, PairedMean,
    Pairing,
};
use crate::telemetry::{CauseCounts, ClassMisses, MissCause};
use crate::theory::intervals::Estimate;

/// Escapes for text from outside the program.
const SIGNS: Signs = Signs { ascii: false, newline: "↵", tab: "⇥" };

fn safe(text: &str) -> String {
    sanitize::visible_line(text, &SIGNS)
}

/// Formats the comparison as text.
pub fn text(report: &ComparisonReport) -> String {
    let refused =
        if report.refused > 0 { format!(" ({} skipped)", report.refused) } else { String::new() };
    let mut text = format!(
        "{} {} on {}; {} prompts{refused}, up to {} tokens per text\n\
         Drafted tokens per step, bonus excluded except in tokens/step; entropy in nats; [95% intervals: paired bootstrap over whole texts].\n\n",
        sanitize_name(&report.model),
        report.quantisation,
        report.device,
        report.prompts,
        report.max_tokens
    );
    for setting in &report.settings {
        text += &format!("{}: {}\n", sanitize_name(&setting.name), sanitize_line(&setting.words));
    }
    text.push('\n');
    text += &settings(report);
    report.pairs.iter().for_each(|pair| text += &pair_text(pair, report));
    text
}

/// Formats the means, with a line for each quantity and a column for each setting.
fn settings(report: &ComparisonReport) -> String {
    type Cell = fn(&SettingRow) -> String;
    fn two(x: f64) -> String {
        format!("{x:.2}")
    }
    fn or_dash(x: Option<f64>) -> String {
        x.map_or("-".into(), two)
    }
    fn share(part: f64, row: &SettingRow) -> String {
        format!("{:.0}%", 100.0 * part / row.means.time.total().max(f64::MIN_POSITIVE))
    }
    let lines: [(&str, Cell); 29] = [
        ("tokens", |r| r.means.tokens.to_string()),
        ("steps", |r| r.means.steps.to_string()),
        ("tokens/step", |r| two(r.means.tokens_per_step)),
        ("tokens/s", |r| r.means.tokens_per_second.map_or("-".into(), |x| format!("{x:.1}"))),
        ("plain tokens/s", |r| {
            r.means.autoregressive_tokens_per_second.map_or("-".into(), |x| format!("{x:.1}"))
        }),
        ("speed-up", |r| r.means.speed_up.reached.map_or("-".into(), |x| format!("x {x:.2}"))),
        ("speed of light, tokens/s", |r| {
            r.means.speed_of_light.ceiling().map_or("-".into(), |e| written(&e, 1))
        }),
        ("fraction of it", |r| {
            r.means.speed_of_light.reached().map_or("-".into(), |e| written(&e, 2))
        }),
        ("draft time", |r| share(r.means.time.draft, r)),
        ("verify time", |r| share(r.means.time.verify, r)),
        ("mu", |r| format!("{:.3}", r.means.mu)),
        ("", |_| String::new()),
        ("B - 1", |r| two(r.means.ceilings.batch)),
        ("- budget loss", |r| or_dash(r.means.losses.budget)),
        ("- context loss", |r| or_dash(r.means.losses.context)),
        ("- knowledge loss", |r| or_dash(r.means.losses.knowledge)),
        ("- shape loss", |r| or_dash(r.means.losses.shape)),
        ("- unsplit loss", |r| two(r.means.losses.unsplit)),
        ("= E[X|T]", |r| two(r.means.expected_accepted_mean)),
        ("- luck", |r| two(r.means.losses.luck)),
        ("= accepted", |r| two(r.means.accepted_mean)),
        ("E[X|T] of fluid", |r| {
            let fluid = r.means.ceilings.fluid.filter(|fluid| *fluid > 0.0);
            fluid.map_or("-".into(), |fluid| {
                format!("{:.0}%", 100.0 * r.means.expected_accepted_mean / fluid)
            })
        }),
        ("searched steps", |r| r.means.oracle.map_or(0, |oracle| oracle.looks).to_string()),
        ("", |_| String::new()),
        ("misses: knowledge", |r| r.means.misses.causes.count_of(MissCause::Knowledge).to_string()),
        ("misses: vocabulary", |r| {
            r.means.misses.causes.count_of(MissCause::Vocabulary).to_string()
        }),
        ("misses: ranking", |r| r.means.misses.causes.count_of(MissCause::Ranking).to_string()),
        ("misses: budget", |r| r.means.misses.causes.count_of(MissCause::Budget).to_string()),
        ("misses: unlucky", |r| r.means.misses.causes.count_of(MissCause::Unlucky).to_string()),
    ];
    let mut rows = vec![
        std::iter::once(String::new())
            .chain(report.settings.iter().map(|r| sanitize_name(&r.name)))
            .collect::<Vec<_>>(),
    ];
    rows.extend(lines.iter().map(|(what, cell)| {
        std::iter::once((*what).to_owned())
            .chain(report.settings.iter().map(cell))
            .collect::<Vec<_>>()
    }));
    table::lines(&rows)
}

fn causes(causes: &CauseCounts) -> String {
    let order = [
        MissCause::Knowledge,
        MissCause::Vocabulary,
        MissCause::Ranking,
        MissCause::Budget,
        MissCause::Unlucky,
    ];
    let count = |cause: MissCause| {
        (causes.count_of(cause) > 0).then(|| format!("{} {}", cause.name(), causes.count_of(cause)))
    };
    let some: Vec<String> = order.into_iter().filter_map(count).collect();
    if some.is_empty() { "-".into() } else { some.join(", ") }
}

fn pair_text(pair: &PairRow, report: &ComparisonReport) -> String {
    let (a, b) = (sanitize_name(&pair.a), sanitize_name(&pair.b));
    let mut text = match pair.paired_by {
        Pairing::Positions => {
            let positions = pair.outcomes.map_or(0, |outcomes| outcomes.positions);
            format!(
                "\n{b} against {a}: {} prompts with the same text, {positions} positions; steps are paired by position\n",
                pair.prompts
            )
        }
        Pairing::Prompts => format!(
            "\n{b} against {a}: sampling parameters or seeds differ, and therefore the texts: only whole prompts \
             are paired ({})\n",
            pair.prompts
        ),
    };
    if !pair.differing.is_empty() {
        let ids: Vec<String> = pair.differing.iter().map(|id| sanitize_name(id)).collect();
        text += &format!(
            "excluded, because texts differ that must be equal: prompts {}\n",
            ids.join(", ")
        );
    }
    let Some(d) = &pair.differences else { return text + "no paired prompts\n" };
    text.push('\n');
    let row = |what: &str, q: &PairedMean, digits: usize| {
        [
            what.to_owned(),
            format!("{:.digits$}", q.a),
            format!("{:.digits$}", q.b),
            signed(&q.difference, digits),
        ]
    };
    let mut rows = vec![[String::new(), a.clone(), b.clone(), format!("{b} - {a}")]];
    rows.push(row("tokens/step", &d.tokens_per_step, 2));
    rows.push(row("E[X|T]", &d.expected_accepted, 2));
    rows.push(row("accepted", &d.accepted, 2));
    rows.push(row("tokens/s", &d.tokens_per_second, 1));
    rows.push(["".into(), "".into(), "speed".into(), format!("x {}", or_early(&d.speed, 2))]);
    text += &table::lines(&rows);
    if let (Some(c), Some(o), Some(of_a), Some(of_b)) =
        (&pair.contexts, &pair.outcomes, &pair.taken_by_a, &pair.taken_by_b)
    {
        text += &contexts(c, &a, &b, report);
        text += &outcomes(o, &a, &b);
        text += &takes(of_a, &a, &b, report);
        text += &takes(of_b, &b, &a, report);
    }
    text
}

/// Formats a difference with its sign and interval.
fn signed(e: &Estimate, digits: usize) -> String {
    match e.interval {
        Some(i) => format!("{:+.digits$} [{:+.digits$}, {:+.digits$}]", e.value, i.low, i.high),
        None => format!("{:+.digits$} (too early for an interval)", e.value),
    }
}

fn or_early(e: &Estimate, digits: usize) -> String {
    let early = if e.interval.is_none() { " (too early for an interval)" } else { "" };
    written(e, digits) + early
}

fn contexts(c: &ContextComparison, a: &str, b: &str, report: &ComparisonReport) -> String {
    if c.contexts == 0 {
        return format!("\n{a} and {b} started no step at the same position\n");
    }
    let q = &c.expected_accepted;
    let mut text = format!(
        "\nSame contexts: {} steps of both started at the same position; E[X|T] {:.2} and {:.2}, {}; {b} higher in {}, lower in {}\n",
        c.contexts,
        q.a,
        q.b,
        signed(&q.difference, 2),
        c.gained,
        c.lost
    );
    for (word, changes) in [("higher", &c.most_gained), ("lower", &c.most_lost)] {
        text += &changes.iter().map(|change| change_line(word, change, report)).collect::<String>();
    }
    text
}

fn id(prompt: usize, report: &ComparisonReport) -> String {
    report
        .texts
        .iter()
        .find(|text| text.prompt == prompt)
        .map_or_else(String::new, |text| sanitize_name(&text.prompt_id))
}

fn change_line(word: &str, c: &ContextChange, report: &ComparisonReport) -> String {
    format!(
        "  {word} {:+.2} ({:.2} to {:.2}) at {}@{}: ...{} ^ {}...\n",
        c.expected_b - c.expected_a,
        c.expected_a,
        c.expected_b,
        id(c.prompt, report),
        c.position,
        safe(&c.before),
        safe(&c.after)
    )
}

fn outcomes(o: &Outcomes, a: &str, b: &str) -> String {
    let row = |what: String, row: &crate::study::compare::OutcomeCounts| {
        [what, row.taken.to_string(), row.refused.to_string(), row.bonus.to_string()]
    };
    let head = [
        String::new(),
        format!("accepted by {b}"),
        format!("rejected by {b}"),
        format!("bonus of {b}"),
    ];
    let rows = [
        head,
        row(format!("accepted by {a}"), &o.taken),
        row(format!("rejected by {a}"), &o.refused),
        row(format!("bonus of {a}"), &o.bonus),
    ];
    format!(
        "\nPositions (rejected: only other tokens were drafted there; bonus: the draft ended before)\n{}",
        table::lines(&rows)
    )
}

fn takes(t: &ExclusiveAccepts, taker: &str, misser: &str, report: &ComparisonReport) -> String {
    let mut text = format!(
        "\nAccepted by {taker}, missed by {misser}: {} positions; causes: {}",
        t.positions,
        causes(&t.misses.causes)
    );
    if t.not_drafted > 0 {
        text += &format!(", no draft {}", t.not_drafted);
    }
    let class = |c: &ClassMisses| format!("{} {}", c.class.name(), c.causes.total());
    let mut classes: Vec<&ClassMisses> = t.misses.classes.iter().collect();
    classes.sort_by_key(|c| std::cmp::Reverse(c.causes.total()));
    if !classes.is_empty() {
        text += &format!(
            "; token classes: {}",
            classes.into_iter().map(class).collect::<Vec<_>>().join(", ")
        );
    }
    text.push('\n');
    text + &t.worst.iter().map(|taken| taken_line(taken, report)).collect::<String>()
}

fn taken_line(t: &ExclusiveAccept, report: &ComparisonReport) -> String {
    let cause = t.cause.map_or("no draft", MissCause::name);
    let p = t.p.map_or(String::new(), |p| format!(", p {p:.2}"));
    format!(
        "  {} in a row, {cause}{p}, at {}@{}: ...{}[{}]{}...\n",
        t.run,
        id(t.prompt, report),
        t.position,
        safe(&t.before),
        safe(&t.token),
        safe(&t.after)
    )
}

/// Formats the comparison as CSV with one row per quantity.
///
/// Columns: the setting, the setting it is compared with (empty for the setting alone), the
/// quantity, its value and its interval.
pub fn csv(report: &ComparisonReport) -> String {
    let mut text = format_csv_row(&["setting", "against", "quantity", "value", "low", "high"]);
    let mut row = |setting: &str, against: &str, quantity: &str, e: Estimate| {
        let ends = e.interval.map_or([None, None], |i| [Some(i.low), Some(i.high)]);
        text += &format_csv_row(&[
            setting,
            against,
            quantity,
            &number(Some(e.value)),
            &number(ends[0]),
            &number(ends[1]),
        ]);
    };
    let bare = |value: f64| Estimate { value, interval: None };
    for s in &report.settings {
        let (m, l) = (&s.means, &s.means.losses);
        let known = [
            ("tokens", Some(m.tokens as f64)),
            ("steps", Some(m.steps as f64)),
            ("tokens_per_step", Some(m.tokens_per_step)),
            ("expected_accepted", Some(m.expected_accepted_mean)),
            ("accepted", Some(m.accepted_mean)),
            ("mu", Some(m.mu)),
            ("mu2", Some(m.mu2)),
            ("batch", Some(m.ceilings.batch)),
            ("fluid", m.ceilings.fluid),
            ("loss_budget", l.budget),
            ("loss_context", l.context),
            ("loss_knowledge", l.knowledge),
            ("loss_shape", l.shape),
            ("loss_unsplit", Some(l.unsplit)),
            ("loss_luck", Some(l.luck)),
            ("looks", Some(m.oracle.map_or(0, |oracle| oracle.looks) as f64)),
            ("tokens_per_second", m.tokens_per_second),
            ("plain_tokens_per_second", m.autoregressive_tokens_per_second),
            ("speed_up", m.speed_up.reached),
            ("seconds_draft", Some(m.time.draft)),
            ("seconds_verify", Some(m.time.verify)),
            ("seconds_other", Some(m.time.other)),
        ];
        known
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .for_each(|(name, value)| row(&s.name, "", name, bare(value)));
        let l = &m.speed_of_light;
        for (name, value) in
            [("speed_of_light", l.ceiling()), ("share_of_speed_of_light", l.reached())]
        {
            value.into_iter().for_each(|value| row(&s.name, "", name, value));
        }
        row(&s.name, "", "searched_steps", bare(l.searched_steps as f64));
        for (name, loss) in l.ladder.parts() {
            loss.into_iter()
                .for_each(|loss| row(&s.name, "", &format!("speed_loss_{name}"), bare(loss)));
        }
    }
    for p in &report.pairs {
        let mut row = |quantity: &str, e: Estimate| row(&p.b, &p.a, quantity, e);
        row("prompts", bare(p.prompts as f64));
        row("differing_texts", bare(p.differing.len() as f64));
        if let Some(d) = &p.differences {
            row("tokens_per_step_difference", d.tokens_per_step.difference);
            row("expected_accepted_difference", d.expected_accepted.difference);
            row("accepted_difference", d.accepted.difference);
            row("tokens_per_second_difference", d.tokens_per_second.difference);
            row("speed_ratio", d.speed);
        }
        if let Some(c) = &p.contexts {
            row("same_contexts", bare(c.contexts as f64));
            row("same_contexts_expected_accepted_difference", c.expected_accepted.difference);
            row("same_contexts_accepted_difference", c.accepted.difference);
            row("contexts_gained", bare(c.gained as f64));
            row("contexts_lost", bare(c.lost as f64));
        }
        if let Some(o) = &p.outcomes {
            row("positions", bare(o.positions as f64));
        }
        if let (Some(of_a), Some(of_b)) = (&p.taken_by_a, &p.taken_by_b) {
            row("taken_and_missed_by_other", bare(of_b.positions as f64));
            row("missed_and_taken_by_other", bare(of_a.positions as f64));
        }
    }
    text
}
