//! What a hub answers: the description of a repository, and the status and headers of a chain of answers. No name, commit or
//! hash that is accepted leads out of a folder.
//!
//! The bytes are a description if they begin with `{`. Otherwise they are answers with an empty line between them, each a
//! status and then a header to a line, as HTTP writes them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::{Component, Path};
use zprune::hub::address::Address;
use zprune::hub::answers::{Answer, is_complete, listing, metadata, start};
use zprune::hub::names::FileName;

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"{") {
        if let Ok(listing) = listing(bytes) {
            stays_inside(listing.commit.as_str());
            listing.files.iter().for_each(|name| stays_inside(name));
            for name in listing.files.iter().filter_map(|name| FileName::parse(name).ok()) {
                stays_inside(name.as_str());
            }
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let chain: Vec<Answer> = text.split("\n\n").map(answer).collect();
    let _ = is_complete(&chain);
    if let Ok(metadata) = metadata(&chain) {
        stays_inside(metadata.commit.as_str());
        stays_inside(metadata.etag.as_str());
        for from in [0, 1, u64::MAX] {
            if let Ok(start) = start(&chain, &metadata, from) {
                assert!(start.from == from || start.from == 0);
            }
        }
    }
    let mut here = Address::parse("https://huggingface.co/org/name/resolve/main/config.json").expect("an address");
    for answer in &chain {
        let _ = answer.retry_after();
        if let Ok(Some(location)) = answer.header("Location")
            && let Ok(next) = here.join(location)
        {
            let again = Address::parse(&next.text()).expect("an address is read as it is written");
            assert!(again.same_origin(&next), "{} leads elsewhere", next.text());
            here = next;
        }
    }
});

fn answer(text: &str) -> Answer {
    let mut lines = text.lines();
    let status = lines.next().and_then(|status| status.trim().parse().ok());
    let headers = lines.filter_map(|line| line.split_once(':'));
    Answer {
        status: status.unwrap_or(200),
        headers: headers.map(|(name, value)| (name.to_string(), value.trim().to_string())).collect(),
    }
}

fn stays_inside(name: &str) {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    assert!(plain && !name.is_empty() && !name.contains('\\'), "{name:?} may lead elsewhere");
}
