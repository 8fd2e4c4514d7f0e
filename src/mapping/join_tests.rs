use super::*;

fn over(text: &str) -> String {
    let query = Reading::query(text).unwrap();
    let place =
        |table: &TableName| (table.schema.as_str() == "public").then(|| format!("stage.{}", table.name));
    query.over(&place).unwrap().trim().to_owned()
}

#[test]
fn the_tables_of_a_query_are_put_elsewhere_and_keep_their_names() {
    let cases = [
        (
            "select a.x from public.t a left join public.\"U v\" on a.x = \"U v\".y;",
            "select a.x from stage.\"t\" a left join stage.\"U v\" as \"U v\" on a.x = \"U v\".y",
        ),
        (
            "with t as (select x from public . t) select t.x, (select 'public.t' from only public.u) from t",
            "with t as (select x from stage.\"t\" as \"t\") select t.x, (select 'public.t' from only stage.\"u\" as \"u\") from t",
        ),
        (
            "select x from public.t union all select /* é public.t */ y from public.u as x -- public.t",
            "select x from stage.\"t\" as \"t\" union all select /* é public.t */ y from stage.\"u\" as x -- public.t",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(over(text), wanted);
    }
    assert_eq!(Reading::query("select x from other.t").unwrap().over(&|_| None), None);
}

#[test]
fn what_is_more_than_reading_is_refused() {
    let cases = [
        ("  ", "it is empty"),
        ("delete from public.t", "it is no query"),
        ("select x into y from public.t", "it does more than read"),
        ("with d as (delete from public.t returning x) select x from d", "it does more than read"),
        ("select x from public.t for update", "it does more than read"),
        ("select t.* from public.t", "it names all columns at once (`*`): name each that it needs"),
        ("select x from t", "`t` is named without its schema, or is no name of the query's own WITH"),
        ("select x from public.t where y = $1", "it has a parameter (`$1`), and nothing would fill it"),
        (
            "select x from public.t tablesample system (1)",
            "it reads a sample, and would read another one when it is applied again",
        ),
        (
            "select x from public.t where day = date 'today'",
            "'today' is the moment at which it is read, and would differ when it is applied again",
        ),
    ];
    for (text, why) in cases {
        assert_eq!(Reading::query(text).unwrap_err().what, why, "{text}");
    }
    assert!(Reading::query("select 1; select 2").is_err());
}

#[test]
fn a_key_may_be_looked_up_in_another_table() {
    let text = "(select r.login from public.request r where r.id = handled.id)";
    let key = Reading::expression(text).unwrap();
    assert_eq!(key.tables().collect::<Vec<_>>(), [TableName::new("public", "request")]);
    let over = key.over(&|table| Some(format!("stage.{}", table.name))).unwrap();
    assert_eq!(over, "(\n(select r.login from stage.\"request\" r where r.id = handled.id)\n)");
    assert_eq!(Reading::expression("a, b").unwrap_err().what, "it is more than one expression");
}

#[test]
fn what_the_query_gives_is_held_against_green() {
    use crate::mapping::GreenColumn;
    let column = |name: &str, must_be_given, generated| GreenColumn {
        name: Ident::new(name),
        type_name: "text".into(),
        must_be_given,
        generated,
        identity_always: false,
    };
    let green = GreenTable {
        columns: vec![
            column("id", true, false),
            column("note", true, false),
            column("twice", false, true),
            column("own", false, false),
        ],
        unique: vec![vec![Ident::new("id")]],
    };
    let joining = Joining {
        green: TableName::new("public", "flow"),
        join: Join { key: vec![Ident::new("id")], ..Join::default() },
        sources: Vec::new(),
    };
    let given = |names: &[&str]| -> Vec<Given> {
        names.iter().map(|name| Given { name: Ident::new(*name), type_name: "text".into() }).collect()
    };
    let joined = joining.fit(&green, &given(&["note", "id"])).unwrap();
    assert_eq!((joined.key, joined.own), (vec![1], vec![Ident::new("own")]));
    let said = |joining: &Joining, names: &[&str]| -> Vec<String> {
        joining.fit(&green, &given(names)).unwrap_err().into_iter().map(|problem| problem.what).collect()
    };
    assert_eq!(
        said(&joining, &["nota", "twice", "own", "own"]),
        [
            "the query gives `nota`, and public.flow on green has no such column",
            "green computes public.flow.twice by itself",
            "the query gives `own` twice",
            "public.flow.id on green is NOT NULL without a default, and the query does not give it",
            "public.flow.note on green is NOT NULL without a default, and the query does not give it",
            "the query does not give `id`, which is in the key",
        ]
    );
    let by_note = Joining { join: Join { key: vec![Ident::new("note")], ..Join::default() }, ..joining };
    assert_eq!(
        said(&by_note, &["id", "note"]),
        ["public.flow on green has no primary key and no unique index of just these NOT NULL columns: note"]
    );
}
