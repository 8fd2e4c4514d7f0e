//! The forms of DDL that are proved: `forms.sql`, read.

/// The database on which every form is tried.
pub const DATABASE: &str = include_str!("schema.sql");

/// A paragraph of `forms.sql`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    pub name: String,
    /// The first major that has it.
    pub from: u32,
    /// Made in addition to the database.
    pub before: String,
    /// Why what is planned is known not to be what happens; to be mended.
    pub differs: Option<String>,
    pub sql: String,
}

pub fn forms() -> Vec<Form> {
    let paragraphs = include_str!("forms.sql").split("\n\n").filter(|text| text.contains("-- form: "));
    paragraphs.map(form).collect()
}

fn form(text: &str) -> Form {
    let mut form = Form::default();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("-- form: ") {
            form.name = name.to_owned();
        } else if let Some(from) = line.strip_prefix("-- from: ") {
            form.from = from.parse().unwrap();
        } else if let Some(before) = line.strip_prefix("-- before: ") {
            form.before = before.to_owned();
        } else if let Some(differs) = line.strip_prefix("-- differs: ") {
            form.differs = Some(differs.to_owned());
        } else {
            form.sql.push_str(line);
            form.sql.push('\n');
        }
    }
    form
}
