//! Names that lead elsewhere, from the hub and by links in the cache.

use super::COMMIT;
use super::hostile::{Hostile, Place, answer, description, facts, files, honest, limits};
use super::server::etag;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;
use zprune::hub::datasets::DatasetFile;
use zprune::hub::{Hub, Repository};
use zprune::progress::Silent;

#[test]
fn a_hash_that_is_a_path_is_refused() {
    let git = etag("config.json", &files()["config.json"]);
    for value in [
        "../../../x",
        "..",
        "VICTIM",
        "\\..\\..\\x",
        "C:\\x",
        "",
        "d41d8cd98f00b204e9800998ecf8427e-2",
        &format!("{git}/../../../x"),
        &git[1..],
    ] {
        for quoted in [true, false] {
            let place = Place::new();
            let value = value.replace("VICTIM", &place.victim().to_string_lossy());
            let value = if quoted { format!("\"{value}\"") } else { value };
            for header in ["ETag", "X-Linked-Etag"] {
                let text = format!("X-Repo-Commit: {COMMIT}\r\nX-Linked-Size: 22\r\n{header}: {value}\r\n");
                let hub = Hostile::writing(|request| !request.describes(), answer("200 OK", &text, b"evil"));
                place.refuses(&hub, &["config.json: unexpected answer of the hub: the ETag `"]);
                assert!(hub.log().len() < 5, "{} requests", hub.log().len());
            }
        }
    }
}

#[test]
fn the_second_answer_is_not_used_for_names() {
    // Honest the first time it is asked about a file, and never again.
    let place = Place::new();
    let path = place.victim().to_string_lossy().into_owned();
    let asked = Mutex::new(BTreeSet::new());
    let hub = Hostile::new(move |request, stream| {
        if request.describes() || asked.lock().expect("not poisoned").insert(request.file().to_string()) {
            return stream.write_all(&honest(request));
        }
        let content = &files()[request.file()];
        let (status, sent) = match request.probes() {
            true => ("206 Partial Content", &content[..1]),
            false => ("200 OK", &content[..]),
        };
        let range = format!("Content-Range: bytes 0-0/{}\r\n", content.len());
        let headers = format!("X-Repo-Commit: {COMMIT}\r\nETag: \"{path}\"\r\n{range}");
        stream.write_all(&answer(status, &headers, sent))
    });
    place.fetch(&hub).expect("the content is right");
    place.complete();
    place.untouched();
    for (headers, part) in [
        (format!("X-Repo-Commit: {}\r\n", COMMIT.replace('0', "9")), "the commit"),
        (
            format!("X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: {COMMIT}\r\n"),
            "the hash",
        ),
        (format!("ETag: {COMMIT}\r\n"), "the hash"),
        ("X-Linked-Size: 7\r\n".to_string(), "the size"),
    ] {
        let hub = Hostile::new(move |request, stream| match request.describes() || request.probes() {
            true => stream.write_all(&honest(request)),
            false => stream.write_all(&answer("200 OK", &headers, &files()[request.file()])),
        });
        Place::new().refuses(&hub, &["config.json: ", part, "in one answer and"]);
    }
}

#[test]
fn a_commit_that_is_none_or_another_is_refused() {
    for sha in [
        "../../../x",
        "main",
        "",
        &COMMIT[1..],
        "0000000000000000000000000000000000000000\\n",
    ] {
        let hub = Hostile::writing(
            |request| request.describes(),
            answer("200 OK", "", description().replace(COMMIT, sha).as_bytes()),
        );
        Place::new().refuses(&hub, &["org/tiny (revision main): ", "the commit `"]);
    }
    for commit in ["../../../x", "1111111111111111111111111111111111111111"] {
        let text = facts("config.json").replace(COMMIT, commit);
        let hub = Hostile::writing(|request| !request.describes(), answer("200 OK", &text, b"evil"));
        Place::new().refuses(&hub, &["config.json: ", "the commit ", commit]);
    }
    // A commit was asked for, and another one is described.
    let other = COMMIT.replace('0', "1");
    let hub = Hostile::writing(|_| false, "");
    let message = Place::new()
        .fetch_with(&hub.address, Some(&other), limits())
        .expect_err("another commit");
    assert!(message.contains("which was not asked for"), "{message}");
}

