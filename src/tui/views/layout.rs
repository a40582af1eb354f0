//! Layout of the monitor, recomputed for every screen size: each view arranges panes in columns.

use ratatui::layout::Rect;

use crate::telemetry::StepSettings;
use crate::tui::{GaugeUnit, Pane, State, View};

/// Minimum screen size in cells, width and height; below it only a message is drawn.
pub const MIN_SCREEN: (u16, u16) = (40, 12);

/// Layout variant, chosen by screen size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutVariant {
    /// Text or the focused pane, the gauge, and one line each for the other figures.
    Compact,
    /// One column of panes.
    Tall,
    /// One or two columns of panes.
    Normal,
    /// Two columns of panes.
    Wide,
    /// Three columns, and definitions.
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
    /// One row with the names of the views.
    pub tabs: Option<Rect>,
    /// One row of advice, above the footer.
    pub advice: Option<Rect>,
    /// Visible panes with their areas, titles included.
    pub panes: Vec<(Pane, Rect)>,
    /// Vertical lines between columns.
    pub rules: Vec<Rect>,
    /// Three rows for accepted length, entropy, and speed.
    pub figures: Option<Rect>,
    /// Legend of glyphs and definitions.
    pub legend: Option<Rect>,
    /// Timeline above the footer.
    pub timeline: Option<Rect>,
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

    fn take_last(&mut self, rows: u16) -> Rect {
        let rows = rows.min(self.0.height);
        self.0.height -= rows;
        Rect { y: self.0.bottom(), height: rows, ..self.0 }
    }

    fn rest(&mut self) -> Rect {
        self.take(self.0.height)
    }
}

/// Height of a pane in its column.
#[derive(Clone, Copy, Debug)]
enum Rows {
    /// Number of rows, title included.
    Fixed(u16),
    /// Weight in the division of the rows that panes of fixed height leave.
    Share(u16),
}

use Rows::{Fixed, Share};

/// Panes of one column, from the top, and its share of the width in percent.
struct ColumnPlan {
    percent: u16,
    panes: &'static [(Pane, Rows)],
}

const fn column(percent: u16, panes: &'static [(Pane, Rows)]) -> ColumnPlan {
    ColumnPlan { percent, panes }
}

/// Columns of a view, and the place for a focused pane without a place.
///
/// Such a pane takes the places from pane `guest` of the last column down.
struct Arrangement {
    columns: &'static [ColumnPlan],
    guest: usize,
}

