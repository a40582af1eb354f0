//! Replays of recordings: the frames of the live run, keys, and hostile bytes.

use std::io::Read;
use std::sync::mpsc;
use std::time::Duration;

use ratatui::buffer::Buffer;
use speclight::engine::{Event, EventReader, Pace, Recorded, Recorder, RunContext};
use speclight::telemetry::StepSettings;
use speclight::telemetry::recording::{Entry, LIVE_LEVEL, RecordingEnd, Scan, Writer, scan};
use speclight::tui::theme::Theme;
use speclight::tui::{
    Ahead, Config, Effect, Film, Monitor, Msg, Picture, PlayCommand, PlayPace, Played, Replay,
    Screen, Source, State, apply, play, state_at, update,
};

use crate::script::{Script, settings};
use crate::{drawn, key_of, text, theme};

/// Returns the events of a run with a pause, a rejected command, and a change of settings.
fn events() -> Vec<Event> {
    let first = settings("early-exit", 16, 1.0);
    let second = StepSettings { budget: 8, ..first.clone() };
    let mut script = Script::new(7);
    let mut events = script.events(&first, 40);
    events.extend([Event::Paused, Event::Resumed]);
    events.push(Event::Refused("there is no prompt 9: the list has 2, from 0".into()));
    events.push(Event::Settings(second.clone()));
    for _ in 0..25 {
        let record = script.step(&second);
        let searched = script.search_event(&record);
        events.push(Event::Step(record));
        events.extend(searched);
    }
    events.push(Event::Finished);
    events
}

/// Time of each event: uneven, so that the speed of light is evaluated at some of them only.
fn time(i: usize) -> Duration {
    Duration::from_nanos(37_123_457 * i as u64 + 400_000_000 * (i as u64 / 7))
}

/// Records the events as the monitor would; returns the bytes.
fn recorded() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.rec");
    let recorder = Recorder::start(&path, RunContext { max_tokens: 256, ..RunContext::default() });
    let recorder = recorder.unwrap();
    events().iter().enumerate().for_each(|(i, event)| recorder.event(time(i), event));
    std::fs::read(recorder.finish().unwrap()).unwrap()
}

fn screens(state: &State, theme: &Theme) -> Vec<Buffer> {
    [(120, 40), (80, 24), (40, 12)].map(|(w, h)| drawn(state, theme, w, h)).to_vec()
}

#[test]
fn a_replay_shows_the_frames_of_the_live_run_cell_by_cell() {
    let theme = theme("dark", false);
    let bytes = recorded();
    let mut replayed = EventReader::new(&bytes[..]).unwrap();
    let (mut live, mut replay) = (State::new(1), State::new(1));
    let mut frames = 0;
    for (i, event) in events().into_iter().enumerate() {
        update(&mut live, Msg::Tick(time(i)));
        update(&mut live, Msg::Engine(event));
        let (at, recorded) = replayed.next().unwrap();
        assert_eq!(at, time(i));
        apply(&mut replay, at, recorded);
        if i % 3 == 0 || i > 60 {
            assert_eq!(screens(&live, &theme), screens(&replay, &theme), "event {i}");
            frames += 1;
        }
    }
    assert!(frames > 40 && replayed.next().is_none());
    assert_eq!(replayed.end(), Some(&RecordingEnd::Whole));
    assert!(text(&drawn(&replay, &theme, 120, 40)).contains("B 8"));
}

/// Returns a state as a replay shows it: without messages of keys and without the `rec` sign.
fn without_messages(state: &State) -> State {
    State { notice: None, recording: false, ..state.clone() }
}