#[test]
fn a_file_name_that_leads_elsewhere_is_refused() {
    for name in [
        "a/../../../evil.json",
        "tokenizer/../../../../evil.json",
        "../evil.json",
        "/evil.json",
        "tokenizer//evil.json",
        "tokenizer/./evil.json",
        "tokenizer\\..\\..\\evil.json",
        "tokenizer\0evil.json",
        "C:tokenizer.json",
        "tokenizer/C:/evil.json",
        "",
    ] {
        let text = description().replace("config.json", &serde_json::json!(name).to_string().replace('"', ""));
        let hub = Hostile::writing(|request| request.describes(), answer("200 OK", "", text.as_bytes()));
        Place::new().refuses(
            &hub,
            &["org/tiny (revision main): unexpected answer of the hub: a file named `"],
        );
        assert_eq!(hub.log().len(), 1, "{name:?}");
    }
    // Names that only Windows minds are no reason to refuse a repository, but nothing of that name is written.
    let text = description().replace(
        "{\"rfilename\":\"config.json\"}",
        "{\"rfilename\":\"config.json\"}, {\"rfilename\":\"tokenizer/aux.json\"}, {\"rfilename\":\"logs/12:30.txt\"}",
    );
    let hub = Hostile::writing(|request| request.describes(), answer("200 OK", "", text.as_bytes()));
    let place = Place::new();
    place.fetch(&hub).expect("what is wanted is there");
    place.complete();
    assert!(!place.pointer("tokenizer").exists());
}

#[test]
fn other_descriptions_than_the_hubs_are_refused() {
    for text in [
        "",
        "null",
        "[]",
        "{}",
        "{\"sha\": 1, \"siblings\": []}",
        "{\"sha\": \"x\"}",
        "{\"sha\": \"x\", \"siblings\": null}",
        "{\"sha\": \"x\", \"siblings\": [{\"rfilename\": null}]}",
        "<html>",
        "\u{0}",
        &format!("{}{}", "[".repeat(40_000), "]".repeat(40_000)),
        &format!("{{\"sha\": {}}}", "9".repeat(40_000)),
    ] {
        let hub = Hostile::writing(|request| request.describes(), answer("200 OK", "", text.as_bytes()));
        Place::new().refuses(&hub, &["not the description of a repository"]);
    }
}

#[test]
fn a_corpus_goes_the_same_way() {
    let fetch = |hub: &Hostile, place: &Place, file: &str| {
        let file = DatasetFile {
            repository: Repository::dataset("org/data", None).expect("a name"),
            file: file.to_string(),
        };
        let hub = Hub::new(&place.cache(), &hub.address, None).expect("a hub");
        let outcome = hub.with_limits(limits()).fetch_file(&file, &Silent);
        place.untouched();
        outcome.map_err(|error| error.to_string())
    };
    let place = Place::new();
    let hub = Hostile::writing(|_| false, "");
    let path = fetch(&hub, &place, "part/model.safetensors").expect("an honest hub");
    assert!(std::fs::read(path).expect("there") == files()["model.safetensors"]);
    assert_eq!(hub.log().len(), 2, "one answer about it, one with it: {:?}", hub.log());
    let noted = place.cache().join("datasets--org--data/refs/main");
    assert_eq!(std::fs::read_to_string(noted).expect("there"), COMMIT);
    for file in ["../x", "a/../../../../x", "/x", "a\\b", ""] {
        fetch(&hub, &place, file).expect_err(file);
    }
    assert_eq!(hub.log().len(), 2, "nobody was asked for these");
    for (from, to, part) in [
        (COMMIT, "../../../x", "the commit `../../../x`"),
        ("ETag: \"", "ETag: \"../../../x", "the ETag `"),
        ("X-Linked-Size: ", "X-Linked-Size: 99999999", "a length of "),
    ] {
        let text = facts("model.safetensors").replace(from, to);
        let hub = Hostile::writing(|_| true, answer("200 OK", &text, b"evil"));
        let message = fetch(&hub, &Place::new(), "part/model.safetensors").expect_err(part);
        assert!(message.contains("org/data") && message.contains(part), "{message}");
    }
}

