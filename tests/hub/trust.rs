//! What is in the cache is used if its hash is right, and not because its length is.

use super::hostile::{Hostile, Place, answer, contents, files, honest, limits};
use super::server::{Server, etag};
use super::{COMMIT, MODEL, RUN, folder, model_files, refused, run, snapshot, works};
use std::io::Write;
use std::process::Command;

#[test]
fn small_files_are_held_against_gits_hash() {
    let hub = Hostile::new(|request, stream| {
        let mut text = honest(request);
        if request.file() == "config.json" && !request.probes() {
            *text.last_mut().expect("a body") ^= 1;
        }
        stream.write_all(&text)
    });
    let place = Place::new();
    place.refuses(
        &hub,
        &[
            "config.json: arrived damaged and was deleted: its git hash is",
            "as announced",
        ],
    );
    assert_eq!(std::fs::read_dir(place.inside("blobs")).expect("made").count(), 0);
    assert!(!place.pointer("config.json").exists());
}

#[test]
fn a_blob_of_the_right_length_is_not_the_right_blob() {
    let hub = Hostile::writing(|_| false, "");
    for file in ["config.json", "model.safetensors"] {
        // Before there is a snapshot.
        let place = Place::new();
        std::fs::create_dir_all(place.inside("blobs")).expect("writable");
        std::fs::write(place.blob(file), vec![7; files()[file].len()]).expect("writable");
        place.fetch(&hub).expect("downloaded");
        place.complete();
        // In a snapshot that was complete.
        std::fs::write(place.blob(file), vec![7; files()[file].len()]).expect("writable");
        place.fetch(&hub).expect("downloaded again");
        place.complete();
        // At a commit, for which nobody is asked as long as all is well.
        let requests = hub.log().len();
        place
            .fetch_with(&hub.address, Some(COMMIT), limits())
            .expect("from the cache");
        assert_eq!(hub.log().len(), requests);
        std::fs::write(place.blob(file), vec![7; files()[file].len()]).expect("writable");
        place
            .fetch_with(&hub.address, Some(COMMIT), limits())
            .expect("downloaded again");
        place.complete();
        // Where the hub cannot be asked.
        std::fs::write(place.blob(file), vec![7; files()[file].len()]).expect("writable");
        let before = contents(&place.cache());
        let message = place
            .fetch_with("http://127.0.0.1:9", None, limits())
            .expect_err("the cache is damaged");
        assert!(
            message.contains(&format!("{file}: is damaged in the cache")),
            "{message}"
        );
        assert_eq!(contents(&place.cache()), before);
    }
    let (server, folder) = (Server::new(), folder());
    server.add(MODEL, model_files());
    works(&run(&folder, &server, RUN, &[]));
    std::fs::write(snapshot(&folder).join("config.json"), "{}").expect("writable");
    refused(
        &run(&folder, &server, RUN, &[("HF_HUB_OFFLINE", "1")]),
        &[
            "config.json: is damaged in the cache",
            "its git hash is",
            "without HF_HUB_OFFLINE",
        ],
    );
    works(&run(&folder, &server, RUN, &[]));
}

#[test]
fn large_files_are_hashed_once_and_again_when_they_change() {
    let large: Vec<u8> = (0..5_000_000u32).flat_map(u32::to_le_bytes).collect();
    let digest = etag("model.safetensors", &large);
    let size = large.len();
    let (shared, named) = (large.clone(), digest.clone());
    let hub = Hostile::new(move |request, stream| {
        if request.describes() || request.file() != "model.safetensors" {
            return stream.write_all(&honest(request));
        }
        let headers = format!("X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{named}\"\r\nX-Linked-Size: {size}\r\n");
        stream.write_all(&answer(
            "200 OK",
            &headers,
            if request.probes() { b"" } else { &shared },
        ))
    });
    let place = Place::new();
    place.fetch(&hub).expect("downloaded");
    let note = place
        .cache()
        .join(".locks/models--org--tiny")
        .join(format!("{digest}.checked"));
    let noted = std::fs::read_to_string(&note).expect("its hash was noted");
    let blob = place.inside("blobs").join(&digest);
    let again = || {
        let before = hub.log().len();
        place.fetch(&hub).expect("the hub is honest");
        assert!(std::fs::read(&blob).expect("there") == large);
        hub.log().len() - before
    };
    assert_eq!(again(), 1, "only the description was asked for");
    assert_eq!(std::fs::read_to_string(&note).expect("there"), noted);
    // Changed in place, to the same length: hashed, found wrong, and downloaded.
    let mut file = std::fs::File::options().write(true).open(&blob).expect("there");
    file.write_all(b"other").expect("writable");
    drop(file);
    assert_eq!(again(), 3);
    assert_ne!(std::fs::read_to_string(&note).expect("there"), noted);
    // Without the note, it is hashed, and the note is made.
    std::fs::remove_file(&note).expect("there");
    assert_eq!(again(), 1);
    assert!(note.exists());
}

/// A file may not grow beyond a limit: what a full disk does, without one.
#[cfg(unix)]
#[test]
fn a_disk_that_takes_no_more_is_named() {
    let (server, folder) = (Server::new(), folder());
    server.add(MODEL, model_files());
    let program = folder.zprune(RUN);
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(RUN)
        .current_dir(folder.path(""))
        .env("HF_HOME", folder.path("hf"))
        .env("HF_ENDPOINT", &server.address)
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("model.safetensors: cannot write to the cache"), "{text}");
    assert!(!snapshot(&folder).join("model.safetensors").exists());
    works(&run(&folder, &server, RUN, &[]));
}

#[cfg(unix)]
#[test]
fn what_is_downloaded_has_the_rights_that_the_umask_leaves() {
    use std::os::unix::fs::PermissionsExt;
    let (server, folder) = (Server::new(), folder());
    server.add(MODEL, model_files());
    let program = folder.zprune(RUN);
    let status = Command::new("sh")
        .args(["-c", "umask 027; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(RUN)
        .current_dir(folder.path(""))
        .env("HF_HOME", folder.path("hf"))
        .env("HF_ENDPOINT", &server.address)
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .status()
        .expect("a shell");
    assert!(status.success());
    let mode = |path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(snapshot(&folder).join("config.json")), 0o640);
    assert_eq!(mode(folder.path("hf/hub/models--org--tiny/refs/main")), 0o640);
    assert_eq!(mode(folder.path("hf/hub/models--org--tiny/blobs")), 0o750);
}
