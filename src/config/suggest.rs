//! `did you mean …?`

/// The known name nearest to a written one, as a sentence; `None` when nothing is near.
pub(super) fn nearest<'k>(written: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    let lower = written.to_lowercase();
    let scored = known.map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name));
    // A third of the letters may be wrong, and one always.
    let bound = (written.chars().count() / 3).max(1);
    let (_, best) = scored.filter(|(distance, _)| *distance <= bound).min()?;
    Some(format!("did you mean `{best}`?"))
}

/// The nearest name, or else all of them.
pub(super) fn nearest_or_list<'k>(written: &str, known: impl Iterator<Item = &'k str> + Clone) -> Option<String> {
    nearest(written, known.clone()).or_else(|| {
        let known = list(known);
        (!known.is_empty()).then(|| format!("there is {known}"))
    })
}

/// Names as in `a`, `b` or `c`.
pub(super) fn list<'k>(names: impl Iterator<Item = &'k str>) -> String {
    let mut names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    match names.pop() {
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} or {last}", names.join(", ")),
        None => String::new(),
    }
}
