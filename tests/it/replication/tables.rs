//! Random tables: what their columns are, and what tells their rows apart.

use super::history::Style;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use std::fmt::Write as _;

/// Types that the tables need, for both sides.
pub const TYPES: &str = "create extension citext;
    create type public.r_mood as enum ('sad', 'so so', 'it''s fine');
    create type public.r_spot as (x int, label text);
    create domain public.r_must as text not null;
    create domain public.r_count as int check (value >= 0)";

/// A type of column, with an expression that makes a value of a number.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    sql_type: &'static str,
    /// `#` is the number. Another number is another value when `tells` is set.
    value: &'static str,
    /// It may be a key of its own.
    tells: bool,
    /// It may be null.
    nullable: bool,
}

const fn kind(sql_type: &'static str, value: &'static str, tells: bool) -> Kind {
    Kind { sql_type, value, tells, nullable: true }
}

const KINDS: [Kind; 31] = [
    kind("int", "#", true),
    kind("bigint", "#::bigint * 1000003", true),
    kind("smallint", "# % 1000", false),
    kind("numeric", "#::numeric / 8", true),
    kind("numeric(20, 3)", "#::numeric", true),
    kind("text", "'t\\n ' || #", true),
    kind("text", "repeat('compress', # % 2000)", false),
    kind("text", "case when # % 3 = 0 then '' else repeat(md5((#)::text), 66 + # % 40) end", false),
    kind("varchar(40)", "'v' || #", true),
    kind("char(6)", "'c' || # % 1000", false),
    kind("bytea", "decode(md5((#)::text), 'hex')", true),
    kind("bytea", "decode(repeat(md5((#)::text), 150 + # % 50), 'hex')", false),
    kind("jsonb", "jsonb_build_object('k', #, 'a', array[#, null], 'x', repeat('j', # % 3000))", false),
    kind("json", "json_build_object('k', #, 'b', null)", false),
    kind("timestamptz", "'2024-01-01 00:00:00.25+00'::timestamptz + (#) * interval '37 minutes'", true),
    kind("timestamp", "'0050-01-01 BC'::timestamp + (#) * interval '1 day'", true),
    kind("date", "'2000-01-01'::date + #", true),
    kind("time", "'00:00'::time + (#) * interval '1.5 seconds'", false),
    kind("interval", "make_interval(days => # / 24, hours => # % 24)", true),
    kind("float8", "(#)::float8 / 3", true),
    kind("real", "(#)::real / 7", false),
    kind("boolean", "# % 2 = 0", false),
    kind("uuid", "md5((#)::text)::uuid", true),
    kind("public.r_mood", "(enum_range(null::public.r_mood))[1 + # % 3]", false),
    kind(
        "public.r_spot",
        "case when # % 4 = 0 then row(null, null)::public.r_spot else row(#, 'l \"' || # % 3)::public.r_spot end",
        false,
    ),
    kind("int4range", "int4range(#, # + 5)", true),
    Kind { nullable: false, ..kind("public.r_must", "'must ' || #", true) },
    kind("public.r_count", "# % 100000", false),
    kind("text[]", "array['a,' || #, null, 'NULL', '']", true),
    kind("public.citext", "('Mixed' || #)::public.citext", true),
    kind("inet", "'10.0.0.0/8'::inet + #", true),
];

impl Kind {
    fn value(&self, number: &str) -> String {
        self.value.replace('#', number)
    }
}

/// A column that is written.
#[derive(Debug)]
pub struct Column {
    pub name: String,
    kind: Kind,
    not_null: bool,
    external: bool,
}

impl Column {
    /// Its value for a number, which may be an expression in parentheses.
    pub fn value(&self, number: &str) -> String {
        self.kind.value(number)
    }

    /// Now and then a null, where one may be.
    pub fn value_or_null(&self, random: &mut impl Rng, number: &str) -> String {
        let null = !self.not_null && self.kind.nullable && random.random_ratio(1, 6);
        if null { "null".to_owned() } else { self.value(number) }
    }
}

/// What tells the rows apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    Key,
    /// The first column is GENERATED ALWAYS AS IDENTITY, and the key.
    Always,
    /// Of several columns, the first of which alone tells rows apart, too.
    Composite,
    /// REPLICA IDENTITY FULL, with a key.
    FullKey,
    /// REPLICA IDENTITY FULL, without any.
    Full,
    /// REPLICA IDENTITY USING INDEX.
    Index,
    /// Rows only come.
    InsertOnly,
}

