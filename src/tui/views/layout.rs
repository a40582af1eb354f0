//! Layout of the monitor, recomputed for every screen size.

use ratatui::layout::Rect;

use crate::telemetry::StepSettings;
use crate::tui::{GaugeUnit, Pane, State};

/// Minimum screen size in cells, width and height; below it only a message is drawn.
pub const MIN_SCREEN: (u16, u16) = (40, 12);

/// Layout variant, chosen by screen size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutVariant {
    /// Text or the focused pane, the gauge, and one line each for the other figures.
    Compact,
    /// One column of panes.
    Tall,
    /// Two columns of panes.
    Normal,
    /// Two columns, including the ladder of losses.
    Wide,
    /// Three columns with all panes except calibration, and definitions.
    Huge,
}

/// Positions of everything on the screen.
#[derive(Clone, Debug, PartialEq)]
pub struct ScreenLayout {
    /// Layout variant that was chosen.
    pub form: LayoutVariant,
    /// Two rows for model, settings, and run state.
    pub header: Rect,
    /// One row for keys or a message.
    pub footer: Rect,
    /// Speed-of-light bar, in place of the gauge or above all panes.
    pub light: Option<Rect>,
    /// Visible panes with their areas, titles included.
    pub panes: Vec<(Pane, Rect)>,
    /// Vertical lines between columns.
    pub rules: Vec<Rect>,
    /// Three rows for accepted length, entropy, and speed.
    pub figures: Option<Rect>,
    /// Legend of glyphs and definitions.
    pub legend: Option<Rect>,
}

/// Area from which rows are taken off the top.
struct Column(Rect);

impl Column {
    fn take(&mut self, rows: u16) -> Rect {
        let rows = rows.min(self.0.height);
        let taken = Rect { height: rows, ..self.0 };
        self.0 = Rect { y: self.0.y + rows, height: self.0.height - rows, ..self.0 };
        taken
    }

    fn rest(&mut self) -> Rect {
        self.take(self.0.height)
    }
}

/// Cuts an area into columns of the given widths and one of the remaining width. Between neighbors
/// lies a rule of one column.
fn columns(area: Rect, widths: &[u16], rules: &mut Vec<Rect>) -> Vec<Column> {
    let mut x = area.x;
    let mut out = Vec::new();
    for &width in widths {
        out.push(Column(Rect { x, width: width.min(area.right().saturating_sub(x)), ..area }));
        x = (x + width + 1).min(area.right());
        rules.push(Rect { x: x.saturating_sub(1), width: 1, ..area });
    }
    out.push(Column(Rect { x, width: area.right().saturating_sub(x), ..area }));
    out
}

/// Returns the layout variant for a screen of this size.
fn form(width: u16, height: u16) -> LayoutVariant {
    match (width, height) {
        (w, h) if w >= 160 && h >= 44 => LayoutVariant::Huge,
        (w, h) if w >= 108 && h >= 34 => LayoutVariant::Wide,
        (w, h) if w >= 76 && h >= 22 => LayoutVariant::Normal,
        (w, h) if w >= 40 && h >= 42 => LayoutVariant::Tall,
        _ => LayoutVariant::Compact,
    }
}

/// Returns the focused pane if it has no place of its own. It then replaces others while focused.
fn guest(focus: Pane, homeless: &[Pane]) -> Option<Pane> {
    homeless.contains(&focus).then_some(focus)
}

