//! Table as text and as comma-separated values.

use super::outputs::number;
use crate::cli::table;
use crate::csv_row::format_csv_row;
use crate::sanitize::sanitize_name;
use crate::study::table::rows::{AcceptanceSource, DrafterRow, SetRows, Table};
use crate::theory::intervals::Estimate;

/// Formats the table as text.
pub fn text(table: &Table) -> String {
    let s = &table.settings;
    let mut text = format!(
        "{} {} on {}; {} trees, seed {}, up to {} tokens per text\n\
         Accepted drafted tokens per step, bonus excluded; entropy in nats; [95% intervals: bootstrap over whole texts].\n",
        sanitize_name(&s.model),
        s.quantisation,
        s.device,
        s.shape,
        s.seed,
        s.max_tokens
    );
    table.sets.iter().for_each(|set| text += &set_text(set));
    text += &notes(table);
    text
}

fn set_text(set: &SetRows) -> String {
    let temperature = if set.temperature > 0.0 {
        format!("temperature {}", set.temperature)
    } else {
        "greedy".into()
    };
    let refused =
        if set.refused > 0 { format!(" ({} prompts skipped)", set.refused) } else { String::new() };
    let plain =
        set.plain_tokens_per_second.map_or("unknown".into(), |rate| format!("{rate:.1} tokens/s"));
    let mut text = format!(
        "\n{}, {temperature}: {} texts{refused}, {} tokens; mu {}, mu2 {}; plain decoding {plain}\n\n",
        sanitize_name(&set.name),
        set.texts,
        set.positions,
        written(&set.mu, 3),
        written(&set.mu2, 3),
    );
    let mut head: Vec<String> =
        ["B", "published + O(1)", "renewal", "tuned", "fluid"].map(str::to_owned).to_vec();
    head.extend(set.machines.iter().map(|machine| format!("x {}", sanitize_name(&machine.name))));
    let mut rows = vec![head];
    for (i, c) in set.ceilings.iter().enumerate() {
        let form = |value: Option<f64>| value.map_or("-".to_owned(), |x| format!("{x:.2}"));
        let mut row = vec![
            c.budget.to_string(),
            form(c.published),
            form(c.renewal),
            form(c.renewal_tuned),
            written(&c.fluid, 2),
        ];
        row.extend(
            set.machines
                .iter()
                .map(|m| m.speed_up.get(i).map_or("-".to_owned(), |x| format!("{x:.2}"))),
        );
        rows.push(row);
    }
    text += &table::lines(&rows);
    for machine in &set.machines {
        if let Some(best) = machine.best {
            let room = if machine.holds == Some(false) {
                ", whose memory is too small for the weights"
            } else {
                ""
            };
            text += &format!(
                "max speed-up x {:.2} at B {} on {}{room}\n",
                best.speed_up,
                best.budget,
                sanitize_name(&machine.name)
            );
        }
    }
    text.push('\n');
    let head = [
        "drafter",
        "B",
        "steps",
        "E[X|T]",
        "accepted",
        "tokens/step",
        "of fluid",
        "tokens/s",
        "plain",
        "speed-up",
        "of light",
        "",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(set.drafters.iter().map(drafter_cells));
    text += &table::lines(&rows);
    text
}

fn drafter_cells(row: &DrafterRow) -> [String; 12] {
    let timed = |value: fn(&crate::study::table::rows::MeasuredSpeed) -> String| {
        row.timed.as_ref().map_or("-".to_owned(), value)
    };
    let mut mark = match row.from {
        AcceptanceSource::Run => String::new(),
        AcceptanceSource::Largest => "*".to_owned(),
    };
    if row.differing_texts > 0 {
        mark += &format!(" {} texts differ from plain decoding", row.differing_texts);
    }
    [
        row.drafter.clone(),
        row.budget.to_string(),
        row.steps.to_string(),
        written(&row.expected, 2),
        written(&row.accepted, 2),
        written(&row.tokens_per_step, 2),
        row.share.as_ref().map_or("-".into(), percent),
        timed(|t| format!("{:.1}", t.tokens_per_second)),
        timed(|t| format!("{:.1}", t.plain_tokens_per_second)),
        timed(|t| format!("x {}", written(&t.speed_up(), 2))),
        timed(|t| t.speed_of_light.reached().map_or("-".into(), |share| written(&share, 2))),
        mark,
    ]
}

/// Formats the notes below the table.
fn notes(table: &Table) -> String {
    let s = &table.settings;
    let mut text = String::from("\n");
    if table
        .sets
        .iter()
        .flat_map(|set| &set.drafters)
        .any(|row| row.from == AcceptanceSource::Largest)
    {
        text += "* from the steps of the largest budget, whose first nodes are the smaller budget's tree; so the contexts are \
                 those in which the largest budget's steps started.\n";
    }
    text += &format!(
        "tokens/s, plain and speed-up: measured on the texts that were run at that budget: all at the largest, the first {} of \
         each set at the others.\n",
        s.timed
    );
    text += "of light: tokens/s over the speed of light, the upper bound for any drafter on this machine (docs/bounds.md).\n";
    text += "x: upper bound on the speed-up, (1 + fluid) t(1) / t(B), for a perfect drafter at no cost; this machine by measured \
             passes, others as rooflines of bandwidth and arithmetic.\n";
    text += &format!("published: {}; {}.\n", table.published.form, table.published.source);
    for what in &table.published.not_compared {
        text += &format!("not compared: {what}.\n");
    }
    text
}

/// Formats an estimate with its interval, if there is one.
pub fn written(e: &Estimate, digits: usize) -> String {
    match e.interval {
        Some(i) => format!("{:.digits$} [{:.digits$}, {:.digits$}]", e.value, i.low, i.high),
        None => format!("{:.digits$}", e.value),
    }
}

fn percent(e: &Estimate) -> String {
    match e.interval {
        Some(i) => format!("{:.0}% [{:.0}, {:.0}]", 100.0 * e.value, 100.0 * i.low, 100.0 * i.high),
        None => format!("{:.0}%", 100.0 * e.value),
    }
}

/// Formats the table as CSV with one row per quantity.
///
/// Columns: set, temperature, subject (a drafter, a machine, "ceiling" or "text"), budget,
/// quantity, value and interval. Budget and interval are empty if there is none.
pub fn csv(table: &Table) -> String {
    let head = ["set", "temperature", "of", "budget", "quantity", "value", "low", "high"];
    let mut text = format_csv_row(&head);
    for set in &table.sets {
        let mut row = |of: &str, budget: Option<usize>, quantity: &str, value: Option<Estimate>| {
            let Some(e) = value else { return };
            let ends = e.interval.map_or([None, None], |i| [Some(i.low), Some(i.high)]);
            text += &format_csv_row(&[
                set.name.clone(),
                set.temperature.to_string(),
                of.to_owned(),
                budget.map_or(String::new(), |b| b.to_string()),
                quantity.to_owned(),
                number(Some(e.value)),
                number(ends[0]),
                number(ends[1]),
            ]);
        };
        let bare = |value: f64| Some(Estimate { value, interval: None });
        row("text", None, "texts", bare(set.texts as f64));
        row("text", None, "positions", bare(set.positions as f64));
        row("text", None, "mu", Some(set.mu));
        row("text", None, "mu2", Some(set.mu2));
        row("text", None, "plain_tokens_per_second", set.plain_tokens_per_second.and_then(bare));
        for c in &set.ceilings {
            let b = Some(c.budget);
            row("ceiling", b, "batch", bare(c.batch));
            row("ceiling", b, "published", c.published.and_then(bare));
            row("ceiling", b, "renewal", c.renewal.and_then(bare));
            row("ceiling", b, "renewal_tuned", c.renewal_tuned.and_then(bare));
            row("ceiling", b, "fluid", Some(c.fluid));
        }
        for m in &set.machines {
            for (c, x) in set.ceilings.iter().zip(&m.speed_up) {
                row(&m.name, Some(c.budget), "speed_up_ceiling", bare(*x));
            }
        }
        for d in &set.drafters {
            let b = Some(d.budget);
            row(&d.drafter, b, "steps", bare(d.steps as f64));
            row(&d.drafter, b, "expected", Some(d.expected));
            row(&d.drafter, b, "accepted", Some(d.accepted));
            row(&d.drafter, b, "tokens_per_step", Some(d.tokens_per_step));
            row(&d.drafter, b, "share", d.share);
            if let Some(t) = &d.timed {
                row(&d.drafter, b, "tokens_per_second", bare(t.tokens_per_second));
                row(&d.drafter, b, "plain_tokens_per_second", bare(t.plain_tokens_per_second));
                row(&d.drafter, b, "speed_up", Some(t.speed_up()));
                row(&d.drafter, b, "speed_of_light", t.speed_of_light.ceiling());
                row(&d.drafter, b, "share_of_speed_of_light", t.speed_of_light.reached());
            }
        }
    }
    text
}
