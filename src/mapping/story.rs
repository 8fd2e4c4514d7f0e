//! A mapping in words, for the plan's output: what becomes of the columns, and whether it can be reversed.

use super::expression::Expression;
use super::join::Join;
use super::wanted::{TableMap, TableMaps};
use crate::pg::name::{Ident, TableName};

impl TableMaps {
    /// What becomes of a table, a line each. `merged` gives the other tables of blue that become the same one of green.
    pub fn story<'t>(
        &self,
        blue: &TableName,
        merged: impl Fn(&TableName) -> Vec<&'t TableName>,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for map in self {
            let target = map.target(blue);
            let others: Vec<String> = merged(&target).into_iter().map(TableName::plain).collect();
            let mut apart = Vec::new();
            if let TableMaps::Split(parts) = self {
                apart.push(format!("a row is put together from {} tables", parts.len()));
            }
            if !others.is_empty() {
                apart.push(format!("rows of {} are in {}, too", others.join(", "), target.plain()));
            }
            lines.extend(map.story(blue, apart));
        }
        lines
    }
}

impl Join {
    /// What becomes of the tables, a line each.
    pub fn story(&self, green: &TableName) -> Vec<String> {
        let tables: Vec<String> = self.from.keys().map(TableName::plain).collect();
        let key: Vec<&str> = self.key.iter().map(Ident::as_str).collect();
        let mut lines = vec![format!("{} → {}", tables.join(", "), green.plain())];
        lines.push(format!("  joined by a query, one row for each {}", key.join(", ")));
        for (table, source) in &self.from {
            let keys: Vec<String> =
                source.key.iter().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            lines.push(format!("  a row of {} concerns the one of {}", table.plain(), keys.join(", ")));
        }
        lines.push("  cannot be reversed: a row is put together from several tables by a query".to_owned());
        lines
    }
}

impl TableMap {
    /// What becomes of a table, a line each. `apart` says what else than this map stands in the way of reversing it.
    fn story(&self, blue: &TableName, apart: Vec<String>) -> Vec<String> {
        let mut lines = vec![format!("{} → {}", blue.plain(), self.target(blue).plain())];
        for (name, text) in &self.columns {
            let old = Expression::read(text).ok().and_then(|read| read.as_column().cloned());
            lines.push(match old {
                Some(old) if old != *name => format!("  {} is blue's {}", name.as_str(), old.as_str()),
                Some(_) => format!("  {} as it is", name.as_str()),
                None => {
                    format!("  {} = {}", name.as_str(), text.split_whitespace().collect::<Vec<_>>().join(" "))
                }
            });
        }
        if !self.drop.is_empty() {
            let names: Vec<_> = self.drop.iter().map(Ident::as_str).collect();
            lines.push(format!("  not on green: {}", names.join(", ")));
        }
        if let Some(condition) = &self.condition {
            lines
                .push(format!("  only where {}", condition.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
        let reasons: Vec<String> = self.why_not_reversed().into_iter().chain(apart).collect();
        lines.push(match reasons.as_slice() {
            [] => "  can be reversed".to_owned(),
            reasons => format!("  cannot be reversed: {}", reasons.join("; ")),
        });
        lines
    }

    /// Why blue's rows cannot be made again from green's, as far as this map says; nothing when they can.
    fn why_not_reversed(&self) -> Vec<String> {
        let is_name = |text: &str| Expression::read(text).is_ok_and(|read| read.as_column().is_some());
        let computed: Vec<_> =
            self.columns.iter().filter(|(_, text)| !is_name(text)).map(|(name, _)| name.as_str()).collect();
        let mut reasons = Vec::new();
        if !computed.is_empty() {
            reasons.push(format!("{} computed", are(&computed)));
        }
        let dropped: Vec<_> = self.drop.iter().map(Ident::as_str).collect();
        if !dropped.is_empty() {
            reasons.push(format!("{} not on green", are(&dropped)));
        }
        if self.condition.is_some() {
            reasons.push("rows outside the condition are not on green".to_owned());
        }
        reasons
    }
}

fn are(names: &[&str]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_split_or_merged_cannot_be_reversed() {
        let part = |to: &str| TableMap { to: Some(TableName::new("public", to)), ..TableMap::default() };
        let maps = TableMaps::Split(vec![part("a"), part("b")]);
        let other = TableName::new("public", "other");
        let merged = |green: &TableName| if green.name.as_str() == "b" { vec![&other] } else { Vec::new() };
        assert_eq!(
            maps.story(&TableName::new("public", "t"), merged),
            [
                "public.t → public.a",
                "  cannot be reversed: a row is put together from 2 tables",
                "public.t → public.b",
                "  cannot be reversed: a row is put together from 2 tables; rows of public.other are in public.b, too",
            ]
        );
    }

    #[test]
    fn names_alone_can_be_reversed_and_the_rest_says_why_not() {
        let map = TableMap {
            columns: [(Ident::new("title"), "name".to_owned()), (Ident::new("a"), "a".to_owned())].into(),
            to: Some(TableName::new("app", "client")),
            ..TableMap::default()
        };
        let blue = TableName::new("public", "hydra_client");
        assert_eq!(
            map.story(&blue, Vec::new()),
            [
                "public.hydra_client → app.client",
                "  a as it is",
                "  title is blue's name",
                "  can be reversed"
            ]
        );
        let map = TableMap {
            columns: [(Ident::new("nid"), "'x'::text".to_owned())].into(),
            drop: vec![Ident::new("b"), Ident::new("c")],
            condition: Some("id > 0".into()),
            ..TableMap::default()
        };
        assert_eq!(
            map.story(&blue, Vec::new()),
            [
                "public.hydra_client → public.hydra_client",
                "  nid = 'x'::text",
                "  not on green: b, c",
                "  only where id > 0",
                "  cannot be reversed: nid is computed; b, c are not on green; rows outside the condition are not on green",
            ]
        );
    }
}