#[test]
fn a_replay_of_a_slow_start_shows_the_pace_of_the_live_run() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(&folder.path().join("run.rec"), RunContext::default()).unwrap();
    let theme = theme("dark", false);
    let start = State { slow_start: Some(0), ..State::new(1) };
    let mut live = Monitor::new(start, Some(recorder), RunContext::default(), Picture::Svg);
    let mut frames = Vec::new();
    for (i, event) in events().into_iter().enumerate() {
        live.update(Msg::Tick(time(i)));
        live.update(Msg::Engine(event));
        for key in match i {
            20 => &[">"][..],
            30 => &["<", "<"],
            _ => &[],
        } {
            live.update(Msg::Key(key_of(key)));
        }
        frames.push(screens(&without_messages(live.state()), &theme));
    }
    // Ends the recording.
    live.update(Msg::Key(key_of("R")));
    let mut replayed = EventReader::open(&folder.path().join("run.rec")).unwrap().peekable();
    let (mut replay, mut labels, mut notices) = (State::new(1), Vec::new(), Vec::new());
    for (i, frame) in frames.iter().enumerate() {
        while let Some((at, recorded)) = replayed.next_if(|(at, _)| *at <= time(i)) {
            apply(&mut replay, at, recorded);
            notices.extend(replay.notice.clone().map(|notice| notice.text));
        }
        assert_eq!(frame, &screens(&without_messages(&replay), &theme), "event {i}");
        labels.push(text(&drawn(&replay, &theme, 80, 24)).lines().next().unwrap().to_owned());
    }
    for label in ["▶ 4 steps/s", "▶ 8 steps/s", "▶ 2 steps/s"] {
        assert!(labels.iter().any(|line| line.contains(label)), "{label}: {labels:#?}");
    }
    assert!(notices.iter().any(|notice| notice.starts_with("slow start")), "{notices:?}");
}

#[test]
fn keys_of_the_configuration_work_in_a_replay_and_its_pace_is_not_the_recorded_one() {
    let config = "[keys]\nslower = \"a\"\nfaster = \"s\"\nagain = \"F5\"\nquit = \"x\"\n";
    let keys = std::sync::Arc::new(Config::parse("config.toml", config).unwrap().keys);
    let state = State { keys, ..State::new(1) };
    let mut replay = Replay::new(
        "run.rec",
        Scan::default(),
        PlayPace::Steps(4.0),
        state,
        Ahead::default(),
        Picture::Svg,
    );
    let pace = |pace, slow_start| Recorded::Pace { pace, slow_start };
    for recorded in [pace(Pace::PerSecond(16), None)]
        .into_iter()
        .chain(events().into_iter().take(30).map(Recorded::Event))
    {
        replay.update(Msg::Engine(Played::Recorded(Duration::ZERO, recorded)));
    }
    let faster = replay.update(Msg::Key(key_of("s")));
    assert_eq!(faster, [Effect::Engine(PlayCommand::Pace(PlayPace::Steps(8.0)))]);
    assert!(replay.update(Msg::Key(key_of(">"))).is_empty(), "no longer a key");
    for key in [":", "p", "a", "c", "e", "space", "1", "6", "Enter"] {
        let effects = replay.update(Msg::Key(key_of(key)));
        let sixteen = Effect::Engine(PlayCommand::Pace(PlayPace::Steps(16.0)));
        assert_eq!(effects.contains(&sixteen), key == "Enter", "{key}: {effects:?}");
    }
    assert_eq!((replay.state().pace, replay.state().slow_start), (Pace::PerSecond(16), None));
    let shown = terminal_text(&replay, 100, 30);
    assert!(shown.lines().next().unwrap().contains("16 steps/s"), "{shown}");
    assert!(shown.lines().last().unwrap().contains("a s pace"), "{shown}");
    // The keys outlast a restart.
    replay.update(Msg::Engine(Played::Ended(RecordingEnd::Whole)));
    assert!(notice(&replay).contains("F5 starts again, x quits"), "{}", notice(&replay));
    replay.update(Msg::Engine(Played::Restarted));
    assert_eq!(replay.state().pace, Pace::Full);
    let quit = replay.update(Msg::Key(key_of("x")));
    assert_eq!(quit, [Effect::Engine(PlayCommand::Quit), Effect::Leave(None)]);
}

#[test]
fn captions_are_cut_to_the_width_of_the_screen() {
    let mut replay = screen(Scan::default());
    let caption = Recorded::Caption("a long caption ".repeat(9));
    replay.update(Msg::Engine(Played::Recorded(Duration::ZERO, caption)));
    let shown = terminal_text(&replay, 60, 24);
    let line = shown.lines().nth(22).unwrap();
    assert!(line.starts_with(" a long caption") && line.ends_with('…'), "{shown}");
}

fn source(bytes: Vec<u8>) -> Source {
    Box::new(move || {
        EventReader::new(Box::new(std::io::Cursor::new(bytes.clone())) as Box<dyn Read + Send>)
    })
}

