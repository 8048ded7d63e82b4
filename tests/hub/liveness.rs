//! Every download ends: whatever the hub does, after a bounded number of requests, bytes and seconds.

use super::hostile::{Hostile, Place, Request, answer, facts, files, honest};
use super::server::Server;
use super::{RUN, folder, model_files, refused, run};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use zprune::hub::RequestLimits;

fn of_files(request: &Request) -> bool {
    !request.describes()
}

fn of_contents(request: &Request) -> bool {
    !request.describes() && !request.probes()
}

/// A good hub's headers for a file, with another length of the body.
fn head(request: &Request, length: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\n{}{length}Connection: close\r\n\r\n",
        facts(request.file())
    )
}

fn for_ever(stream: &mut TcpStream, piece: &[u8], pause: Duration) -> std::io::Result<()> {
    loop {
        stream.write_all(piece)?;
        std::thread::sleep(pause);
    }
}

#[test]
fn a_status_that_makes_no_sense_is_named() {
    for (status, part) in [
        ("304 Not Modified", "status 304, which is no answer to this request"),
        ("300 Multiple Choices", "status 300"),
        ("302 Found", "status 302 without a Location"),
        ("308 Permanent Redirect", "status 308 without a Location"),
        ("101 Switching Protocols", "status 101"),
        ("400 Bad Request", "status 400"),
        ("418 I'm a teapot", "status 418"),
        ("501 Not Implemented", "status 501"),
        ("999 What", "status 999"),
        ("206 Partial Content", "status 206 without a Content-Range"),
        ("204 No Content", "no header X-Repo-Commit"),
    ] {
        let description: Option<fn(&Request) -> bool> = (!status.starts_with("20")).then_some(Request::describes);
        for which in description.into_iter().chain([of_files as fn(&Request) -> bool]) {
            let hub = Hostile::writing(which, answer(status, "", b""));
            Place::new().refuses(&hub, &[part]);
            assert!(hub.log().len() <= 3, "{status}: {} requests", hub.log().len());
        }
    }
    for (status, part) in [("304 Not Modified", "status 304"), ("204 No Content", "status 204")] {
        let hub = Hostile::writing(of_contents, answer(status, "", b""));
        Place::new().refuses(&hub, &[part]);
    }
    for text in [
        "",
        "nonsense\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "\0\0\0\0",
        "220 ftp ready\r\n",
    ] {
        let hub = Hostile::writing(of_files, text);
        Place::new().refuses(&hub, &["config.json: the connection to"]);
        assert!(hub.log().len() <= 4, "{text:?}: {} requests", hub.log().len());
    }
}

#[test]
fn redirects_end() {
    let counter = AtomicUsize::new(0);
    type Location = Box<dyn Fn(&Request) -> String + Send + Sync>;
    let cases: Vec<(&str, Location)> = vec![
        ("redirects in a circle", Box::new(|request| request.path.clone())),
        ("redirects in a circle", Box::new(|request| request.file().to_string())),
        (
            "redirects in a circle",
            Box::new(|request| format!("http://{}{}", request.host, request.path)),
        ),
        ("redirects in a circle", Box::new(|_| "?a".to_string())),
        (
            "redirects in a circle",
            Box::new(|request| match request.path.ends_with("b") {
                true => "a".to_string(),
                false => "b".to_string(),
            }),
        ),
        (
            "more than 10 redirects",
            Box::new(move |_| format!("/{}", counter.fetch_add(1, Ordering::Relaxed))),
        ),
        (
            "more than 10 redirects",
            Box::new(|request| format!("{}x", request.path)),
        ),
        (
            "it does not begin with http:// or https://",
            Box::new(|_| "file:///etc/passwd".to_string()),
        ),
        (
            "it does not begin with http:// or https://",
            Box::new(|_| "ftp://127.0.0.1/x".to_string()),
        ),
        ("cannot be followed", Box::new(|_| "http://".to_string())),
        (
            "cannot be followed",
            Box::new(|_| "http://127.0.0.1:99999/".to_string()),
        ),
        ("cannot be followed", Box::new(|_| "\\\\evil\\x".to_string())),
        ("cannot be followed", Box::new(|_| String::new())),
        ("the connection to", Box::new(|_| "http://127.0.0.1:9/".to_string())),
    ];
    for (index, (part, location)) in cases.into_iter().enumerate() {
        let hub = Hostile::new(move |request, stream| {
            let headers = format!("Location: {}\r\n", location(request));
            stream.write_all(&answer("302 Found", &headers, b""))
        });
        Place::new().refuses(&hub, &[part]);
        assert!(hub.log().len() <= 11, "case {index}: {} requests", hub.log().len());
    }
    // All of the way is named, and a signature in it is not.
    let hub = Hostile::writing(
        |_| true,
        answer("302 Found", "Location: /next?signature=secret\r\n", b""),
    );
    let message = Place::new().fetch(&hub).expect_err("a circle");
    assert!(message.contains("/api/models/org/tiny/revision/main -> "), "{message}");
    assert!(
        message.contains("/next... -> ") && !message.contains("secret"),
        "{message}"
    );
}

