//! Frames of a replay without a terminal, for exports.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::player::PlayPace;
use super::{State, replay};
use crate::engine::{Event, Recorded};
use crate::tui::theme::Theme;
use crate::tui::views::draw;

/// Minimum time between two frames.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// Look and pace of the frames of an animation.
pub struct Film<'a> {
    /// Theme of the screen.
    pub theme: &'a Theme,
    /// Columns and rows of the screen.
    pub size: (u16, u16),
    /// Speed of the animation.
    pub pace: PlayPace,
    /// Number of steps before the first frame, which take no time.
    pub skip: usize,
}

impl Film<'_> {
    /// Draws a state at the size of the frames.
    pub fn screen(&self, state: &State) -> Buffer {
        let area = Rect::new(0, 0, self.size.0, self.size.1);
        let mut buffer = Buffer::empty(area);
        draw(state, self.theme, area, &mut buffer);
        buffer
    }

    /// Plays events and passes each frame, with its time from the first one, to `frame`.
    ///
    /// Returns the time of the last frame.
    ///
    /// # Errors
    /// Those of `frame`.
    pub fn play<E>(
        &self,
        events: impl Iterator<Item = (Duration, Recorded)>,
        mut frame: impl FnMut(Duration, &Buffer) -> Result<(), E>,
    ) -> Result<Duration, E> {
        let (mut state, mut before, mut steps) = (State::new(1), Duration::ZERO, 0);
        // Time within the film, earliest time of the next frame, and time since which one is due.
        let (mut now, mut next, mut due) = (Duration::ZERO, Duration::ZERO, None::<Duration>);
        for (at, recorded) in events {
            if steps >= self.skip {
                now += self.pace.wait(before, at, &recorded);
            }
            before = at;
            if let Some(since) = due.filter(|since| now > next.max(*since)) {
                let time = next.max(since);
                frame(time, &self.screen(&state))?;
                (next, due) = (time + FRAME_INTERVAL, None);
            }
            steps += usize::from(matches!(recorded, Recorded::Event(Event::Step(_))));
            replay::apply(&mut state, at, recorded);
            if steps >= self.skip {
                due = due.or(Some(now));
            }
        }
        let last = next.max(now);
        frame(last, &self.screen(&state))?;
        Ok(last)
    }
}

/// Frame of a film: the cells of a screen.
pub type FilmFrame = Buffer;

/// Returns the state after `steps` steps, or after all events.
///
/// Events that belong to the last step, such as its oracle search, are included.
pub fn state_at(events: impl Iterator<Item = (Duration, Recorded)>, steps: Option<usize>) -> State {
    let (mut state, mut count) = (State::new(1), 0);
    for (at, recorded) in events {
        if matches!(recorded, Recorded::Event(Event::Step(_))) {
            if steps.is_some_and(|steps| count >= steps) {
                break;
            }
            count += 1;
        }
        replay::apply(&mut state, at, recorded);
    }
    state
}
