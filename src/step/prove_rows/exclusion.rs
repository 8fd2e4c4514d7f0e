//! Rows that an exclusion constraint does not take beside each other.

use super::trial::{Answer, Found, Rule, Trial, made};
use crate::mapping::MADE_OF;

/// Among no more rows than this that conflict with one, the first is looked for.
const PEERS_MAX: usize = 100;

impl Trial<'_> {
    /// Counts them. The constraint's keys come to a table with an index as the constraint's, which gives for each row those that
    /// conflict with it: no row is compared with all others.
    pub(super) async fn conflicting(&self, rule: &Rule) -> Answer<Found> {
        self.green.batch_execute(&self.set_apart(rule)).await?;
        let found = self.count("select landed, least(landed, peer) from pg_temp.migrate_pairs").await?;
        self.green.batch_execute("drop table pg_temp.migrate_pairs, pg_temp.migrate_apart").await?;
        Ok(found)
    }

    fn set_apart(&self, rule: &Rule) -> String {
        let keys = || rule.keys.iter().enumerate();
        let values: String = keys().map(|(at, key)| format!(", {key} as k{at}")).collect();
        let given: String = keys().map(|(_, key)| format!(" and {key} is distinct from null")).collect();
        let classes: Vec<String> =
            rule.classes.iter().enumerate().map(|(at, class)| format!("k{at} {class}")).collect();
        let conflicts: String = rule
            .operators
            .iter()
            .enumerate()
            .map(|(at, operator)| format!("other.k{at} {operator} own.k{at} and "))
            .collect();
        // A table without statistics is read as a whole for each row, unless that is ruled out.
        format!(
            "create temporary table migrate_apart on commit drop as select {MADE_OF}{values} from {made} as {name} where ({predicate}){given};
             create index on pg_temp.migrate_apart using {method} ({classes});
             set local enable_seqscan = off;
             set local jit = off;
             create temporary table migrate_pairs on commit drop as
             select own.{MADE_OF} as landed, found.peer
               from pg_temp.migrate_apart as own
              cross join lateral (
                    select min(peer) as peer
                      from (select other.{MADE_OF} as peer from pg_temp.migrate_apart as other
                             where {conflicts}other.{MADE_OF} <> own.{MADE_OF} limit {PEERS_MAX}) as peers) as found
              where found.peer is not null;
             set local enable_seqscan = on;",
            made = made(),
            name = self.green_name.name,
            predicate = rule.predicate.as_deref().unwrap_or("true"),
            method = rule.method.as_deref().unwrap_or("gist"),
            classes = classes.join(", "),
        )
    }
}