/// Arranges the panes of a view for a layout variant.
///
/// The compact variant shows a single pane.
fn arrangement(view: View, form: LayoutVariant) -> Arrangement {
    use Pane::{
        Accepted, Advice, Calibration, Curve, Entropy, Gauge, Ladder, Miss, Misses, Race, Rates,
        Runs, Speed, Steps, Text, Tree,
    };
    let (columns, guest): (&'static [ColumnPlan], usize) = match (view, form) {
        (View::Watch, LayoutVariant::Huge) => (
            const {
                &[
                    column(37, &[(Text, Share(30)), (Tree, Share(45)), (Entropy, Share(25))]),
                    column(31, &[(Gauge, Fixed(7)), (Accepted, Fixed(9)), (Rates, Share(100))]),
                    column(
                        32,
                        &[
                            (Miss, Fixed(12)),
                            (Advice, Fixed(7)),
                            (Ladder, Fixed(13)),
                            (Steps, Share(100)),
                        ],
                    ),
                ]
            },
            3,
        ),
        (View::Watch, LayoutVariant::Wide) => (
            const {
                &[
                    column(58, &[(Text, Share(34)), (Tree, Share(42)), (Entropy, Share(24))]),
                    column(
                        42,
                        &[
                            (Gauge, Fixed(5)),
                            (Accepted, Fixed(6)),
                            (Miss, Share(100)),
                            (Advice, Fixed(5)),
                        ],
                    ),
                ]
            },
            2,
        ),
        (View::Watch, LayoutVariant::Tall) => (
            const {
                &[column(
                    100,
                    &[
                        (Text, Share(30)),
                        (Tree, Share(36)),
                        (Gauge, Fixed(6)),
                        (Miss, Fixed(5)),
                        (Accepted, Fixed(6)),
                        (Entropy, Share(34)),
                    ],
                )]
            },
            3,
        ),
        (View::Watch, _) => {
            (const { &[column(100, &[(Text, Share(34)), (Tree, Share(66)), (Miss, Fixed(4))])] }, 1)
        }
        (View::Tree, LayoutVariant::Huge) => (
            const {
                &[
                    column(70, &[(Tree, Share(76)), (Text, Share(24))]),
                    column(30, &[(Miss, Fixed(13)), (Calibration, Share(60)), (Steps, Share(40))]),
                ]
            },
            1,
        ),
        (View::Tree, LayoutVariant::Wide) => {
            (const { &[column(100, &[(Tree, Share(66)), (Miss, Share(34))])] }, 1)
        }
        (View::Tree, LayoutVariant::Tall) => (
            const { &[column(100, &[(Tree, Share(70)), (Miss, Fixed(10)), (Text, Share(30))])] },
            1,
        ),
        (View::Tree, _) => (const { &[column(100, &[(Tree, Share(100)), (Miss, Fixed(4))])] }, 0),
        (View::Losses, LayoutVariant::Huge) => (
            const {
                &[
                    column(33, &[(Ladder, Fixed(14)), (Advice, Share(100))]),
                    column(34, &[(Gauge, Fixed(8)), (Curve, Share(100))]),
                    column(33, &[(Misses, Share(55)), (Calibration, Share(45))]),
                ]
            },
            1,
        ),
        (View::Losses, LayoutVariant::Wide) => (
            const {
                &[
                    column(50, &[(Ladder, Fixed(13)), (Advice, Share(100))]),
                    column(50, &[(Gauge, Fixed(5)), (Curve, Share(100))]),
                ]
            },
            1,
        ),
        (View::Losses, LayoutVariant::Tall) => (
            const {
                &[column(
                    100,
                    &[
                        (Ladder, Fixed(12)),
                        (Gauge, Fixed(6)),
                        (Advice, Fixed(6)),
                        (Curve, Share(100)),
                    ],
                )]
            },
            3,
        ),
        (View::Losses, _) => (
            const {
                &[
                    column(52, &[(Ladder, Share(100))]),
                    column(48, &[(Curve, Share(100)), (Advice, Fixed(5))]),
                ]
            },
            0,
        ),
        (View::Speed, LayoutVariant::Huge) => (
            const {
                &[
                    column(50, &[(Speed, Share(100))]),
                    column(
                        50,
                        &[
                            (Advice, Fixed(10)),
                            (Accepted, Fixed(10)),
                            (Entropy, Share(40)),
                            (Steps, Share(60)),
                        ],
                    ),
                ]
            },
            2,
        ),
        (View::Speed, LayoutVariant::Wide) => (
            const {
                &[
                    column(54, &[(Speed, Share(100))]),
                    column(46, &[(Advice, Fixed(8)), (Accepted, Fixed(7)), (Entropy, Share(100))]),
                ]
            },
            2,
        ),
        (View::Speed, LayoutVariant::Tall) => (
            const {
                &[column(
                    100,
                    &[
                        (Speed, Share(60)),
                        (Advice, Fixed(6)),
                        (Accepted, Fixed(6)),
                        (Entropy, Share(40)),
                    ],
                )]
            },
            3,
        ),
        (View::Speed, _) => (
            const {
                &[
                    column(52, &[(Speed, Share(100))]),
                    column(48, &[(Accepted, Share(50)), (Advice, Share(50))]),
                ]
            },
            0,
        ),
        (View::Misses, LayoutVariant::Huge) => (
            const {
                &[
                    column(33, &[(Miss, Fixed(13)), (Misses, Share(100))]),
                    column(34, &[(Rates, Share(100))]),
                    column(33, &[(Steps, Share(60)), (Calibration, Share(40))]),
                ]
            },
            1,
        ),
        (View::Misses, LayoutVariant::Wide) => (
            const {
                &[
                    column(50, &[(Miss, Fixed(11)), (Misses, Share(100))]),
                    column(50, &[(Rates, Share(70)), (Steps, Share(30))]),
                ]
            },
            1,
        ),
        (View::Misses, LayoutVariant::Tall) => (
            const { &[column(100, &[(Miss, Fixed(10)), (Rates, Share(55)), (Misses, Share(45))])] },
            2,
        ),
        (View::Misses, _) => {
            (const { &[column(46, &[(Miss, Share(100))]), column(54, &[(Rates, Share(100))])] }, 0)
        }
        (View::Race, _) => (const { &[column(100, &[(Race, Share(60)), (Speed, Share(40))])] }, 1),
        (View::Runs, _) => (const { &[column(100, &[(Runs, Share(60)), (Speed, Share(40))])] }, 1),
    };
    Arrangement { columns, guest }
}

