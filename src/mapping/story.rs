//! A mapping in words, for the plan's output: what becomes of the columns, and whether it can be reversed.

use super::expression::Expression;
use super::wanted::TableMap;
use crate::pg::name::{Ident, TableName};

impl TableMap {
    /// What becomes of a table, a line each.
    pub fn story(&self, blue: &TableName) -> Vec<String> {
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
        lines.push(match self.why_not_reversed() {
            None => "  can be reversed".to_owned(),
            Some(why) => format!("  cannot be reversed: {why}"),
        });
        lines
    }

    /// Why blue's rows cannot be made again from green's; `None` when they can.
    pub fn why_not_reversed(&self) -> Option<String> {
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
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

fn are(names: &[&str]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_alone_can_be_reversed_and_the_rest_says_why_not() {
        let map = TableMap {
            columns: [(Ident::new("title"), "name".to_owned()), (Ident::new("a"), "a".to_owned())].into(),
            to: Some(TableName::new("app", "client")),
            ..TableMap::default()
        };
        let blue = TableName::new("public", "hydra_client");
        assert_eq!(
            map.story(&blue),
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
            map.story(&blue),
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
