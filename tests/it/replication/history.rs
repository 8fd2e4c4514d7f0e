//! Random transactions on random tables.

use super::tables::{Identity, Slot, Table};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use std::fmt::Write as _;

/// What the transactions of a trial are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Everything, on few rows, so that keys meet again and again.
    Anything,
    /// What has a net effect, on more rows, so that backlogs are written in sets.
    Sets,
}

impl Style {
    /// Numbers that values are made of.
    fn numbers(self) -> i64 {
        match self {
            Style::Anything => 60,
            Style::Sets => 400,
        }
    }
}

/// Rows of a large transaction: more than a batch holds, so that it is written in parts.
const LARGE_ROWS: i64 = 42_000;

/// Draws transactions; large ones never use a number twice.
pub struct Historian {
    pub random: StdRng,
    style: Style,
    large: i64,
}

impl Historian {
    pub fn new(random: StdRng, style: Style) -> Historian {
        Historian { random, style, large: 1_000_000 }
    }

    /// A transaction, as one text.
    pub fn transaction(&mut self, tables: &[Table]) -> String {
        let mut sql = String::from("begin;\n");
        let mut open = 0;
        for _ in 0..self.random.random_range(1..=8) {
            match self.random.random_range(0..12) {
                0 => {
                    open += 1;
                    let _ = writeln!(sql, "savepoint s{open};");
                }
                1 if open > 0 => {
                    let back = self.random.random_range(1..=open);
                    let how = if self.random.random_bool(0.6) { "rollback to" } else { "release" };
                    let _ = writeln!(sql, "{how} s{back};");
                    open = if how == "release" { back - 1 } else { back };
                }
                _ => {
                    let table = tables.choose(&mut self.random).expect("a table");
                    let change = self.change(table);
                    let _ = writeln!(sql, "{change}");
                }
            }
        }
        sql + if self.random.random_ratio(1, 15) { "rollback" } else { "commit" }
    }

    /// Many rows at once: they come, then most change, some go. What changes or goes may be undone.
    pub fn large_transaction(&mut self, table: &Table) -> String {
        let (from, to) = (self.large, self.large + LARGE_ROWS - 1);
        self.large += LARGE_ROWS;
        let (names, values) = self.row(table, "(n)");
        let mut sql = format!(
            "begin; insert into public.{} ({names}) overriding system value select {values} from generate_series({from}, {to}) n;",
            table.name
        );
        if !matches!(table.identity, Identity::InsertOnly | Identity::Full) {
            let column = table.columns.last().expect("a column");
            if !table.key.contains(&column.name) {
                let number = self.number();
                let _ = write!(
                    sql,
                    "savepoint a; update public.{} set {} = {}; {} a;",
                    table.name,
                    column.name,
                    column.value_or_null(&mut self.random, &number),
                    self.how_it_ends()
                );
            }
            let rows = self.some_rows(table, 5000);
            let _ = write!(
                sql,
                "savepoint b; delete from public.{} where {rows}; {} b;",
                table.name,
                self.how_it_ends()
            );
        }
        sql + "commit"
    }