impl View {
    /// Returns the panes of the view in the order in which they get the focus.
    ///
    /// At small sizes those without a place of their own are shown while they have the focus.
    pub fn panes(self) -> Vec<Pane> {
        let mut panes: Vec<Pane> = Vec::new();
        for form in [LayoutVariant::Huge, LayoutVariant::Wide, LayoutVariant::Normal] {
            for (pane, _) in arrangement(self, form).columns.iter().flat_map(|column| column.panes)
            {
                if !panes.contains(pane) {
                    panes.push(*pane);
                }
            }
        }
        panes
    }
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

/// Places the panes of a column.
///
/// Shares divide the rows that panes of fixed height leave.
fn stack(area: Rect, slots: &[(Pane, Rows)], panes: &mut Vec<(Pane, Rect)>) {
    let mut column = Column(area);
    let fixed: u16 =
        slots.iter().map(|(_, rows)| if let Fixed(rows) = rows { *rows } else { 0 }).sum();
    let mut shares: u16 =
        slots.iter().map(|(_, rows)| if let Share(share) = rows { *share } else { 0 }).sum();
    let mut left = area.height.saturating_sub(fixed);
    for (i, (pane, rows)) in slots.iter().enumerate() {
        let rows = match *rows {
            // Without shares the last one takes the rest.
            Fixed(_) if i + 1 == slots.len() => column.0.height,
            Fixed(rows) => rows,
            Share(share) => {
                let own = (u32::from(left) * u32::from(share) / u32::from(shares.max(1))) as u16;
                (left, shares) = (left - own, shares - share);
                own
            }
        };
        panes.push((*pane, column.take(rows)));
    }
}

/// Computes the layout for a screen area and a state.
pub fn places(area: Rect, state: &State) -> ScreenLayout {
    let form = form(area.width, area.height);
    let mut all = Column(area);
    let header = all.take(2);
    let footer = all.take_last(1);
    let timeline = timeline_rows(form).map(|rows| all.take_last(rows));
    let mut main = all;
    let (mut panes, mut rules, mut figures, mut legend) = (Vec::new(), Vec::new(), None, None);
    let per_second = state.unit == GaugeUnit::PerSecond;
    if state.zoom {
        let rest = main.rest();
        let light = (per_second && state.focus == Pane::Gauge).then_some(rest);
        if light.is_none() {
            panes.push((state.focus, rest));
        }
        return ScreenLayout {
            form,
            header,
            footer,
            light,
            tabs: None,
            advice: None,
            panes,
            rules,
            figures,
            legend,
            timeline,
        };
    }
    let light = per_second.then(|| main.take(bar_rows(form, main.0.height)));
    let (mut tabs, mut advice) = (None, None);
    if form == LayoutVariant::Compact {
        let height = main.0.height;
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
    } else {
        tabs = Some(main.take(1));
        advice = Some(main.take_last(1));
        // Tokens per step refer to one budget: shown beside the bar if the budget is fixed.
        let fixed = !state.settings.as_ref().is_some_and(StepSettings::automatic);
        let Arrangement { columns, guest } = arrangement(state.view, form);
        let gauge_wanted = !per_second || fixed;
        let placed = columns.iter().flat_map(|c| c.panes).any(|(pane, _)| *pane == Pane::Gauge);
        if form == LayoutVariant::Huge && state.view == View::Watch {
            legend = Some(main.take_last(3));
        }
        if !per_second && !placed {
            panes.push((Pane::Gauge, main.take_last(5)));
        }
        let (mut x, inner) = (main.0.x, main.0);
        for (i, plan) in columns.iter().enumerate() {
            let last = i + 1 == columns.len();
            let width = match last {
                true => inner.right().saturating_sub(x),
                false => (u32::from(inner.width) * u32::from(plan.percent) / 100) as u16,
            };
            let area = Rect { x, width: width.min(inner.right().saturating_sub(x)), ..inner };
            let mut slots: Vec<(Pane, Rows)> = plan
                .panes
                .iter()
                .copied()
                .filter(|(p, _)| *p != Pane::Gauge || gauge_wanted)
                .collect();
            let homeless = state.focus != Pane::Gauge
                && !columns
                    .iter()
                    .flat_map(|column| column.panes)
                    .any(|(pane, _)| *pane == state.focus);
            if last && homeless {
                let hidden = plan
                    .panes
                    .iter()
                    .take(guest)
                    .filter(|(p, _)| *p == Pane::Gauge && !gauge_wanted)
                    .count();
                slots.truncate(guest - hidden);
                slots.push((state.focus, Share(100)));
            }
            stack(area, &slots, &mut panes);
            if !last {
                rules.push(Rect { x: area.right(), width: 1, ..inner });
            }
            x = (area.right() + 1).min(inner.right());
        }
    }
    panes.retain(|(_, rect)| !rect.is_empty());
    ScreenLayout {
        form,
        header,
        footer,
        light,
        tabs,
        advice,
        panes,
        rules,
        figures,
        legend,
        timeline,
    }
}

/// Rows of the timeline, its title included; none where the panes need all rows.
fn timeline_rows(form: LayoutVariant) -> Option<u16> {
    match form {
        LayoutVariant::Compact => None,
        LayoutVariant::Normal | LayoutVariant::Tall => Some(2),
        LayoutVariant::Wide => Some(3),
        LayoutVariant::Huge => Some(4),
    }
}

/// Rows of the speed-of-light bar: headline, bar, marks, and losses if there is room.
fn bar_rows(form: LayoutVariant, height: u16) -> u16 {
    match form {
        LayoutVariant::Compact if height < 12 => 3,
        LayoutVariant::Compact | LayoutVariant::Normal => 4,
        LayoutVariant::Tall | LayoutVariant::Wide | LayoutVariant::Huge => 5,
    }
}
