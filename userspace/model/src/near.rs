//! Near misses of a name, for error messages.

/// Those of `known` that a user may have meant by `wanted`: at most three, the nearest first.
#[must_use]
pub fn names(wanted: &str, known: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut scored: Vec<_> = known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wanted, &name), name))
        .filter(|(score, _)| *score > 0.8)
        .collect();
    scored.sort_by(|left, right| {
        right
            .0
            .total_cmp(&left.0)
            .then_with(|| left.1.cmp(&right.1))
    });
    scored.truncate(3);
    scored.into_iter().map(|(_, name)| name).collect()
}

/// What an error message ends with; empty where there is no near miss.
#[must_use]
pub fn suggestion(names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!(" (did you mean {}?)", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_nearest_comes_first() {
        let known = ["web-2", "database", "web-1", "cache"].map(str::to_owned);
        assert_eq!(super::names("web1", known), ["web-1", "web-2"]);
    }
}