#[test]
fn no_more_is_written_than_was_announced() {
    // The beginning is right, and it never stops: what was announced is taken, and no more.
    let hub = Hostile::new(|request, stream| {
        if request.describes() {
            return stream.write_all(&honest(request));
        }
        stream.write_all(head(request, "").as_bytes())?;
        stream.write_all(&files()[request.file()])?;
        for_ever(stream, &[7; 1 << 16], Duration::ZERO)
    });
    let place = Place::new();
    place.fetch(&hub).expect("all of every file came");
    place.complete();
    // Nothing of it is right.
    let hub = Hostile::new(|request, stream| {
        if request.describes() {
            return stream.write_all(&honest(request));
        }
        stream.write_all(head(request, "").as_bytes())?;
        for_ever(stream, &[7; 1 << 16], Duration::ZERO)
    });
    let place = Place::new();
    place.refuses(&hub, &["config.json: arrived damaged and was deleted: its git hash is"]);
    assert_eq!(std::fs::read_dir(place.inside("blobs")).expect("made").count(), 0);
    // It does not say how long it is.
    for chunked in [false, true] {
        let hub = Hostile::new(move |request, stream| {
            if request.describes() {
                return stream.write_all(&honest(request));
            }
            let coding = if chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
            let head = head(request, coding);
            let size = head
                .lines()
                .find(|line| line.starts_with("X-Linked-Size"))
                .expect("it is there");
            stream.write_all(head.replace(&format!("{size}\r\n"), "").as_bytes())?;
            let piece = [vec![7; 1 << 16], b"\r\n".to_vec()].concat();
            loop {
                if chunked {
                    stream.write_all(b"10000\r\n")?;
                }
                stream.write_all(&piece[..(1 << 16) + if chunked { 2 } else { 0 }])?;
            }
        });
        let place = Place::new();
        place.refuses(
            &hub,
            &["a file of more than 1048576 bytes that did not say how long it is"],
        );
        assert_eq!(std::fs::read_dir(place.inside("blobs")).expect("made").count(), 0);
    }
    // Nor does its description end, or it is packed.
    let hub = Hostile::new(|request, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let _ = request;
        for_ever(stream, &[b' '; 1 << 16], Duration::ZERO)
    });
    Place::new().refuses(&hub, &["a description of more than 100000 bytes"]);
    let hub = Hostile::writing(|_| true, answer("200 OK", "Content-Encoding: gzip\r\n", b"\x1f\x8b"));
    Place::new().refuses(&hub, &["packed as \"gzip\", which was not asked for"]);
    let hub = Hostile::new(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        for_ever(
            stream,
            b"X-Y: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\r\n",
            Duration::ZERO,
        )
    });
    Place::new().refuses(&hub, &["the connection to"]);
}

#[test]
fn an_answer_without_content_leaves_no_file() {
    for refusal in [
        answer("500 Internal Server Error", "", b""),
        answer("404 Not Found", "", b""),
        answer("302 Found", "Location: http://127.0.0.1:9/nobody\r\n", b""),
        b"nonsense\r\n\r\n".to_vec(),
    ] {
        let hub = Hostile::new(move |request, stream| match of_contents(request) {
            true => stream.write_all(&refusal),
            false => stream.write_all(&honest(request)),
        });
        let place = Place::new();
        place.fetch(&hub).expect_err("no content");
        assert_eq!(std::fs::read_dir(place.inside("blobs")).expect("made").count(), 0);
    }
}

