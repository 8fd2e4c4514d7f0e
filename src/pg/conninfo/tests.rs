use super::*;
use std::os::unix::fs::PermissionsExt;

fn nothing_around() -> Environment {
    Environment { variables: [("USER".to_owned(), "me".to_owned())].into(), home: None }
}

fn around(variables: &[(&str, &str)], home: Option<&Path>) -> Environment {
    Environment {
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        home: home.map(Path::to_owned),
    }
}

fn parse(text: &str) -> ConnInfo {
    ConnInfo::parse_in(text, &nothing_around()).unwrap()
}

fn refuse(text: &str) -> Error {
    let error = ConnInfo::parse_in(text, &nothing_around()).unwrap_err();
    assert!(error.hint.is_some(), "{error} has no remedy");
    error
}

fn password(info: &ConnInfo) -> Option<&str> {
    info.password.as_ref().map(ExposeSecret::expose_secret)
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("migrate-conninfo-{name}-{}", std::process::id()));
    fs_err(std::fs::create_dir_all(path.join(".postgresql")));
    path
}

fn fs_err<T>(result: std::io::Result<T>) -> T {
    result.unwrap()
}

#[test]
fn both_forms_say_the_same() {
    let uri =
        parse("postgresql://u%40x:p%2F%25w@db.example:6432/app%20db?sslmode=require&options=-c%20a%3Db");
    let words = parse(
        r"host=db.example port = 6432 user=u@x password='p/%w' dbname='app db' sslmode=require options='-c a=b'",
    );
    for info in [&uri, &words] {
        assert_eq!(info.label(), "db.example:6432/app db as u@x");
        assert_eq!(password(info), Some("p/%w"));
        assert_eq!(info.tls.mode, SslMode::Require);
        assert_eq!(info.options.as_deref(), Some("-c a=b"));
    }
    assert_eq!(uri.libpq_env(), words.libpq_env());
}

#[test]
fn odd_forms_are_read_as_libpq_reads_them() {
    assert_eq!(parse("postgres://[::1]:5433/x").host(), "::1");
    assert_eq!(parse("postgres://").database(), "me");
    assert_eq!(parse("postgres://h?dbname=d&user=u").label(), "h:5432/d as u");
    assert_eq!(parse("postgres://%2Frun%2Fpg/d").socket_directory(), Some(Path::new("/run/pg")));
    assert_eq!(password(&parse("host=h password=a\\ b\\'c")), Some("a b'c"));
    assert_eq!(password(&parse("postgres://u:a@b@h/d")), Some("a@b"));
    assert_eq!(parse("hostaddr=10.0.0.1").host(), "10.0.0.1");
    assert_eq!(parse("host=h connect_timeout=0").connect_timeout, Duration::from_secs(10));
    assert_eq!(parse("host=h connect_timeout=1").connect_timeout, Duration::from_secs(2));
}

#[test]
fn what_is_wrong_is_named_and_the_string_never_shown() {
    for (text, said) in [
        ("host=h password=hunter2 sslmod=require", "sslmod"),
        ("postgres://u:hunter2@h/d?sslmode=verify", "sslmode"),
        ("postgres://u:hunter2@h:port/d", "port"),
        ("postgres://u:hunter2%zz@h/d", "password"),
        ("host=h password=hunter2 hunter2", "without `=`"),
        ("host=h password='hunter2", "opening quote"),
        ("host=a,b password=hunter2", "several servers"),
        ("host=h password=hunter2 sslcrl=/x", "not supported"),
        ("host=h password=hunter2 HunteR2=x", "not shown"),
        ("mysql://u:hunter2@h/d", "not for Postgres"),
        ("host=h password=hunter2 hostaddr=name", "hostaddr"),
        ("host=h password=hunter2 target_session_attrs=standby", "target_session_attrs"),
    ] {
        let error = refuse(text);
        assert!(error.what.contains(said), "{}", error.what);
        let shown = format!("{error:?}").to_lowercase();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(error.kind, Kind::Plan);
    }
    assert!(!format!("{:?}", parse("host=h password=hunter2")).contains("hunter2"));
}

