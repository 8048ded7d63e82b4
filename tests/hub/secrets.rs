//! Who is told the token: the endpoint's own scheme, host and port, and over plain http only this machine.

use super::hostile::{Hostile, Place, Request, TOKEN, answer, description, honest, limits, read_request};
use super::server::Server;
use super::{COMMIT, RUN, folder, model_files, refused, run, says};
use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

fn told(hub: &Hostile) -> Vec<bool> {
    let told = |request: &Request| request.authorization.as_deref() == Some(&format!("Bearer {TOKEN}"));
    hub.log().iter().map(told).collect()
}

/// A hub that sends those who ask for files elsewhere.
fn sending(elsewhere: impl Fn(&Request) -> Option<String> + Send + Sync + 'static) -> Hostile {
    Hostile::new(move |request, stream| match elsewhere(request) {
        Some(location) => stream.write_all(&answer("302 Found", &format!("Location: {location}\r\n"), b"")),
        None => stream.write_all(&honest(request)),
    })
}

#[test]
fn the_token_stays_with_the_endpoint() {
    // Another port is another host; so is another name of the same one.
    let other = Hostile::writing(|_| false, "");
    let address = other.address.clone();
    let hub = sending(move |request| {
        let elsewhere = !request.describes() && !request.path.starts_with("/cdn/");
        elsewhere.then(|| format!("{address}/cdn{}", request.path))
    });
    let place = Place::new();
    place.fetch(&hub).expect("the other host is honest");
    place.complete();
    assert!(other.log().len() >= 6, "metadata and content of three files");
    assert!(told(&other).iter().all(|told| !told), "{:?}", other.log());
    assert!(told(&hub).iter().all(|told| *told), "{:?}", hub.log());

    let hub = sending(|request| {
        let port = request.host.strip_prefix("127.0.0.1:")?;
        (!request.describes()).then(|| format!("http://localhost:{port}{}", request.path))
    });
    let place = Place::new();
    place.fetch(&hub).expect("the same server");
    for request in hub.log() {
        assert_eq!(
            request.authorization.is_some(),
            request.host.starts_with("127."),
            "{request:?}"
        );
    }

    // The way leads elsewhere and back: by then, another host has chosen what is asked for.
    let back = Arc::new(Mutex::new(String::new()));
    let address = back.clone();
    let other = sending(move |request| {
        Some(format!(
            "{}/back{}",
            address.lock().expect("not poisoned"),
            request.path
        ))
    });
    let address = other.address.clone();
    let hub = sending(move |request| {
        let first = !request.describes() && !request.path.starts_with("/back/");
        first.then(|| format!("{address}{}", request.path))
    });
    *back.lock().expect("not poisoned") = hub.address.clone();
    Place::new().fetch(&hub).expect("all are honest");
    for request in hub.log() {
        assert_eq!(
            request.authorization.is_some(),
            !request.path.starts_with("/back/"),
            "{request:?}"
        );
    }

    // A redirect within the endpoint keeps it.
    let hub = sending(|request| {
        (!request.describes() && !request.path.starts_with("/cache/")).then(|| format!("/cache{}", request.path))
    });
    Place::new().fetch(&hub).expect("the same host");
    assert!(told(&hub).iter().all(|told| *told), "{:?}", hub.log());
}

/// Plain http to another machine is tried through a proxy that plays all of them.
#[test]
fn the_token_is_not_sent_over_plain_http() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let proxy = format!("http://{}", listener.local_addr().expect("bound"));
    let log = Arc::new(Mutex::new(Vec::new()));
    let shared = log.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
            let mut request = read_request(&mut reader).expect("a request");
            if request.path == "hub.example:80" {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("connected");
                request = read_request(&mut reader).expect("a request");
            }
            shared.lock().expect("not poisoned").push(request);
            let _ = stream.write_all(&answer("401 Unauthorized", "", b""));
        }
    });
    let (server, folder) = (Server::new(), folder());
    let environment = [
        ("HF_ENDPOINT", "http://hub.example"),
        ("HTTP_PROXY", &proxy),
        ("ALL_PROXY", &proxy),
        ("NO_PROXY", ""),
        ("HF_TOKEN", TOKEN),
    ];
    let output = run(&folder, &server, RUN, &environment);
    refused(
        &output,
        &[
            "the token is not sent to http://hub.example",
            "a token is not sent over plain http",
            "use an https address in HF_ENDPOINT",
        ],
    );
    assert!(!says(&output).contains(TOKEN));
    let log = log.lock().expect("not poisoned");
    assert!(!log.is_empty(), "the proxy was asked");
    assert!(log.iter().all(|request| request.authorization.is_none()), "{log:?}");

    // This machine is no other machine: the proxy does not hear of it, and the token is sent.
    drop(log);
    server.add(super::MODEL, model_files());
    server.with(|state| state.repos.get_mut(super::MODEL).expect("just added").gate = Some(TOKEN));
    super::works(&run(&folder, &server, RUN, &environment[1..]));
}

#[test]
fn messages_do_not_have_the_token() {
    // The hub knows the token and may write it into what it answers.
    for text in [
        description().replace(COMMIT, TOKEN),
        description().replace("config.json", &format!("../{TOKEN}")),
    ] {
        let hub = Hostile::writing(|request| request.describes(), answer("200 OK", "", text.as_bytes()));
        Place::new().refuses(&hub, &["(the token)"]);
    }
    let hub = sending(|request| (!request.describes()).then(|| format!("{}/{TOKEN}", request.path)));
    Place::new().refuses(&hub, &["(the token)"]);
    // A token that cannot be in a header; an address with a password.
    let (server, folder) = (Server::new(), folder());
    let output = run(&folder, &server, RUN, &[("HF_TOKEN", "hf_Secret\nOfThisTest")]);
    refused(&output, &["HF_TOKEN", "a character that no token has"]);
    assert!(!says(&output).contains("hf_Secret"), "{}", says(&output));
    for endpoint in ["http://me:hf_Secret@127.0.0.1:9", "http://hf_Secret@127.0.0.1:9/x?y"] {
        let output = run(&folder, &server, RUN, &[("HF_ENDPOINT", endpoint)]);
        refused(&output, &["HF_ENDPOINT", "it names a user"]);
        assert!(!says(&output).contains("hf_Secret"), "{}", says(&output));
    }
    assert!(server.log().is_empty());
}

#[test]
fn an_endpoint_that_is_none_is_refused() {
    for (endpoint, part) in [
        ("huggingface.co", "it does not begin with http"),
        ("ftp://huggingface.co", "it does not begin with http"),
        ("https://", "no address"),
        ("https://huggingface.co:99999", "port"),
        ("https://huggingface.co/?a=b", "question mark"),
        ("https://hugging face", "no address"),
    ] {
        let message = Place::new()
            .fetch_with(endpoint, None, limits())
            .expect_err("no address of a hub");
        assert!(
            message.contains("HF_ENDPOINT") && message.contains(part),
            "{endpoint}: {message}"
        );
    }
}