/// A column of unique values that swap places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    None,
    Unique,
    Deferrable,
}

#[derive(Debug)]
pub struct Table {
    pub name: String,
    pub identity: Identity,
    pub columns: Vec<Column>,
    pub key: Vec<String>,
    pub slot: Slot,
    generated: bool,
}

impl Table {
    pub fn draw(random: &mut StdRng, name: &str, blue_major: u32, style: Style) -> Table {
        use Identity::{Always, Composite, Full, FullKey, Index, InsertOnly, Key};
        let identities: &[Identity] = match style {
            Style::Anything => {
                &[Key, Key, Key, Always, Composite, Composite, FullKey, Full, Index, InsertOnly]
            }
            Style::Sets => &[Key, Key, Key, Composite, FullKey, Index],
        };
        let identity = *identities.choose(random).expect("one of them");
        let telling: Vec<Kind> = KINDS.into_iter().filter(|kind| kind.tells).collect();
        let keys = match identity {
            Key | Always | FullKey | Index => 1,
            Composite => random.random_range(2..=3),
            Full | InsertOnly => 0,
        };
        let mut columns = Vec::new();
        for at in 0..keys + random.random_range(1..=7) {
            let first = keys > 0 && at == 0;
            let kind = match (first, identity) {
                (true, Always) => KINDS[0],
                (true, _) => *telling.choose(random).expect("one of them"),
                // Not every type has an order, and the long ones fit no index.
                _ if at < keys => **[&KINDS[0], &KINDS[9], &KINDS[21], &KINDS[23], &KINDS[5], &KINDS[16]]
                    .choose(random)
                    .expect("one of them"),
                _ => *KINDS.choose(random).expect("one of them"),
            };
            let toasts = matches!(kind.sql_type, "text" | "bytea" | "jsonb");
            let external = toasts && at >= keys && random.random_bool(0.7);
            columns.push(Column { name: format!("c{at}"), kind, not_null: at < keys, external });
        }
        let slot = match random.random_range(0..4) {
            0 => Slot::Unique,
            1 => Slot::Deferrable,
            _ => Slot::None,
        };
        // PostgreSQL 18 forbids updates of whole rows with columns that are not published.
        let generated = random.random_bool(0.3)
            && !(blue_major >= 18 && matches!(identity, Full | FullKey))
            && columns.last().is_some_and(|column| column.kind.sql_type == "int");
        let key = (0..keys).map(|at| format!("c{at}")).collect();
        Table { name: name.to_owned(), identity, columns, key, slot, generated }
    }

    /// The commands that make it.
    pub fn ddl(&self) -> String {
        let name = &self.name;
        let mut parts = Vec::new();
        for (at, column) in self.columns.iter().enumerate() {
            let always = match self.identity {
                Identity::Always if at == 0 => " generated always as identity",
                _ if column.not_null => " not null",
                _ => "",
            };
            parts.push(format!("{} {}{always}", column.name, column.kind.sql_type));
        }
        match self.slot {
            Slot::None => {}
            Slot::Unique => parts.push("slot int unique".into()),
            Slot::Deferrable => parts.push("slot int unique deferrable".into()),
        }
        if let (true, Some(last)) = (self.generated, self.columns.last()) {
            parts.push(format!("computed int generated always as ({} % 10) stored", last.name));
        }
        if matches!(self.identity, Identity::Key | Identity::Always | Identity::Composite | Identity::FullKey)
        {
            parts.push(format!("primary key ({})", self.key.join(", ")));
        }
        let mut ddl = format!("create table public.{name} ({});", parts.join(", "));
        for column in self.columns.iter().filter(|column| column.external) {
            let _ =
                write!(ddl, "alter table public.{name} alter column {} set storage external;", column.name);
        }
        let _ = match self.identity {
            Identity::Full | Identity::FullKey => {
                write!(ddl, "alter table public.{name} replica identity full;")
            }
            Identity::Index => write!(
                ddl,
                "create unique index {name}_i on public.{name} ({}); alter table public.{name} replica identity using index {name}_i;",
                self.key.join(", ")
            ),
            _ => Ok(()),
        };
        ddl
    }
}