#[test]
fn the_string_wins_over_the_service_and_the_service_over_variables() {
    let home = scratch("service");
    fs_err(std::fs::write(
        home.join(".pg_service.conf"),
        "[other]\nhost=o\n# x\n[app]\nhost=s\nport=1111\n[z]\n",
    ));
    let environment =
        around(&[("PGSERVICE", "app"), ("PGHOST", "v"), ("PGUSER", "vu"), ("PGDATABASE", "vd")], Some(&home));
    let info = ConnInfo::parse_in("port=2222", &environment).unwrap();
    assert_eq!(info.label(), "s:2222/vd as vu");
    let error = ConnInfo::parse_in("service=nowhere", &environment).unwrap_err();
    assert!(error.what.contains("nowhere"));
    fs_err(std::fs::write(home.join(".pg_service.conf"), "[app]\nhots=s\n"));
    let error = ConnInfo::parse_in("", &environment).unwrap_err();
    assert!(error.what.contains("hots") && error.what.contains("line 2"), "{}", error.what);
    fs_err(std::fs::remove_dir_all(home));
}

#[test]
fn the_password_file_is_used_only_when_private() {
    let home = scratch("pass");
    let file = home.join(".pgpass");
    fs_err(std::fs::write(&file, "# c\nother:*:*:*:no\n*:5432:d:u:a\\:b\\\\c\n*:*:*:*:last\n"));
    fs_err(std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)));
    let environment = around(&[], Some(&home));
    let of = |text: &str| password(&ConnInfo::parse_in(text, &environment).unwrap()).map(str::to_owned);
    assert_eq!(of("host=h user=u dbname=d").as_deref(), Some("a:b\\c"));
    assert_eq!(of("host=h user=x dbname=d").as_deref(), Some("last"));
    assert_eq!(of("host=h user=x password=own").as_deref(), Some("own"));
    fs_err(std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)));
    assert_eq!(of("host=h user=u dbname=d"), None);
    fs_err(std::fs::remove_dir_all(home));
}

#[test]
fn authorities_make_require_verify() {
    assert_eq!(parse("host=h sslmode=require").tls.mode, SslMode::Require);
    assert_eq!(parse("host=h sslmode=require sslrootcert=/ca").tls.mode, SslMode::VerifyCa);
    assert_eq!(parse("host=h sslrootcert=system").tls.mode, SslMode::VerifyFull);
    assert_eq!(parse("host=h sslrootcert=/ca").tls.mode, SslMode::Prefer);
    refuse("host=h sslrootcert=system sslmode=require");
    refuse("host=h sslcert=/c");
    refuse("host=h sslnegotiation=direct");
    let home = scratch("roots");
    fs_err(std::fs::write(home.join(".postgresql/root.crt"), ""));
    let info = ConnInfo::parse_in("host=h user=u sslmode=require", &around(&[], Some(&home))).unwrap();
    assert_eq!(info.tls.mode, SslMode::VerifyCa);
    fs_err(std::fs::remove_dir_all(home));
}

#[test]
fn children_get_it_through_their_environment() {
    let info = parse("host=h user=u password=pw sslmode=verify-full").with_database("other");
    let env: std::collections::HashMap<_, _> = info.libpq_env().into_iter().collect();
    assert_eq!(env["PGPASSWORD"], "pw");
    assert_eq!(env["PGDATABASE"], "other");
    assert_eq!(env["PGSSLMODE"], "verify-full");
    assert_eq!(env["PGSSLROOTCERT"], "system");
}

#[test]
fn an_address_tells_whether_the_server_is_here() {
    let is_here = |text: &str| parse(text).is_on_this_machine();
    for here in
        ["host=/run/postgresql", "host=localhost", "host=127.0.0.2", "host=::1", "host=db hostaddr=127.0.0.1"]
    {
        assert!(is_here(here), "{here}");
    }
    for elsewhere in ["host=db", "host=10.0.0.1", "host=localhost hostaddr=10.0.0.1"] {
        assert!(!is_here(elsewhere), "{elsewhere}");
    }
}
