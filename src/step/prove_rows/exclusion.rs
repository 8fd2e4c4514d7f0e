//! Rows that an exclusion constraint does not take beside each other.

use super::trial::{Answer, Found, Rule, Trial, made};
use crate::mapping::MADE_OF;

/// Against one row no more than this many are listed.
const PEERS_MAX: usize = 100;

impl Trial<'_> {
    /// Counts them. The constraint's keys come to a table with a constraint as green's, and its index says which row conflicts
    /// with one before it, and with which: no row is held against all others.
    pub(super) async fn conflicting(&self, rule: &Rule) -> Answer<Found> {
        self.green.batch_execute(&self.set_apart(rule)).await?;
        let found = self.count("select landed, min(peer) from pg_temp.migrate_pairs group by landed").await?;
        self.green.batch_execute("drop table pg_temp.migrate_pairs, pg_temp.migrate_apart").await?;
        Ok(found)
    }

    fn set_apart(&self, rule: &Rule) -> String {
        let keys = || rule.keys.iter().enumerate();
        let values: String = keys().map(|(at, key)| format!(", {key} as k{at}")).collect();
        let given: String = keys().map(|(_, key)| format!(" and {key} is distinct from null")).collect();
        let rows = format!(
            "select {MADE_OF}{values} from {} as {} where ({}){given}",
            made(),
            self.green_name.name,
            rule.predicate.as_deref().unwrap_or("true"),
        );
        let elements = || rule.elements.iter().enumerate();
        let excludes: Vec<String> = elements().map(|(at, element)| format!("k{at} {element}")).collect();
        let conflicts: Vec<String> = elements()
            .filter_map(|(at, element)| {
                let (_, operator) = element.split_once(" with ")?;
                Some(format!("peer.k{at} {operator} late.k{at}"))
            })
            .collect();
        format!(
            "create temporary table migrate_apart on commit drop as {rows} with no data;
             alter table pg_temp.migrate_apart add exclude using {method} ({excludes});
             insert into pg_temp.migrate_apart {rows} on conflict do nothing;
             set local enable_seqscan = off;
             create temporary table migrate_pairs on commit drop as
             with late as (select * from ({rows}) as each_row where not exists (select from pg_temp.migrate_apart as apart where apart.{MADE_OF} = each_row.{MADE_OF})),
                  pair as (select late.{MADE_OF} as landed, peer.{MADE_OF} as peer
                             from late
                            cross join lateral (select peer.{MADE_OF} from pg_temp.migrate_apart as peer where {conflicts} limit {PEERS_MAX}) as peer)
             select landed, peer from pair
             union all
             select distinct peer, peer from pair;
             set local enable_seqscan = on;",
            method = rule.method.as_deref().unwrap_or("gist"),
            excludes = excludes.join(", "),
            conflicts = conflicts.join(" and "),
        )
    }
}