#[test]
fn headers_and_chunks_that_are_none_are_refused() {
    let many = "X-Y: z\r\n".repeat(5000);
    for text in [
        "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFFFFFFFF\r\n",
        "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n{",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\n{X\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nnull\n\r\n0\r\n\r\n",
        "Content-Length: 18446744073709551615\r\n\r\n{",
        "Content-Length: 99999999999999999999999\r\n\r\n{",
        "Content-Length: -5\r\n\r\n{",
        "Content-Length: five\r\n\r\n{",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nnull  ",
        "Content-Range: bytes 0-0/x\r\nContent-Length: 4\r\n\r\nnull",
        "no colon\r\n\r\n",
        "X-\0: y\r\n\r\n",
        "X-Y: \0\r\n\r\n",
        "\u{e9}: \u{e9}\r\n\r\n",
        &many,
        &format!("X-Y: {}\r\n\r\n", "z".repeat(1 << 20)),
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{text}");
        for which in [Request::describes as fn(&Request) -> bool, of_files, of_contents] {
            let hub = Hostile::writing(which, text.clone());
            Place::new().refuses(&hub, &["org/tiny (revision main): "]);
            assert!(hub.log().len() <= 15, "{} requests", hub.log().len());
        }
    }
}

#[test]
fn a_size_that_no_file_has_is_refused() {
    for (size, part) in [
        (
            "4611686018427387904",
            "a length of 4611686018427387904 bytes, more than",
        ),
        ("2000000000", "a length of 2000000000 bytes, more than"),
        ("99999999999999999999999", "the header X-Linked-Size"),
        ("-1", "the header X-Linked-Size"),
        ("1e3", "the header X-Linked-Size"),
    ] {
        let text = facts("config.json").replace("X-Linked-Size: 22", &format!("X-Linked-Size: {size}"));
        let text = text.replace("ETag", "X-Linked-Etag");
        assert!(text.contains(size));
        let hub = Hostile::writing(of_files, answer("302 Found", &text, b""));
        Place::new().refuses(&hub, &["config.json: unexpected answer of the hub: ", part]);
    }
    for range in [
        "bytes 0-0/2000000000000",
        "bytes 0-0/-1",
        "bytes 5-0/3",
        "pages 0-0/22",
        "bytes 0-0/",
    ] {
        let git = facts("config.json").replace("X-Linked-Size: 22\r\n", "");
        let text = answer("206 Partial Content", &format!("{git}Content-Range: {range}\r\n"), b"{");
        Place::new().refuses(
            &Hostile::writing(of_files, text),
            &["config.json: unexpected answer of the hub"],
        );
    }
}

#[test]
fn silence_ends() {
    let forever = |_: &Request| Duration::from_secs(60);
    type Until = fn(&Request) -> bool;
    // Where it falls silent: before any answer, within the headers, within the body.
    for (which, text, part) in [
        (Request::describes as Until, "", "no answer within 2s"),
        (Request::describes, "HTTP/1.1 200 OK\r\nX-A: ", "no answer within 2s"),
        (
            Request::describes,
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
            "nothing arrived for 2s",
        ),
        (of_files, "", "no answer within 2s"),
        (of_contents, "", "no answer within 2s"),
        (
            of_contents,
            "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{",
            "nothing arrived for 2s",
        ),
    ] {
        let hub = Hostile::new(move |request, stream| {
            if !which(request) {
                return stream.write_all(&honest(request));
            }
            stream.write_all(text.as_bytes())?;
            stream.flush()?;
            std::thread::sleep(forever(request));
            Ok(())
        });
        let started = Instant::now();
        Place::new().refuses(&hub, &["the connection to", part, "run the same command again"]);
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
        assert!(hub.log().len() <= 7, "{} requests", hub.log().len());
    }
    // With what is in the cache, silence is no reason to stop.
    let place = Place::new();
    place.fetch(&Hostile::writing(|_| false, "")).expect("an honest hub");
    let hub = Hostile::new(move |request, _| {
        std::thread::sleep(forever(request));
        Ok(())
    });
    place.fetch(&hub).expect("all of it is in the cache");
}

#[test]
fn a_drip_ends() {
    type Until = fn(&Request) -> bool;
    for (which, text, part) in [
        (
            Request::describes as Until,
            "HTTP/1.1 200 OK\r\nX-A: ",
            "no answer within 2s",
        ),
        (Request::describes, "HTTP/1.1 200 OK\r\n\r\n", "in 2s"),
        (
            of_contents,
            "HTTP/1.1 200 OK\r\n\r\n",
            "bytes arrived in 2s, fewer than 10000",
        ),
    ] {
        let hub = Hostile::new(move |request, stream| {
            if !which(request) {
                return stream.write_all(&honest(request));
            }
            stream.write_all(text.as_bytes())?;
            for_ever(stream, b" ", Duration::from_millis(80))
        });
        let place = Place::new();
        let started = Instant::now();
        // The small files would be there before the window is over.
        std::fs::create_dir_all(place.pointer("")).expect("writable");
        for file in ["config.json", "tokenizer.json"] {
            std::fs::write(place.pointer(file), &files()[file]).expect("writable");
        }
        let message = place.fetch(&hub).expect_err("too slow");
        assert!(message.contains(part), "{message}");
        assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    }
}

#[test]
fn a_busy_hub_is_asked_again_a_few_times() {
    fn busy(header: &'static str, times: usize) -> Hostile {
        let counter = AtomicUsize::new(0);
        Hostile::new(
            move |request, stream| match counter.fetch_add(1, Ordering::Relaxed) < times {
                true => stream.write_all(&answer("503 Service Unavailable", header, b"")),
                false => stream.write_all(&honest(request)),
            },
        )
    }
    for header in ["", "Retry-After: 0\r\n", "Retry-After: 1\r\n", "Retry-After: soon\r\n"] {
        let place = Place::new();
        place.fetch(&busy(header, 2)).expect("the third attempt");
        place.complete();
        let hub = busy(header, usize::MAX);
        Place::new().refuses(&hub, &["the hub is overloaded or does not work (status 503)"]);
        assert_eq!(hub.log().len(), 3);
    }
    for header in ["Retry-After: 86400\r\n", "Retry-After: 18446744073709551615\r\n"] {
        let hub = busy(header, usize::MAX);
        let seconds = header.trim().trim_start_matches("Retry-After: ");
        Place::new().refuses(&hub, &[&format!("asks for a pause of {seconds} s")]);
        assert_eq!(hub.log().len(), 1);
    }
    // A connection that ends before an answer, the same.
    let hub = Hostile::writing(|_| true, "");
    Place::new().refuses(&hub, &["the connection to"]);
    assert_eq!(hub.log().len(), 3);
}

#[test]
fn a_range_that_was_not_asked_for_is_not_appended() {
    let weights = files().remove("model.safetensors").expect("a file of the model");
    let part = |place: &Place| place.blob("model.safetensors").with_extension("part");
    let resumed = |request: &Request| request.range.as_deref() == Some("bytes=1000-");
    let cases: [(&str, Result<(), &str>); 5] = [
        ("416 Range Not Satisfiable\r\n", Ok(())),
        (
            "206 Partial Content\r\nContent-Range: bytes 0-9/400000\r\n",
            Err("the bytes from 0 on"),
        ),
        (
            "206 Partial Content\r\nContent-Range: bytes 1000-9/400000\r\n",
            Err("the Content-Range"),
        ),
        (
            "206 Partial Content\r\nContent-Range: bytes 1000-399999/400001\r\n",
            Err("the size 400000"),
        ),
        ("206 Partial Content\r\n", Err("206 without a Content-Range")),
    ];
    for (text, expected) in cases {
        let hub = Hostile::new(move |request, stream| match resumed(request) {
            true => stream.write_all(format!("HTTP/1.1 {text}Content-Length: 0\r\n\r\n").as_bytes()),
            false => stream.write_all(&honest(request)),
        });
        let place = Place::new();
        std::fs::write(part(&place), &weights[..1000]).expect("writable");
        match expected {
            Err(message) => place.refuses(&hub, &["model.safetensors: ", message]),
            Ok(()) => {
                place.fetch(&hub).expect("it starts again");
                place.complete();
            }
        }
        assert!(hub.log().iter().any(resumed));
    }
    // The part is of another file: noticed by the hash, and fetched whole.
    let place = Place::new();
    std::fs::write(part(&place), vec![1; 1000]).expect("writable");
    let hub = Hostile::writing(|_| false, "");
    place.fetch(&hub).expect("the second time from the beginning");
    place.complete();
    assert!(hub.log().iter().any(resumed));
}

#[test]
fn the_environment_has_a_say_in_how_long_silence_may_be() {
    let (server, folder) = (Server::new(), folder());
    server.add(super::MODEL, model_files());
    let silent = Hostile::new(|_, _| {
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    });
    let environment = [("HF_ENDPOINT", silent.address.as_str()), ("HF_HUB_ETAG_TIMEOUT", "1")];
    let started = Instant::now();
    refused(&run(&folder, &server, RUN, &environment), &["no answer within 1s"]);
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    for value in ["0", "-1", "ten", "1e9"] {
        let environment = [("HF_HUB_DOWNLOAD_TIMEOUT", value)];
        refused(
            &run(&folder, &server, RUN, &environment),
            &["HF_HUB_DOWNLOAD_TIMEOUT is `", "seconds"],
        );
    }
}

#[test]
fn the_usual_limits_let_a_slow_line_pass() {
    let limits = RequestLimits::default();
    assert!(
        limits.least as f64 / limits.window.as_secs_f64() <= 1024.0,
        "bytes per second"
    );
    assert!(limits.file >= 1 << 40 && limits.small_file >= 100 << 20);
}
