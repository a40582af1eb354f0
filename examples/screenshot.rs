//! Draws the monitor's screen over made-up steps as SVG: `cargo run --example screenshot -- WIDTH HEIGHT [THEME]`.

#[path = "../tests/common/script.rs"]
mod script;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use speclight::app::{Msg, State, update};
use speclight::theme::{Depth, Terminal, Theme};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut number = |default: u16| args.next().map_or(Ok(default), |a| a.parse());
    let (width, height) = (number(120)?, number(40)?);
    let name = args.next().unwrap_or_else(|| "dark".into());
    let ascii = name == "mono";
    let terminal = Terminal { depth: Depth::True, ascii, folder: None };
    let theme = Theme::load(&name, &terminal)?;
    let keys = args.next().unwrap_or_default();
    let temperature = args.next().map_or(Ok(1.0), |a| a.parse())?;
    let budget = args.next().map_or(Ok(16), |a| a.parse())?;
    let mut state = State::new(1);
    let mut script = script::Script::new(7);
    for event in script.events(&script::settings("early-exit", budget, temperature), 70) {
        update(&mut state, Msg::Engine(event));
    }
    for c in keys.chars() {
        let code = match c {
            '<' => crossterm::event::KeyCode::Left,
            '|' => crossterm::event::KeyCode::Tab,
            c => crossterm::event::KeyCode::Char(c),
        };
        update(&mut state, Msg::Key(code.into()));
    }
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    speclight::ui::draw(&state, &theme, area, &mut buffer);
    println!("{}", speclight::export::svg(&buffer, &theme));
    Ok(())
}
