//! `migrate rehearse` on the oldest and the newest major: what it measures, whose queries it names, and what it leaves: nothing.

mod command;
mod measure;
mod queries;