#[cfg(unix)]
mod links {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_is_written_through_a_folder_that_is_a_link_out_of_the_cache() {
        for inside in [".locks", ".locks/models--org--tiny", "models--org--tiny"] {
            let place = Place::new();
            let link = place.cache().join(inside);
            std::fs::create_dir_all(link.parent().expect("in the cache")).expect("writable");
            symlink(place.outside("elsewhere"), &link).expect("writable");
            place.refuses(
                &Hostile::writing(|_| false, ""),
                &["is a link out of it", "zprune does not write to the cache"],
            );
        }
        for inside in ["blobs", "snapshots", "refs", &format!("snapshots/{COMMIT}")] {
            let place = Place::new();
            symlink(place.outside("elsewhere"), place.inside(inside)).expect("writable");
            place.refuses(
                &Hostile::writing(|_| false, ""),
                &["is a link out of it", "zprune does not write to the cache"],
            );
        }
    }

    #[test]
    fn the_cache_itself_may_be_a_link_and_so_may_folders_in_it_that_stay_there() {
        let place = Place::new();
        std::fs::remove_dir(place.cache()).expect("it is empty");
        symlink(place.outside("elsewhere"), place.cache()).expect("writable");
        std::fs::create_dir(place.outside("elsewhere/moved")).expect("writable");
        symlink("../moved", place.inside("blobs")).expect("writable");
        place.fetch(&Hostile::writing(|_| false, "")).expect("nothing is wrong");
        place.complete();
        assert_eq!(
            std::fs::read_dir(place.outside("elsewhere/moved"))
                .expect("there")
                .count(),
            3
        );
    }

    #[test]
    fn files_of_the_cache_that_are_links_are_replaced_and_not_written_to() {
        let git = etag("config.json", &files()["config.json"]);
        let hub = Hostile::writing(|_| false, "");
        for (link, hard) in [
            (format!("blobs/{git}"), false),
            (format!("blobs/{git}.part"), false),
            (format!("blobs/{git}.part"), true),
        ] {
            let place = Place::new();
            let path = place.inside(&link);
            match hard {
                true => std::fs::hard_link(place.victim(), path).expect("writable"),
                false => symlink(place.victim(), path).expect("writable"),
            }
            place.fetch(&hub).unwrap_or_else(|error| panic!("{link}: {error}"));
            place.complete();
            place.untouched();
        }
        // A link to what is not there yet would make a file elsewhere.
        for link in [format!("blobs/{git}"), format!("blobs/{git}.part")] {
            let place = Place::new();
            symlink(place.outside("elsewhere/new"), place.inside(&link)).expect("writable");
            place.fetch(&hub).unwrap_or_else(|error| panic!("{link}: {error}"));
            place.complete();
            place.untouched();
        }
        let place = Place::new();
        let lock = place
            .cache()
            .join(".locks/models--org--tiny")
            .join(format!("{git}.lock"));
        std::fs::create_dir_all(lock.parent().expect("in the cache")).expect("writable");
        symlink(place.outside("elsewhere/new"), lock).expect("writable");
        place.refuses(&hub, &["is not a plain file"]);
    }

    #[test]
    fn a_pipe_in_the_cache_is_not_waited_for() {
        let git = etag("config.json", &files()["config.json"]);
        let hub = Hostile::writing(|_| false, "");
        for (pipe, works) in [
            (format!("models--org--tiny/blobs/{git}.part"), true),
            ("models--org--tiny/refs/main".to_string(), false),
            (format!(".locks/models--org--tiny/{git}.lock"), false),
        ] {
            let place = Place::new();
            let path = place.cache().join(&pipe);
            std::fs::create_dir_all(path.parent().expect("in the cache")).expect("writable");
            let made = std::process::Command::new("mkfifo").arg(&path).status();
            assert!(made.expect("mkfifo is there").success());
            assert_eq!(place.fetch(&hub).is_ok(), works, "{pipe}");
            place.untouched();
        }
    }
}
