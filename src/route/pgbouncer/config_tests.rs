use super::*;
use proptest::prelude::*;

const FILE: &str = "\
;; ours
[databases]
# app = host=commented
app = host=10.0.0.1 port=5432 dbname=app user=app password='a b''c' pool_size=30
\"odd name\"=dbname=x
bare =
[pgbouncer]
app = not an entry
listen_port = 6432
";

fn green() -> Target {
    "host=10.0.0.2 port=5433 dbname=app2".parse().unwrap()
}

fn config(text: &str) -> Config {
    Config::read(text).unwrap()
}

#[test]
fn only_the_three_keys_of_one_entry_change() {
    let expected = FILE.replace(
        "app = host=10.0.0.1 port=5432 dbname=app user",
        "app = host=10.0.0.2 port=5433 dbname=app2 user",
    );
    assert_eq!(config(FILE).with_target("app", &green()).unwrap(), expected);
}

#[test]
fn missing_keys_are_added_and_unnamed_ones_stay() {
    let text = config(FILE).with_target("odd name", &"host=h port=1".parse().unwrap()).unwrap();
    assert_eq!(text, FILE.replace("=dbname=x\n", "=dbname=x host=h port=1\n"));
    let text = config(FILE).with_target("bare", &green()).unwrap();
    assert_eq!(text, FILE.replace("bare =\n", "bare = host=10.0.0.2 port=5433 dbname=app2\n"));
}

#[test]
fn defaults_are_pgbouncers() {
    let points = |name| config(FILE).points_to(name).unwrap();
    assert_eq!(points("bare"), (String::new(), "5432".into(), "bare".into()));
    assert_eq!(points("app"), ("10.0.0.1".into(), "5432".into(), "app".into()));
}

#[test]
fn what_is_written_holds_no_password() {
    let written = serde_json::to_string(&config(FILE).written("app").unwrap()).unwrap();
    assert_eq!(written, r#"{"host":"10.0.0.1","port":"5432","dbname":"app"}"#);
}

#[test]
fn the_twin_has_the_entrys_login_and_its_own_pool() {
    let text = config(FILE).with_probe("app", &green()).unwrap();
    let twin =
        "app__migrate_probe = host=10.0.0.2 port=5433 dbname=app2 user=app password='a b''c' pool_size=1";
    assert_eq!(text, FILE.replace("pool_size=30\n", &format!("pool_size=30\n{twin}\n")));
    let text = config(FILE).with_probe("odd name", &Target::default()).unwrap();
    assert!(text.contains("\n\"odd name__migrate_probe\" = port=5432 dbname=x pool_size=1\n"), "{text}");
}

#[test]
fn a_twins_name_fits() {
    assert!(Config::probe_name(&"x".repeat(63)).len() <= 63);
    assert_ne!(Config::probe_name(&"x".repeat(63)), Config::probe_name(&"x".repeat(62)));
}

#[test]
fn what_cannot_be_edited_safely_is_refused_by_name() {
    let cases = [
        ("%include other.ini\n[databases]\napp=host=a\n", "%include"),
        ("[databases]\nother = host=a\n", "no entry `app`"),
        ("[databases]\n* = host=a\n", "only `*`"),
        ("[pgbouncer]\napp = host=a\n", "no entry `app`"),
        ("[databases]\n;app = host=a\n", "no entry `app`"),
        ("[databases]\napp = host=a\napp = host=b\n", "second time"),
        ("[databases]\napp = host=a\n[x]\n[databases]\n\"app\" = host=b\n", "second time"),
        ("[databases] app = host=a\n", "after the section"),
        ("[databases\napp = host=a\n", "missing"),
        ("[databases]\napp = host=a \\\n  port=5\n", "key"),
        ("[databases]\napp = host=a\n  port 5\n", "line 3"),
        ("[databases]\napp = host=a host=b\n", "twice"),
        ("[databases]\napp = host='a\n", "not closed"),
    ];
    for (text, says) in cases {
        let error = Config::read(text).and_then(|config| config.with_target("app", &green())).unwrap_err();
        assert!(error.what.contains(says), "{text:?}: {}", error.what);
        assert_eq!(error.kind, Kind::Request);
    }
}

/// A file with an entry `app` somewhere, in all the ways one may write it.
fn files() -> impl Strategy<Value = String> {
    let blank = prop_oneof![Just(""), Just(" "), Just("\t"), Just("  ")];
    let value = prop_oneof!["[a-z0-9.]{1,8}", "'[a-z =;#]{0,6}(''[a-z ]{0,3})?'"];
    let key = prop::sample::select(vec!["host", "port", "dbname", "user", "password", "pool_size"]);
    let pairs = prop::collection::btree_map(key, (value, blank.clone()), 0..6).prop_shuffle_pairs();
    let noise = prop::sample::select(vec![
        "",
        "; app = host=x",
        "# é [databases]",
        "other = host=o",
        "\"a\"\"b c\" = dbname=x",
        "* = host=star",
    ]);
    let newline = prop::sample::select(vec!["\n", "\r\n"]);
    let noises = prop::collection::vec(noise, 0..4);
    (pairs, noises.clone(), noises, newline, blank.clone(), blank, any::<bool>(), any::<bool>()).prop_map(
        |(pairs, before, after, newline, left, right, quoted, last_newline)| {
            let name = if quoted { "\"app\"" } else { "app" };
            let mut lines = vec!["[pgbouncer]".to_owned(), "app = 1".into(), " [databases] ".into()];
            lines.extend(before.iter().map(|&line| line.to_owned()));
            lines.push(format!("{left}{name}{left}={right}{pairs}{right}"));
            lines.extend(after.iter().filter(|line| !before.contains(line)).map(|&line| line.to_owned()));
            lines.extend(["[users]".to_owned(), "app = pool_mode=session".into()]);
            let mut text = lines.join(newline);
            if last_newline {
                text.push_str(newline);
            }
            text
        },
    )
}

trait ShufflePairs {
    fn prop_shuffle_pairs(self) -> BoxedStrategy<String>;
}

impl<S> ShufflePairs for S
where
    S: Strategy<Value = std::collections::BTreeMap<&'static str, (String, &'static str)>> + 'static,
{
    fn prop_shuffle_pairs(self) -> BoxedStrategy<String> {
        let vec = self.prop_map(|pairs| pairs.into_iter().collect::<Vec<_>>());
        let text = vec.prop_shuffle().prop_map(|pairs| {
            let written = pairs.iter().map(|(key, (value, blank))| format!("{key}{blank}={blank}{value}"));
            written.collect::<Vec<_>>().join(" ")
        });
        text.boxed()
    }
}

