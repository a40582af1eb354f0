//! Results of `speclight bench` as text.

use crate::cli::table;
use crate::model::cpu::Stage;
use crate::sanitize::sanitize_name;
use crate::study::bench::{BenchReport, ratios};

/// Formats the result as tables.
pub fn report(report: &BenchReport) -> String {
    let cpu = report.cpu.as_deref().unwrap_or("unknown CPU");
    let mut text = format!(
        "{} {} on {}\n{cpu}: {}\n",
        sanitize_name(&report.model),
        report.quantisation,
        report.device,
        report.cpu_features.join(" ")
    );
    if !report.rounded.is_empty() {
        text.push_str(&format!("{} weights are rounded to Q8_0\n", report.rounded.join(", ")));
    }
    text.push('\n');
    let one = report.t_seconds.get(&1).copied().unwrap_or(f64::NAN);
    let mut rows =
        vec![["B", "t(B) ms", "t(B)/t(1)", "ms/token", "in steps ms", ""].map(str::to_owned)];
    let most = report.t_seconds.values().fold(0f64, |m, &t| m.max(t));
    for (batch, t) in &report.t_seconds {
        let bar = "#".repeat(((t / most * 40.0).round() as usize).max(1));
        rows.push([
            batch.to_string(),
            format!("{:.2}", t * 1e3),
            format!("{:.2}", t / one),
            format!("{:.2}", t * 1e3 / *batch as f64),
            report
                .between_seconds
                .get(batch)
                .map_or_else(String::new, |t| format!("{:.2}", t * 1e3)),
            bar,
        ]);
    }
    text.push_str(&table::lines(&rows));
    text.push('\n');
    let mut rows = vec![[
        "plain decoding".to_owned(),
        format!("{:.1} tokens/s", report.decode_tokens_per_second),
    ]];
    for (tokens, t) in &report.prefill_seconds {
        rows.push([
            format!("prompt of {tokens} tokens"),
            format!("{:.1} ms, {:.0} tokens/s", t * 1e3, *tokens as f64 / t),
        ]);
    }
    for (tokens, t) in &report.context_seconds {
        rows.push([format!("one token, context {tokens}"), format!("{:.2} ms", t * 1e3)]);
    }
    if let Some(t) = report.early_exit_seconds {
        rows.push(["early-exit, per depth".to_owned(), format!("{:.2} ms", t * 1e3)]);
    }
    if let (Some(t), Some(one)) = (report.eagle_seconds, report.t_seconds.get(&1)) {
        rows.push([
            "eagle, per depth".to_owned(),
            format!("{:.2} ms, {:.1}% of t(1)", t * 1e3, 100.0 * t / one),
        ]);
    }
    rows.push([
        "memory bandwidth".to_owned(),
        format!("{:.1} GB/s", report.bandwidth_bytes_per_second / 1e9),
    ]);
    let share = report.memory_share();
    // Faster than the memory: the weights are read from the caches, and this limit is none.
    let reached = if share > 1.0 {
        "exceeded, the weights stay in the CPU's caches".to_owned()
    } else {
        format!("{:.0}% reached", share * 100.0)
    };
    rows.push([
        "memory-bound limit".to_owned(),
        format!(
            "{:.1} tokens/s for {:.1} MB per token; {reached}",
            report.bandwidth_bytes_per_second / report.weight_bytes_per_token as f64,
            report.weight_bytes_per_token as f64 / 1e6,
        ),
    ]);
    text.push_str(&table::lines(&rows));
    text.push_str(&stages(report));
    text
}

/// Formats the time of passes by stage, with a column for each size.
fn stages(report: &BenchReport) -> String {
    let of = |n: &usize, stage: Stage| report.stage_seconds.get(n)?.get(stage.name()).copied();
    let sizes = report.stage_seconds.keys();
    if sizes.len() == 0 {
        return String::new();
    }
    let mut rows = vec![vec!["by stage".to_owned()]];
    rows[0].extend(sizes.clone().map(|n| format!("ms of t({n})")));
    for stage in Stage::ALL {
        let mut row = vec![stage.name().to_owned()];
        row.extend(
            sizes
                .clone()
                .map(|n| of(n, stage).map_or_else(String::new, |t| format!("{:.3}", t * 1e3))),
        );
        rows.push(row);
    }
    format!("\n{}", table::lines(&rows))
}

/// Formats the ratio of new to old median for everything that both results measured.
///
/// Each ratio has its 95% interval.
pub fn comparison(old: &BenchReport, new: &BenchReport) -> String {
    let mut text = format!(
        "\ncompared with {} {} on {} (speclight {})\n",
        sanitize_name(&old.model),
        sanitize_name(&old.quantisation),
        sanitize_name(&old.device),
        sanitize_name(&old.version)
    );
    if old.cpu != new.cpu || old.threads != new.threads {
        text.push_str("the CPU or the thread count differs, which also affects the ratios\n");
    }
    let mut rows = vec![["", "before", "now", "ratio", "95% interval"].map(str::to_owned)];
    for ratio in ratios(old, new) {
        let mark = if ratio.is_significant() { "" } else { " (not significant)" };
        rows.push([
            ratio.name,
            format!("{:.4e}", ratio.before),
            format!("{:.4e}", ratio.now),
            format!("{:.3}", ratio.now / ratio.before),
            format!("{:.3} to {:.3}{mark}", ratio.low, ratio.high),
        ]);
    }
    text.push_str(&table::lines(&rows));
    text
}
