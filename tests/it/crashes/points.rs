//! Where the cutover is killed: every point of every step, and those inside the fence.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// The steps of the phases `arm`, `switch` and `settle`, in order; a test compares them with the program's.
pub const STEPS: [&str; 9] = [
    "arm/gate-blue",
    "switch/pause-clients",
    "switch/fence-blue",
    "switch/point-routes",
    "switch/declare-opening",
    "switch/open-green",
    "switch/resume-clients",
    "settle/close-blue",
    "settle/replay-revocations",
];

/// Nothing more can be done before the point of no return, and all of it can be taken back.
pub const ALL_BUT_OPENED: &str = "opening:before";

/// From here on there is no way back.
const NO_RETURN: &str = "switch/declare-opening:effected";

/// What the killed command was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhileGoing {
    /// `cutover`.
    Forward,
    /// `rollback`, after a `cutover` that was killed at [`ALL_BUT_OPENED`].
    Back,
}

/// A named place where the process dies.
#[derive(Debug, Clone)]
pub struct Point {
    pub name: String,
    pub going: WhileGoing,
    /// Whether the point of no return was passed.
    pub past_no_return: bool,
}

/// Every point, in the order they are come to.
pub fn all() -> Vec<Point> {
    let mut names = Vec::new();
    for step in STEPS {
        names.extend([format!("{step}:planned"), format!("{step}:started")]);
        match step {
            "switch/fence-blue" => names.extend(
                ["locked", "marked", "drained", "compared", "committed"]
                    .map(|place| format!("fence:{place}")),
            ),
            "switch/declare-opening" => names.push(ALL_BUT_OPENED.into()),
            _ => {}
        }
        names.extend([format!("{step}:effected"), format!("{step}:applied")]);
    }
    let no_return = names.iter().position(|name| name == NO_RETURN).expect("it is among them");
    let forward = names.into_iter().enumerate().map(|(at, name)| Point {
        name,
        going: WhileGoing::Forward,
        past_no_return: at >= no_return,
    });
    let undone = STEPS[..5].iter().rev().flat_map(|step| {
        ["undo-started", "undo-effected", "undone"].map(|place| Point {
            name: format!("{step}:{place}"),
            going: WhileGoing::Back,
            past_no_return: false,
        })
    });
    forward.chain(undone).collect()
}

/// Some of them, drawn by the seed.
pub fn sample(of: impl Iterator<Item = Point>, size: usize) -> Vec<Point> {
    let mut points: Vec<Point> = of.collect();
    points.shuffle(&mut StdRng::seed_from_u64(seed()));
    points.truncate(size);
    points
}

/// `MIGRATE_TEST_SEED`, or 1: the traffic's choices and the sample.
pub fn seed() -> u64 {
    std::env::var("MIGRATE_TEST_SEED")
        .ok()
        .map_or(1, |text| text.parse().expect("MIGRATE_TEST_SEED is a number"))
}
