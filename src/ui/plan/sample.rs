//! Rows of mapped tables, before and after, for people.

use crate::pg::name::TableName;
use crate::step::sample_rows::{Sample, SampleRow};
use crate::ui::render::{BOLD, CYAN, PLAIN, RED};

/// Longer values are cut.
const CHARACTERS_MAX: usize = 200;

/// Nothing when no sample was asked for; ends with a newline otherwise.
pub(super) fn text(samples: &[Sample]) -> String {
    if samples.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n{RED}These are values of blue's rows as they are, secrets too: do not pass this output on.{PLAIN}\n"
    );
    for sample in samples {
        let from: Vec<String> = sample.joined_from.iter().map(TableName::plain).collect();
        let (from, supposed) = match (from.is_empty(), sample.is_supposed) {
            (false, _) => (from.join(", "), " (joined by the query as blue evaluates it)"),
            (true, true) => {
                (sample.blue.plain(), " (green has no such table yet: values as the expressions give them)")
            }
            (true, false) => (sample.blue.plain(), ""),
        };
        text.push_str(&format!("\n{BOLD}{from} → {}{PLAIN}{supposed}\n", sample.green.plain()));
        if sample.rows.is_empty() {
            text.push_str("  blue has no row of it\n");
        }
        for row in &sample.rows {
            text.push_str(&lines(sample, row));
        }
    }
    text
}

fn lines(sample: &Sample, row: &SampleRow) -> String {
    let after = match &row.after {
        Some(after) => values(&sample.columns_after, after),
        None => "not on green: the condition leaves it out".to_owned(),
    };
    let before = values(&sample.columns_before, &row.before);
    format!("  {CYAN}before{PLAIN} {before}\n  {CYAN}after{PLAIN}  {after}\n")
}

fn values(columns: &[String], values: &[Option<String>]) -> String {
    let one = |(column, value): (&String, &Option<String>)| match value {
        None => format!("{column} = null"),
        Some(value) => {
            let cut: String = value.chars().take(CHARACTERS_MAX).collect();
            let more = if cut.len() < value.len() { "…" } else { "" };
            format!("{column} = {cut:?}{more}")
        }
    };
    columns.iter().zip(values).map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_says_loudly_what_it_is() {
        let sample = Sample {
            blue: TableName::new("public", "b"),
            green: TableName::new("app", "g"),
            joined_from: Vec::new(),
            is_supposed: false,
            columns_before: vec!["id".into()],
            columns_after: vec!["key".into(), "note".into()],
            rows: vec![
                SampleRow { before: vec![Some("1".into())], after: Some(vec![Some("it's\n1".into()), None]) },
                SampleRow { before: vec![Some("2".into())], after: None },
            ],
        };
        let text = text(&[sample]);
        assert!(text.contains("secrets too"), "{text}");
        assert!(text.contains("key = \"it's\\n1\", note = null"), "{text}");
        assert!(text.contains("not on green: the condition leaves it out"), "{text}");
        assert_eq!(super::text(&[]), "");
    }
}
