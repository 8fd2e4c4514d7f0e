//! The proof loop over a simulated world: die at every boundary and resume; die and go back; die and change one's
//! mind; do and undo everything twice. The same loop runs over real servers in `tests/it/crashes.rs`.

use super::journal::{Entry, Journal};
use super::*;
use crate::event::Deaf;
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// A set of names: the effects. Its fuse counts boundaries; when it is burnt, everything fails, as after `kill -9`.
#[derive(Default)]
struct World {
    things: Mutex<BTreeSet<String>>,
    fuse: Mutex<Option<u32>>,
}

impl World {
    fn burning(fuse: Option<u32>) -> World {
        World { things: Mutex::default(), fuse: Mutex::new(fuse) }
    }

    fn tick(&self) -> Result<()> {
        match &mut *self.fuse.lock().unwrap() {
            Some(0) => Err(Error::new(Kind::Bug, "dead")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn set_fuse(&self, fuse: Option<u32>) {
        *self.fuse.lock().unwrap() = fuse;
    }

    fn things(&self) -> Vec<String> {
        self.things.lock().unwrap().iter().cloned().collect()
    }
}

#[derive(Default)]
struct Memory {
    entries: Mutex<Vec<Entry>>,
}

/// A journal whose writes can fail before and after they are durable, like a connection lost during COMMIT.
struct Fragile<'a> {
    memory: &'a Memory,
    world: &'a World,
}

#[async_trait]
impl Journal for Fragile<'_> {
    async fn append(&self, entry: &Entry) -> Result<()> {
        self.world.tick()?;
        self.memory.entries.lock().unwrap().push(entry.clone());
        self.world.tick()
    }

    async fn read(&self) -> Result<Vec<Entry>> {
        Ok(self.memory.entries.lock().unwrap().clone())
    }
}

struct Make {
    name: &'static str,
    reversal: Reversal,
}

#[async_trait]
impl Step<World> for Make {
    fn id(&self) -> StepId {
        StepId::new(self.name)
    }
    fn title(&self) -> String {
        format!("Make {}", self.name)
    }
    fn reversal(&self) -> Reversal {
        self.reversal
    }
    async fn intent(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        Ok(Some(serde_json::json!({ "before": world.things() })))
    }
    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        let there = world.things.lock().unwrap().contains(self.name);
        Ok(if there { Standing::Present } else { Standing::Absent })
    }
    async fn apply(&self, world: &World, notes: &Notes) -> Result<Option<serde_json::Value>> {
        let before: serde_json::Value = notes.get(&self.id()).unwrap();
        assert!(
            !before["before"].as_array().unwrap().contains(&self.name.into()),
            "the intent is asked before the effect, never after a crash"
        );
        world.tick()?;
        world.things.lock().unwrap().insert(self.name.to_owned());
        world.tick()?;
        Ok(None)
    }
    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        world.tick()?;
        world.things.lock().unwrap().remove(self.name);
        world.tick()
    }
}

/// Looks and makes, and says what to do with an effect that is there before.
struct Found {
    name: &'static str,
    adoption: Adoption,
}

#[async_trait]
impl Step<World> for Found {
    fn id(&self) -> StepId {
        StepId::new(self.name)
    }
    fn title(&self) -> String {
        format!("Find {}", self.name)
    }
    fn adoption(&self) -> Adoption {
        self.adoption
    }
    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        let there = world.things.lock().unwrap().contains(self.name);
        Ok(if there { Standing::Present } else { Standing::Absent })
    }
    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        world.things.lock().unwrap().insert(self.name.to_owned());
        Ok(None)
    }
    async fn undo(&self, _: &World, _: &Notes) -> Result<()> {
        Ok(())
    }
}

fn steps() -> Vec<Box<dyn Step<World>>> {
    ["a", "b", "c"]
        .into_iter()
        .map(|name| Box::new(Make { name, reversal: Reversal::Undo }) as Box<dyn Step<World>>)
        .chain([Box::new(Make { name: "no-return", reversal: Reversal::PointOfNoReturn }) as _])
        .chain([Box::new(Make { name: "z", reversal: Reversal::Undo }) as _])
        .collect()
}

async fn forward(steps: &Steps<World>, world: &World, memory: &Memory) -> Result<()> {
    let journal = Fragile { memory, world };
    Engine::open(world, &journal, &Deaf).await?.forward(steps).await
}

async fn back(steps: &Steps<World>, world: &World, memory: &Memory) -> Result<()> {
    let journal = Fragile { memory, world };
    Engine::open(world, &journal, &Deaf).await?.back(steps).await
}

/// Runs `attempt` with the fuse burning at 0, 1, 2, … until it no longer dies; returns how often it died.
async fn at_every_boundary<F: AsyncFn(u32) -> bool>(attempt: F) -> u32 {
    for fuse in 0..1000 {
        if !attempt(fuse).await {
            return fuse;
        }
    }
    panic!("it never ends");
}

const ALL: [&str; 5] = ["a", "b", "c", "no-return", "z"];

