//! How the two databases sort their texts.

use super::{
    Seen,
    view::{attempt_is_on, both, is_selected},
};
use crate::{facts::Facts, plan::Plan};

pub(super) fn differs(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some((blue, green)) = both(facts) else { return Vec::new() };
    let (ours, there) = (&blue.collation, &green.collation);
    let mut seen = Vec::new();
    if ours.order() != there.order() {
        let what = format!("blue sorts texts by {}, green by {}", ours.order(), there.order());
        seen.push(Seen::green("collation", what));
    } else if let (Some(version), Some(other)) = (&ours.version, &there.version)
        && version != other
    {
        let what =
            format!("both sort texts by {}, blue as version {version} and green as {other}", ours.order());
        seen.push(Seen::green("collation", what));
    }
    if ours.ctype != there.ctype {
        let what = format!("`lower` and `upper` follow {} on blue and {} on green", ours.ctype, there.ctype);
        seen.push(Seen::green("LC_CTYPE", what));
    }
    seen
}

pub(super) fn stale(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let sides = [
        (facts.blue.as_ref(), Seen::blue as fn(String, String) -> Seen),
        (facts.green.as_ref(), Seen::green),
    ];
    let mut seen = Vec::new();
    for (server, side) in sides {
        let Some(collation) = server.map(|server| &server.collation) else { continue };
        if let (Some(recorded), Some(version)) = (&collation.recorded_version, &collation.version)
            && recorded != version
        {
            let what =
                format!("its indexes were built with version {recorded}, the library is now {version}");
            seen.push(side("collation".into(), what));
        }
    }
    seen
}

pub(super) fn text_range(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some((blue, green)) = both(facts) else { return Vec::new() };
    if blue.collation.order() == green.collation.order() || attempt_is_on(facts) {
        return Vec::new();
    }
    let what =
        "its partitions are ranges of text, and green sorts texts in another order: rows would be refused";
    let selected = blue.text_ranges.iter().filter(|table| is_selected(plan, table));
    selected.map(|table| Seen::blue(table.plain(), what)).collect()
}