/// Computes the layout for a screen area and a state.
pub fn places(area: Rect, state: &State) -> ScreenLayout {
    let form = form(area.width, area.height);
    let mut all = Column(area);
    let header = all.take(2);
    let footer = Rect { y: area.bottom().saturating_sub(1), height: 1.min(area.height), ..area };
    let mut main = Column(Rect { height: all.0.height.saturating_sub(1), ..all.0 });
    let (mut panes, mut rules, mut figures, mut legend) = (Vec::new(), Vec::new(), None, None);
    let per_second = state.unit == GaugeUnit::PerSecond;
    if state.zoom {
        let rest = main.rest();
        let light = (per_second && state.focus == Pane::Gauge).then_some(rest);
        if light.is_none() {
            panes.push((state.focus, rest));
        }
        return ScreenLayout { form, header, footer, light, panes, rules, figures, legend };
    }
    let light = per_second.then(|| main.take(bar_rows(form, main.0.height)));
    // Tokens per step refer to one budget: shown beside the bar if both fit and the budget is
    // fixed.
    let fixed = !state.settings.as_ref().is_some_and(StepSettings::automatic);
    let gauge = !per_second
        || form == LayoutVariant::Huge
        || (fixed && matches!(form, LayoutVariant::Wide | LayoutVariant::Tall));
    let height = main.0.height;
    match form {
        LayoutVariant::Compact => {
            let focus = if state.focus == Pane::Gauge { Pane::Text } else { state.focus };
            let gauge = match (per_second, height >= 12) {
                (true, _) => 0,
                (false, true) => 4,
                (false, false) => 3,
            };
            // Tables and plots also need the rows of the figures.
            let rows = if [Pane::Text, Pane::Tree].contains(&focus) { 3 } else { 0 };
            let first = main.take(height.saturating_sub(gauge + rows));
            panes.push((focus, first));
            panes.push((Pane::Gauge, main.take(gauge)));
            figures = Some(main.rest()).filter(|r| !r.is_empty());
        }
        LayoutVariant::Tall => {
            panes.push((Pane::Text, main.take(height * 24 / 100)));
            panes.push((Pane::Tree, main.take(height * 28 / 100)));
            panes.push((Pane::Gauge, main.take(if gauge { 6 } else { 0 })));
            panes.push((Pane::Speed, main.take(4)));
            match guest(
                state.focus,
                &[Pane::Ladder, Pane::Curve, Pane::Misses, Pane::Calibration, Pane::Steps],
            ) {
                Some(guest) => panes.push((guest, main.rest())),
                None => {
                    panes.push((Pane::Accepted, main.take(6)));
                    panes.push((Pane::Entropy, main.rest()));
                }
            }
        }
        LayoutVariant::Normal => {
            let top = main.take(height - if gauge { 5 } else { 0 });
            let left = (area.width - 1) * 51 / 100;
            let mut cut = columns(top, &[left], &mut rules);
            if let [left, right] = cut.as_mut_slice() {
                panes.push((Pane::Text, left.take(top.height * 40 / 100)));
                panes.push((Pane::Tree, left.rest()));
                match guest(
                    state.focus,
                    &[Pane::Ladder, Pane::Curve, Pane::Misses, Pane::Calibration, Pane::Steps],
                ) {
                    Some(guest) => panes.push((guest, right.take(top.height.saturating_sub(4)))),
                    None => {
                        panes.push((Pane::Entropy, right.take(top.height.saturating_sub(10))));
                        panes.push((Pane::Accepted, right.take(6)));
                    }
                }
                panes.push((Pane::Speed, right.rest()));
            }
            panes.push((Pane::Gauge, main.rest()));
        }
        LayoutVariant::Wide => {
            let top = main.take(height - if gauge { 7 } else { 0 });
            let left = (area.width - 1) * 52 / 100;
            let mut cut = columns(top, &[left], &mut rules);
            if let [left, right] = cut.as_mut_slice() {
                panes.push((Pane::Text, left.take(top.height * 38 / 100)));
                panes.push((Pane::Tree, left.rest()));
                let ladder = (top.height * 36 / 100).clamp(11, 13);
                panes.push((Pane::Entropy, right.take(top.height.saturating_sub(12 + ladder))));
                panes.push((Pane::Accepted, right.take(7)));
                panes.push((Pane::Speed, right.take(5)));
                let guest = guest(
                    state.focus,
                    &[Pane::Curve, Pane::Misses, Pane::Calibration, Pane::Steps],
                );
                panes.push((guest.unwrap_or(Pane::Ladder), right.rest()));
            }
            panes.push((Pane::Gauge, main.rest()));
        }
        LayoutVariant::Huge => {
            let top = main.take(height - 11);
            let third = (area.width - 2) / 3;
            let mut cut = columns(top, &[third, third], &mut rules);
            let part = |percent: u16| top.height * percent / 100;
            if let [left, middle, right] = cut.as_mut_slice() {
                panes.push((Pane::Text, left.take(part(42))));
                panes.push((Pane::Entropy, left.take(part(22))));
                panes.push((Pane::Misses, left.rest()));
                panes.push((Pane::Tree, middle.take(part(52))));
                panes.push((Pane::Ladder, middle.take(12)));
                panes.push((Pane::Steps, middle.rest()));
                panes.push((Pane::Accepted, right.take(part(24))));
                panes.push((Pane::Speed, right.take(part(36))));
                let guest = guest(state.focus, &[Pane::Calibration]);
                panes.push((guest.unwrap_or(Pane::Curve), right.rest()));
            }
            let mut bottom = columns(main.rest(), &[2 * third + 1], &mut rules);
            if let [gauge, words] = bottom.as_mut_slice() {
                panes.push((Pane::Gauge, gauge.rest()));
                legend = Some(words.rest());
            }
        }
    }
    panes.retain(|(_, rect)| !rect.is_empty());
    ScreenLayout { form, header, footer, light, panes, rules, figures, legend }
}

/// Rows of the speed-of-light bar: headline, bar, marks, and losses if there is room.
fn bar_rows(form: LayoutVariant, height: u16) -> u16 {
    match form {
        LayoutVariant::Compact if height < 12 => 3,
        LayoutVariant::Compact | LayoutVariant::Normal => 4,
        LayoutVariant::Tall | LayoutVariant::Wide | LayoutVariant::Huge => 5,
    }
}