#[tokio::test]
async fn die_at_every_boundary_and_resume() {
    let deaths = at_every_boundary(async |fuse| {
        let (world, memory) = (World::burning(Some(fuse)), Memory::default());
        let died = forward(&steps(), &world, &memory).await.is_err();
        world.set_fuse(None);
        forward(&steps(), &world, &memory).await.unwrap();
        assert_eq!(world.things(), ALL);
        died
    })
    .await;
    assert_eq!(deaths, 6 * 5, "two boundaries at each of Started, effect, Applied");
}

#[tokio::test]
async fn die_while_going_back_and_go_back_again() {
    let reversible = &steps()[..3];
    at_every_boundary(async |fuse| {
        let (world, memory) = (World::burning(None), Memory::default());
        world.things.lock().unwrap().insert("b".into());
        forward(reversible, &world, &memory).await.unwrap();
        world.set_fuse(Some(fuse));
        let died = back(reversible, &world, &memory).await.is_err();
        world.set_fuse(None);
        back(reversible, &world, &memory).await.unwrap();
        assert_eq!(world.things(), ["b"], "what was there before us is never undone");
        died
    })
    .await;
}

#[tokio::test]
async fn die_and_change_ones_mind() {
    at_every_boundary(async |fuse| {
        let (world, memory) = (World::burning(Some(fuse)), Memory::default());
        let died = forward(&steps(), &world, &memory).await.is_err();
        world.set_fuse(None);
        let passed = world.things().contains(&"no-return".to_owned());
        match back(&steps(), &world, &memory).await {
            Ok(()) => assert!(!passed && world.things().is_empty(), "left something of ours behind"),
            Err(error) => {
                assert_eq!(error.kind, Kind::ForwardOnly);
                assert!(passed, "refused although the effect of the point of no return is not there");
                forward(&steps(), &world, &memory).await.unwrap();
                assert_eq!(world.things(), ALL);
            }
        }
        died
    })
    .await;
}

#[tokio::test]
async fn die_while_going_back_and_go_forward_instead() {
    let reversible = &steps()[..3];
    at_every_boundary(async |fuse| {
        let (world, memory) = (World::burning(None), Memory::default());
        forward(reversible, &world, &memory).await.unwrap();
        world.set_fuse(Some(fuse));
        let died = back(reversible, &world, &memory).await.is_err();
        world.set_fuse(None);
        forward(&steps(), &world, &memory).await.unwrap();
        assert_eq!(world.things(), ALL);
        died
    })
    .await;
}

/// Blue alone: green's journal cannot be reached, so the world is put back without it. The journal is told later.
#[tokio::test]
async fn die_and_be_taken_back_behind_the_journals_back() {
    for later_fuse in 0..20 {
        at_every_boundary(async |fuse| {
            let (world, memory) = (World::burning(Some(fuse)), Memory::default());
            let died = forward(&steps(), &world, &memory).await.is_err();
            world.set_fuse(None);
            if world.things().contains(&"no-return".to_owned()) {
                return died;
            }
            world.things.lock().unwrap().clear();
            world.set_fuse(Some(later_fuse));
            let _ = back(&steps(), &world, &memory).await;
            world.set_fuse(None);
            back(&steps(), &world, &memory).await.unwrap();
            assert!(world.things().is_empty(), "telling the journal made an effect");
            forward(&steps(), &world, &memory).await.unwrap();
            assert_eq!(world.things(), ALL);
            died
        })
        .await;
    }
}

#[tokio::test]
async fn apply_and_undo_twice() {
    let world = World::default();
    let mut notes = Notes::default();
    for step in steps() {
        notes.put(step.id(), serde_json::json!({ "before": [] }));
        for _ in 0..2 {
            step.apply(&world, &notes).await.unwrap();
            assert_eq!(step.check(&world, &notes).await.unwrap(), Standing::Present);
        }
        for _ in 0..2 {
            step.undo(&world, &notes).await.unwrap();
            assert_eq!(step.check(&world, &notes).await.unwrap(), Standing::Absent);
        }
    }
}

/// An effect that is there before its step was begun.
#[tokio::test]
async fn what_was_there_is_adopted_or_made_ours_or_refused() {
    for adoption in [Adoption::Allowed, Adoption::Redo, Adoption::Refused] {
        let (world, memory) = (World::default(), Memory::default());
        world.things.lock().unwrap().insert("a".into());
        let steps: [Box<dyn Step<World>>; 1] = [Box::new(Found { name: "a", adoption })];
        let went = forward(&steps, &world, &memory).await;
        let status = Record::replay(&memory.entries.lock().unwrap()).unwrap().status(&steps[0].id());
        match adoption {
            Adoption::Allowed => assert_eq!((went.is_ok(), status), (true, Status::Adopted)),
            Adoption::Redo => assert_eq!((went.is_ok(), status), (true, Status::Applied)),
            Adoption::Refused => {
                assert_eq!((went.unwrap_err().kind, status), (Kind::Stopped, Status::New));
                assert_eq!(world.things(), ["a"], "what is not ours was touched");
            }
        }
    }
}

#[tokio::test]
async fn what_was_done_and_is_gone_is_not_made_again_behind_our_back() {
    let (world, memory) = (World::default(), Memory::default());
    forward(&steps()[..2], &world, &memory).await.unwrap();
    world.things.lock().unwrap().remove("a");
    assert_eq!(forward(&steps()[..2], &world, &memory).await.unwrap_err().kind, Kind::Stopped);
}