fn screen(length: Scan) -> Replay {
    Replay::new("run.rec", length, PlayPace::Full, State::new(1), Ahead::default(), Picture::Svg)
}

/// Plays a recording to its end on a screen.
fn ended(bytes: Vec<u8>) -> Replay {
    let mut replay = screen(scan(&bytes[..]).unwrap());
    let (sent, played) = mpsc::channel();
    let ahead = Ahead::default();
    let (_commands, _) =
        play(source(bytes), PlayPace::Full, 0, ahead.clone(), move |p| sent.send(p).is_ok())
            .unwrap();
    loop {
        let message = played.recv().unwrap();
        ahead.shown();
        let last = matches!(message, Played::Ended(_));
        replay.update(Msg::Engine(message));
        if last {
            return replay;
        }
    }
}

fn notice(replay: &Replay) -> String {
    replay.state().notice.clone().map(|notice| notice.text).unwrap_or_default()
}

fn terminal_text(replay: &Replay, width: u16, height: u16) -> String {
    let backend = ratatui::backend::TestBackend::new(width, height);
    let mut terminal = ratatui::Terminal::new(backend).unwrap();
    let themes = [theme("dark", false)];
    terminal.draw(|frame| _ = replay.render(&themes, frame)).unwrap();
    text(terminal.backend().buffer())
}

#[test]
fn the_replay_screen_shows_the_monitor_and_a_line_with_the_time() {
    let replay = ended(recorded());
    let shown = terminal_text(&replay, 100, 30);
    let last = shown.lines().last().unwrap();
    assert!(last.contains("replay run.rec") && last.contains("step 65 of 65"), "{last}");
    let theme = theme("dark", false);
    let monitor = text(&drawn(replay.state(), &theme, 100, 29));
    assert!(shown.starts_with(&monitor), "{shown}");
    // The smallest screen has no line to spare.
    assert!(!terminal_text(&replay, 40, 12).contains("replay run.rec"));
    for (width, height) in [(1, 1), (3, 2), (40, 13), (300, 100)] {
        terminal_text(&replay, width, height);
    }
}

#[test]
fn keys_that_need_an_engine_say_that_this_is_a_recording() {
    let mut replay = screen(Scan::default());
    for (i, event) in events().into_iter().take(30).enumerate() {
        replay.update(Msg::Engine(Played::Recorded(time(i), Recorded::Event(event))));
    }
    for key in ["d", "s", "+", "T", "v", "e", "o", "R"] {
        let settings = replay.state().settings.clone();
        let effects = replay.update(Msg::Key(key_of(key)));
        assert!(effects.is_empty(), "{key}: {effects:?}");
        assert!(notice(&replay).contains("this is a recording"), "{key}: {}", notice(&replay));
        assert_eq!((&replay.state().settings, &replay.state().wished), (&settings, &settings));
        assert!(replay.state().asked.is_empty() && replay.state().look_every == 0, "{key}");
    }
    let play = |command| vec![Effect::Engine(command)];
    assert_eq!(replay.update(Msg::Key(key_of("space"))), play(PlayCommand::Pause));
    replay.update(Msg::Engine(Played::Recorded(time(30), Recorded::Event(Event::Paused))));
    assert_eq!(replay.update(Msg::Key(key_of("."))), play(PlayCommand::Step));
    assert_eq!(replay.update(Msg::Key(key_of("r"))), play(PlayCommand::Restart));
    assert_eq!(replay.update(Msg::Key(key_of("n"))), play(PlayCommand::NextPrompt));
    assert_eq!(replay.update(Msg::Key(key_of("<"))), play(PlayCommand::Pace(PlayPace::Recorded)));
    replay.update(Msg::Key(key_of("Left")));
    assert!(replay.state().selected.is_some());
    replay.update(Msg::Key(key_of("z")));
    assert!(replay.state().zoom);
    let quit = replay.update(Msg::Key(key_of("q")));
    assert_eq!(quit, [Effect::Engine(PlayCommand::Quit), Effect::Leave(None)]);
}