fn targets() -> impl Strategy<Value = Target> {
    let name = prop::option::of("[a-z0-9.' é]{1,8}");
    (name.clone(), prop::option::of(1..=u16::MAX), name).prop_map(|(host, port, dbname)| Target {
        host,
        port,
        dbname,
    })
}

/// Every line but those of the entry, in order.
fn other_lines(text: &str) -> Vec<&str> {
    let mut in_databases = false;
    let mut lines = Vec::new();
    for line in text.split_inclusive('\n') {
        let content = line.trim();
        if content.starts_with('[') {
            in_databases = content == "[databases]";
        }
        let is_entry = ["app", "\"app\""]
            .iter()
            .any(|name| content.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('=')));
        if !(in_databases && is_entry) {
            lines.push(line);
        }
    }
    lines
}

proptest! {
    #[test]
    fn going_there_and_back_gives_the_same_bytes(text in files(), target in targets()) {
        let before = config(&text);
        let there = config(&before.with_target("app", &target).unwrap());
        let back = there.with_written("app", &before.written("app").unwrap()).unwrap();
        prop_assert_eq!(back, text);
    }

    #[test]
    fn the_target_is_reached_and_nothing_else_moves(text in files(), target in targets()) {
        let before = config(&text);
        let after = config(&before.with_target("app", &target).unwrap());
        let (host, port, dbname) = before.points_to("app").unwrap();
        let expected = (
            target.host.clone().unwrap_or(host),
            target.port.map_or(port, |port| port.to_string()),
            target.dbname.clone().unwrap_or(dbname),
        );
        prop_assert_eq!(after.points_to("app").unwrap(), expected);
        prop_assert_eq!(other_lines(&text), other_lines(after.text()));
        let rest = |config: &Config| {
            let pairs = config.entry("app").unwrap().pairs;
            let others = pairs.into_iter().filter(|pair| !["host", "port", "dbname"].contains(&&*pair.key));
            others.map(|pair| (pair.key, pair.value)).collect::<Vec<_>>()
        };
        prop_assert_eq!(rest(&before), rest(&after));
        prop_assert_eq!(after.with_target("app", &target).unwrap(), after.text());
    }

    #[test]
    fn a_twin_comes_and_goes(text in files(), target in targets()) {
        let before = config(&text);
        let with = config(&before.with_probe("app", &target).unwrap());
        let reached = config(&before.with_target("app", &target).unwrap());
        prop_assert_eq!(
            with.points_to(&Config::probe_name("app")).unwrap(), reached.points_to("app").unwrap());
        prop_assert_eq!(with.points_to("app").unwrap(), before.points_to("app").unwrap());
        prop_assert_eq!(with.with_probe("app", &target).unwrap(), with.text());
        prop_assert_eq!(with.without_probe("app"), text);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*(\n\\PC*){0,4}", lines in "(\\[databases\\]|app|=|'|\"|\n| |x){0,20}") {
        for text in [text, lines] {
            if let Ok(config) = Config::read(text) {
                let _ = config.with_target("app", &green());
                let _ = config.with_probe("app", &green());
            }
        }
    }
}
