use super::*;
use crate::finding::{Place, Severity};
use std::sync::mpsc;

/// A stream that keeps what is written.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream whose reader went away.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(ErrorKind::BrokenPipe.into())
    }
}

/// A stream that is not read until it is let go; it says when somebody waits for that.
struct Stuck {
    entered: mpsc::Sender<()>,
    release: mpsc::Receiver<()>,
}

impl Stuck {
    /// The stream, what is heard when somebody writes to it, and what lets it go when it is dropped.
    fn new() -> (Stuck, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (entered, enters) = mpsc::channel();
        let (let_go, release) = mpsc::channel();
        (Stuck { entered, release }, enters, let_go)
    }
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.entered.send(());
        let _ = self.release.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn ui(form: Form, colors: bool) -> (Ui, Paper, Paper) {
    let (out, err) = (Paper::default(), Paper::default());
    let stage = Stage { form, out: Box::new(err.clone()), colors, screen: None };
    (Ui::with(stage, Box::new(out.clone()), colors, false), out, err)
}

fn note(text: &str) -> Event {
    Event::Note { text: text.into() }
}

fn finding() -> Finding {
    let place = Place::Plan { field: "cutover.route".into() };
    Finding { code: "X".into(), severity: Severity::Warning, place, what: "w".into(), help: "h".into() }
}

#[test]
fn data_and_talk_go_apart() {
    let (ui, out, err) = ui(Form::Lines, false);
    ui.ears().tell(note("hello"));
    ui.say("bye");
    ui.print("result");
    ui.error(&Error::new(Kind::Gate, "no").hint("do"));
    assert_eq!(out.text(), "result\n");
    assert_eq!(err.text(), "note: hello\nbye\nerror: no\n  hint: do\n");
}

#[test]
fn json_is_one_object_a_line_and_data_one_document() {
    let (ui, out, err) = ui(Form::Json, false);
    let ears = ui.ears();
    for bytes in 0..3 {
        let subject = "public.t".to_owned();
        ears.tell(Event::Progress { subject, rows: 1, bytes, total_bytes: 9, done: false });
    }
    ui.error(&Error::new(Kind::Gate, "no"));
    ui.findings(&[finding()]);
    let lines: Vec<serde_json::Value> =
        err.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["progress", "progress", "progress", "error"]);
    assert_eq!(lines[3]["exit_code"], 3);
    let document: serde_json::Value = serde_json::from_str(&out.text()).unwrap();
    assert_eq!(document["warnings"], 1);
}

#[test]
fn colors_are_taken_out_where_nobody_wants_them() {
    for colors in [true, false] {
        let (ui, out, err) = ui(Form::Lines, colors);
        ui.error(&Error::new(Kind::Gate, "no"));
        ui.findings(&[finding()]);
        assert_eq!(err.text().contains('\x1b'), colors);
        assert_eq!(out.text().contains('\x1b'), colors);
    }
}

#[test]
fn a_reader_that_goes_away_ends_nothing() {
    let stage = Stage { form: Form::Lines, out: Box::new(Closed), colors: false, screen: None };
    let ui = Ui::with(stage, Box::new(Closed), false, false);
    ui.print("one");
    ui.print("two");
    ui.ears().tell(note("hello"));
    ui.error(&Error::new(Kind::Bug, "x"));
}

#[test]
fn telling_never_waits_for_the_reader() {
    let (stuck, _enters, let_go) = Stuck::new();
    let stage = Stage { form: Form::Lines, out: Box::new(stuck), colors: false, screen: None };
    let ui = Ui::with(stage, Box::new(Paper::default()), false, false);
    let begun = std::time::Instant::now();
    for _ in 0..20_000 {
        ui.ears().tell(note("hello"));
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(1), "{:?}", begun.elapsed());
    drop(let_go);
    drop(ui);
}

#[test]
fn dropped_messages_are_counted() {
    let (stuck, enters, let_go) = Stuck::new();
    let stage = Stage { form: Form::Lines, out: Box::new(stuck), colors: false, screen: None };
    let talk = Talk::start(stage);
    // Before it is stuck in its first event, the thread would report what was dropped meanwhile.
    talk.tell(Event::Note { text: "first".into() });
    enters.recv().unwrap();
    for _ in 0..10_000 {
        talk.tell(Event::Note { text: "hello".into() });
    }
    assert!(talk.dropped() > 800, "{}", talk.dropped());
    drop(let_go);
    talk.flush();
    std::thread::sleep(std::time::Duration::from_millis(50));
    talk.tell(Event::Note { text: "later".into() });
    assert_eq!(talk.dropped(), 0);
}

#[test]
fn without_a_terminal_only_yes_confirms() {
    // The tests' standard input may be a terminal, so JSON stands for its absence.
    let (asked, ..) = ui(Form::Json, false);
    let error = asked.confirm("Reopen blue?").unwrap_err();
    assert_eq!(error.kind, Kind::Request);
    assert!(error.hint.is_some_and(|hint| hint.contains("--yes")));
    let err = Paper::default();
    let stage = Stage { form: Form::Json, out: Box::new(err.clone()), colors: false, screen: None };
    let sure = Ui::with(stage, Box::new(Paper::default()), false, true);
    assert!(sure.confirm("Reopen blue?").unwrap());
    sure.close();
    assert!(err.text().contains("Reopen blue? yes (--yes)"));
}

#[test]
fn logs_go_among_the_talk() {
    let (ui, _, err) = ui(Form::Lines, false);
    ui.ears().tell(note("before"));
    ui.logs().write_all(b"INFO a line\n").unwrap();
    ui.close();
    assert_eq!(err.text(), "note: before\nINFO a line\n");
}

#[test]
fn a_full_disk_is_said_once() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let err = Paper::default();
    let stage = Stage { form: Form::Lines, out: Box::new(err.clone()), colors: false, screen: None };
    let ui = Ui::with(stage, Box::new(Full), false, false);
    ui.print("one");
    ui.print("two");
    ui.close();
    assert_eq!(err.text().matches("cannot be written").count(), 1, "{}", err.text());
}
