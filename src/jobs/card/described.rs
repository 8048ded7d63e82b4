//! A card from what it says of a model: front matter, heading, settings, and a place for what is measured.

use crate::experiment::plan::ComponentPlan;

/// Keys of the original's front matter that hold for a pruned model, too.
const KEPT: [&str; 6] = [
    "license",
    "license_name",
    "license_link",
    "language",
    "pipeline_tag",
    "library_name",
];

/// The lines that what was measured stands between.
pub(super) const BEGIN: &str = "<!-- Measured: written by `zprune card`. -->";
pub(super) const END: &str = "<!-- End of what was measured. -->";

/// What stands between them in a new card.
const NOTHING_YET: &str = "<!-- Nothing yet. `zprune eval --model DIR --corpus FILE --json found.json` measures, and \
                           `zprune card DIR --measured found.json` writes it here. -->";

/// Where a card has the place for what was measured: the byte at which its first line begins, and that of its last line.
pub(super) fn place(card: &str) -> Option<(usize, usize)> {
    let places = card.find(BEGIN).zip(card.find(END));
    places.filter(|(begin, end)| begin < end)
}

/// A card as it was before anything was measured.
pub(super) fn unmeasured(card: &str) -> Option<String> {
    let (begin, end) = place(card)?;
    Some(format!("{}{BEGIN}\n{NOTHING_YET}\n{}", &card[..begin], &card[end..]))
}

/// The original of a model.
pub(super) struct Base<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) revision: Option<&'a str>,
}

impl<'a> Base<'a> {
    /// The name, if it is one of the hub.
    fn hub(&self) -> Option<&'a str> {
        self.name.filter(|name| name.contains('/'))
    }

    /// The original in words, with a link where the hub has it.
    fn in_words(&self) -> String {
        match (self.hub(), self.revision, self.name) {
            (Some(name), Some(commit), _) => {
                let short: String = commit.chars().take(7).collect();
                format!(
                    "[{name}](https://huggingface.co/{name}) at commit [{short}](https://huggingface.co/{name}/tree/{commit})"
                )
            }
            (Some(name), None, _) => format!("[{name}](https://huggingface.co/{name})"),
            (None, _, Some(name)) => format!("`{}`", plain(name)),
            (None, _, None) => "a model".to_string(),
        }
    }
}

/// What a card says of a model.
pub(super) struct Described<'a> {
    pub(super) base: Base<'a>,
    /// Behind the original's name in the heading.
    pub(super) title: String,
    /// A tag of its own, beside those of all models of zprune.
    pub(super) tag: &'static str,
    /// How it was made from the original: `pruned with zprune 0.2.0`.
    pub(super) made: String,
    /// What came of it, in a sentence.
    pub(super) result: String,
    /// The steps with their settings.
    pub(super) rows: Vec<(&'static str, String)>,
    /// What its users must know.
    pub(super) note: String,
}

impl Described<'_> {
    /// The card. `original` is the card of the model it was made from, if that has one.
    pub(super) fn card(&self, original: Option<&str>) -> String {
        let kept = original.map(kept).unwrap_or_default();
        let short = self.base.name.unwrap_or("model");
        let short = short.rsplit('/').next().unwrap_or(short);
        let mut text = String::from("---\n");
        let hub = self.base.hub();
        if let Some(name) = hub {
            text.push_str(&format!("base_model: {name}\n"));
        }
        kept.iter().for_each(|(_, lines)| text.push_str(lines));
        let has = |key: &str| kept.iter().any(|(kept, _)| kept == key);
        if !has("library_name") {
            text.push_str("library_name: transformers\n");
        }
        if !has("pipeline_tag") {
            text.push_str("pipeline_tag: text-generation\n");
        }
        text.push_str(&format!("tags:\n- zprune\n- pruning\n- {}\n", self.tag));
        text.push_str(&format!("---\n\n# {short}, {}\n\n", self.title));
        let mut missing = Vec::new();
        if !has("license") {
            missing.push("`license`, which the original's card does not name here");
        }
        if hub.is_none() {
            missing.push("`base_model`, the original's name on the hub (`org/name`)");
        }
        if !missing.is_empty() {
            let missing = missing.join("; ");
            text.push_str(&format!(
                "<!-- Before you publish it, add to the lines above: {missing}. -->\n\n"
            ));
        }
        text.push_str(&format!(
            "This is {}, {} and not trained afterwards. {}\n\n",
            self.base.in_words(),
            self.made,
            self.result
        ));
        if !self.rows.is_empty() {
            text.push_str("| step | setting |\n|---|---|\n");
            for (step, setting) in &self.rows {
                text.push_str(&format!("| {step} | {} |\n", plain(setting).replace('|', "\\|")));
            }
        }
        text.push_str(&format!("\n{}\n\n{BEGIN}\n{NOTHING_YET}\n{END}\n", self.note));
        text
    }
}

/// Keys of a card's front matter that a pruned model keeps, each with its lines as they stand there.
fn kept(card: &str) -> Vec<(String, String)> {
    let mut lines = card.trim_start_matches('\u{feff}').lines();
    if lines.next().map(str::trim_end) != Some("---") {
        return Vec::new();
    }
    let mut keys: Vec<(String, String)> = Vec::new();
    for line in lines {
        let line = line.trim_end();
        if line == "---" {
            keys.retain(|(key, _)| KEPT.contains(&key.as_str()));
            return keys;
        }
        let begins = !line.starts_with([' ', '\t', '-', '#']);
        match (line.split_once(':'), keys.last_mut()) {
            (Some((key, _)), _) if begins => keys.push((key.to_string(), format!("{line}\n"))),
            (_, Some((_, lines))) if !line.is_empty() => lines.push_str(&format!("{line}\n")),
            _ => {}
        }
    }
    // It never ended, so it is no front matter.
    Vec::new()
}

/// A component with its parameters.
pub(super) fn component(plan: &ComponentPlan) -> String {
    let parameters = plan.parameters.as_object();
    let parameters: Vec<String> = parameters
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    match parameters.is_empty() {
        true => format!("`{}`", plan.name),
        false => format!("`{}` ({})", plan.name, parameters.join(", ")),
    }
}

/// A text without line ends, so that it stays in its row.
pub(super) fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_holds_for_a_pruned_model_is_kept_of_a_card() {
        let card = "\u{feff}---\r\nlicense: other\r\nlicense_name: ours\r\n# a remark\r\nlanguage:\r\n- en\r\n  - de\r\nbase_model: a/b\r\n\
                    tags:\r\n- license\r\nextra_gated_prompt: >-\r\n  license: mine\r\nlicense_link: https://x/y\r\n---\r\nlicense: no\r\n";
        let kept = kept(card);
        let keys: Vec<&str> = kept.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["license", "license_name", "language", "license_link"]);
        assert_eq!(kept[2].1, "language:\n- en\n  - de\n");
        for none in [
            "",
            "license: mit\n",
            "---\nlicense: mit\n",
            "# Title\n---\nlicense: mit\n---\n",
        ] {
            assert!(super::kept(none).is_empty(), "{none}");
        }
    }
}
