//! A line of the operator's file with a caret under the trouble, the same in every message.

/// A place in a text; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
}

/// The line at `spot` with carets under the token that begins there; empty when the text has no such line.
///
/// ```text
///   |
/// 7 | cutovr:
///   | ^^^^^^
/// ```
///
/// Passwords that stand in the line are starred out.
pub fn excerpt(text: &str, spot: Spot) -> String {
    let Some(line) = text.lines().nth(spot.line.saturating_sub(1)) else { return String::new() };
    let line = without_passwords(line);
    let before = spot.column.saturating_sub(1).min(line.chars().count());
    let carets = token_length(&line.chars().skip(before).collect::<String>());
    let number = spot.line.to_string();
    let margin = " ".repeat(number.len());
    // Tabs stay tabs, so that the caret stands under its character however wide they are shown.
    let indent: String = line.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    format!("{margin} |\n{number} | {}\n{margin} | {indent}{}", line.trim_end(), "^".repeat(carets))
}

/// How many characters the YAML token at the start of `rest` has; at least 1.
fn token_length(rest: &str) -> usize {
    let chars: Vec<char> = rest.trim_end().chars().collect();
    let quote = chars.first().copied().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote {
        let close = chars.iter().skip(1).position(|c| *c == quote).map(|at| at + 2);
        return close.unwrap_or(chars.len()).max(1);
    }
    let ends = |at: usize| match chars[at] {
        ':' => chars.get(at + 1).is_none_or(|next| next.is_whitespace()),
        ',' | ']' | '}' => true,
        '#' => at > 0 && chars[at - 1].is_whitespace(),
        _ => false,
    };
    let end = (0..chars.len()).find(|at| ends(*at)).unwrap_or(chars.len());
    chars[..end].iter().collect::<String>().trim_end().chars().count().max(1)
}

/// Stars for the password of a `scheme://user:password@host`, and for the value after `password=`.
pub(super) fn without_passwords(line: &str) -> String {
    let mut chars: Vec<char> = line.chars().collect();
    let find = |chars: &[char], from: usize, what: &str| {
        let what: Vec<char> = what.chars().collect();
        (from..chars.len().saturating_sub(what.len() - 1)).find(|at| {
            chars[*at..*at + what.len()].iter().map(char::to_ascii_lowercase).eq(what.iter().copied())
        })
    };
    let mut from = 0;
    while let Some(at) = find(&chars, from, "://") {
        from = at + 3;
        let end = (from..chars.len()).find(|i| chars[*i].is_whitespace()).unwrap_or(chars.len());
        let colon = (from..end).find(|i| chars[*i] == ':');
        let sign = (from..end).rev().find(|i| chars[*i] == '@');
        if let (Some(colon), Some(sign)) = (colon, sign) {
            (colon + 1..sign).for_each(|i| chars[i] = '*');
        }
    }
    from = 0;
    while let Some(at) = find(&chars, from, "password=") {
        from = at + "password=".len();
        let end = (from..chars.len())
            .find(|i| chars[*i].is_whitespace() || matches!(chars[*i], '&' | '"'))
            .unwrap_or(chars.len());
        (from..end).for_each(|i| chars[i] = '*');
    }
    chars.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_is_under_the_token() {
        let text = "version: 1\n  cutovr: { pause_max: 5s }\n";
        assert_eq!(
            excerpt(text, Spot { line: 2, column: 3 }),
            "  |\n2 |   cutovr: { pause_max: 5s }\n  |   ^^^^^^"
        );
        assert_eq!(
            excerpt(text, Spot { line: 2, column: 24 }),
            "  |\n2 |   cutovr: { pause_max: 5s }\n  |                        ^^"
        );
        assert_eq!(excerpt(text, Spot { line: 9, column: 1 }), "");
    }

    #[test]
    fn a_password_in_the_line_is_not_shown() {
        for line in [
            "url: \"postgresql://u:hunter2@h/db\"",
            "url: postgresql://u:hun@ter2@h/db",
            "admin: host=x PASSWORD=hunter2 user=y",
            "a: amqp://a:hunter2@h, b: amqp://b:hunter2@h",
        ] {
            let shown = excerpt(line, Spot { line: 1, column: 1 });
            assert!(!shown.contains("ter2"), "{shown}");
        }
    }
}