#[test]
fn messages_of_the_replay_stay_for_some_seconds() {
    let mut replay = screen(Scan::default());
    for (i, event) in events().into_iter().take(30).enumerate() {
        replay.update(Msg::Engine(Played::Recorded(time(i), Recorded::Event(event))));
    }
    replay.update(Msg::Tick(Duration::from_secs(100)));
    replay.update(Msg::Key(key_of("d")));
    // An event an hour later in the recording, a second later for the user.
    replay.update(Msg::Tick(Duration::from_secs(101)));
    let late = Played::Recorded(Duration::from_secs(3600), Recorded::Event(Event::Paused));
    replay.update(Msg::Engine(late));
    assert!(notice(&replay).contains("this is a recording"));
    replay.update(Msg::Tick(Duration::from_secs(110)));
    assert_eq!(notice(&replay), "");
}

#[test]
fn a_cut_recording_replays_to_the_cut_and_says_so() {
    let whole = recorded();
    let replay = ended(whole[..whole.len() / 2].to_vec());
    assert!(notice(&replay).starts_with("the recording was cut here"), "{}", notice(&replay));
    assert!(replay.state().motion.still());
    let steps = replay.state().history.newest().map_or(0, |step| step.number + 1);
    assert!((1..65).contains(&steps), "{steps}");
}

#[test]
fn a_recorded_failure_is_shown_and_does_not_end_the_replay() {
    let mut replay = screen(Scan::default());
    let failed = Recorded::Event(Event::Failed("the weights are damaged".into()));
    assert!(replay.update(Msg::Engine(Played::Recorded(Duration::ZERO, failed))).is_empty());
    assert!(notice(&replay).contains("the weights are damaged"));
}

#[test]
fn captions_of_foreign_text_are_made_safe() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.rec");
    let mut writer = Writer::create(&path, LIVE_LEVEL).unwrap();
    let text = "a \u{1b}[2J\u{202e}b".to_owned();
    writer.write(Duration::ZERO, &Entry::Caption { text }).unwrap();
    let replay = ended(std::fs::read(writer.finish().unwrap()).unwrap());
    let shown = terminal_text(&replay, 80, 24);
    assert!(shown.contains("a \\u{1b}[2J\\u{202e}b"), "{shown}");
}

#[test]
fn a_film_ends_with_the_final_screen_and_its_frames_keep_their_distance() {
    let bytes = recorded();
    let theme = theme("dark", false);
    let film = Film { theme: &theme, size: (80, 24), pace: PlayPace::Recorded, skip: 10 };
    let mut frames = Vec::new();
    let events = || EventReader::new(&bytes[..]).unwrap();
    let end = film.play(events(), |at, buffer| -> Result<(), ()> {
        frames.push((at, buffer.clone()));
        Ok(())
    });
    assert!(frames.windows(2).all(|pair| pair[1].0 >= pair[0].0 + Duration::from_millis(100)));
    assert!(frames.len() > 20 && Ok(frames.last().unwrap().0) == end);
    assert_eq!(frames.last().unwrap().1, drawn(&state_at(events(), None), &theme, 80, 24));
    let first = state_at(events(), Some(10));
    assert_eq!(first.history.newest().unwrap().number, 9);
    assert_eq!(frames[0].1, film.screen(&state_at(events(), Some(10))), "{}", text(&frames[0].1));
}

#[test]
fn hostile_bytes_draw_at_any_size() {
    let bytes = recorded();
    let theme = theme("dark", false);
    let mut changed = 0;
    // Changes the JSON itself, and compresses it again, so that the checksum holds.
    let json = zstd::stream::decode_all(&bytes[..]).unwrap();
    for seed in 0..60usize {
        let mut json = json.clone();
        for i in 0..5 {
            let at = (seed * 7919 + i * 104_729) % json.len();
            if json[at].is_ascii_digit() {
                json[at] = b'0' + ((seed + i) % 10) as u8;
                changed += 1;
            }
        }
        let bytes = zstd::stream::encode_all(&json[..], 1).unwrap();
        let Ok(events) = EventReader::new(&bytes[..]) else { continue };
        let state = state_at(events, None);
        drawn(&state, &theme, 120, 40);
        drawn(&state, &theme, 1 + (seed as u16 * 13) % 200, 1 + (seed as u16 * 7) % 60);
    }
    assert!(changed > 50, "{changed}");
}