    fn how_it_ends(&mut self) -> &'static str {
        if self.random.random_ratio(1, 3) { "rollback to" } else { "release" }
    }

    fn number(&mut self) -> String {
        format!("({})", self.random.random_range(1..=self.style.numbers()))
    }

    /// Names and values of a row made of a number.
    fn row(&mut self, table: &Table, number: &str) -> (String, String) {
        let mut names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        let mut values: Vec<String> =
            table.columns.iter().map(|column| column.value_or_null(&mut self.random, number)).collect();
        if table.slot != Slot::None {
            names.push("slot");
            values.push(number.to_owned());
        }
        (names.join(", "), values.join(", "))
    }

    /// A condition that chooses up to so many rows, whatever tells them apart.
    fn some_rows(&mut self, table: &Table, most: u32) -> String {
        let salt: u32 = self.random.random();
        format!(
            "ctid = any (array(select ctid from public.{} t order by md5(t::text || '{salt}') limit {most}))",
            table.name
        )
    }

    fn change(&mut self, table: &Table) -> String {
        let name = &table.name;
        let kinds = if table.identity == Identity::InsertOnly { 4 } else { 14 };
        let change = match self.random.random_range(0..kinds) {
            0 | 1 if self.style == Style::Sets => self.crowd(table),
            0..=2 => {
                let mut all = String::new();
                for _ in 0..self.random.random_range(1..=6) {
                    let number = self.number();
                    let (names, values) = self.row(table, &number);
                    let insert = format!(
                        "insert into public.{name} ({names}) overriding system value values ({values})"
                    );
                    all += &unless_taken(&insert);
                }
                all
            }
            3 if self.style == Style::Anything && self.random.random_ratio(1, 8) => {
                format!("truncate public.{name} restart identity;")
            }
            3 => String::new(),
            4 => self.swap(table),
            5 | 6 => {
                let most = *[1, 3, 1000].choose(&mut self.random).expect("one of them");
                format!("delete from public.{name} where {};", self.some_rows(table, most))
            }
            7 | 8 => self.change_key(table),
            _ => self.update(table),
        };
        if change.is_empty() { "select 1;".into() } else { change }
    }

    /// Rows next to each other, as many as are not there yet, or none.
    fn crowd(&mut self, table: &Table) -> String {
        let from = self.random.random_range(1..=self.style.numbers());
        let to = from + self.random.random_range(20..=150);
        let (names, values) = self.row(table, "(n)");
        let insert = format!(
            "insert into public.{} ({names}) overriding system value select {values} from generate_series({from}, {to}) n",
            table.name
        );
        match table.slot {
            // No conflict can be left to such a constraint.
            Slot::Deferrable => unless_taken(&insert),
            Slot::None | Slot::Unique => format!("{insert} on conflict do nothing;"),
        }
    }

    fn update(&mut self, table: &Table) -> String {
        let free: Vec<usize> =
            (0..table.columns.len()).filter(|at| !table.key.contains(&table.columns[*at].name)).collect();
        let mut sets = Vec::new();
        for at in free {
            if self.random.random_bool(0.4) {
                let number = self.number();
                let column = &table.columns[at];
                sets.push(format!("{} = {}", column.name, column.value_or_null(&mut self.random, &number)));
            }
        }
        if sets.is_empty() {
            return String::new();
        }
        let most = *[1, 4, 1000].choose(&mut self.random).expect("one of them");
        format!("update public.{} set {} where {};", table.name, sets.join(", "), self.some_rows(table, most))
    }

    /// Rows get other keys, where those are free.
    fn change_key(&mut self, table: &Table) -> String {
        let Some(key) = table.key.choose(&mut self.random) else { return self.update(table) };
        let number = self.number();
        let column = table.columns.iter().find(|column| column.name == *key).expect("a key's column");
        let value = match table.identity {
            Identity::Always => "default".to_owned(),
            _ => column.value(&number),
        };
        let rows = self.some_rows(table, 1);
        unless_taken(&format!("update public.{} set {key} = {value} where {rows}", table.name))
    }

    /// Unique values change places, under a constraint that looks after each row or at the end of a statement.
    fn swap(&mut self, table: &Table) -> String {
        let numbers = self.style.numbers();
        let (one, other) = (self.random.random_range(1..=numbers), self.random.random_range(1..=numbers));
        let name = &table.name;
        match table.slot {
            Slot::None => String::new(),
            Slot::Unique => unless_taken(&format!(
                "update public.{name} set slot = -{one} where slot = {one}; update public.{name} set slot = {one} where slot = {other};
                 update public.{name} set slot = {other} where slot = -{one}"
            )),
            Slot::Deferrable => unless_taken(&format!(
                "update public.{name} set slot = case slot when {one} then {other} else {one} end where slot in ({one}, {other})"
            )),
        }
    }
}

/// A statement that may meet a value which is taken: then nothing of it stays.
fn unless_taken(statement: &str) -> String {
    format!("do $do$ begin {statement}; exception when unique_violation then null; end $do$;\n")
}

/// How many transactions a round has.
pub fn draw_length(random: &mut impl Rng) -> usize {
    random.random_range(20..=120)
}
