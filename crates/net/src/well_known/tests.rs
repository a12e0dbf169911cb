//! What a `.well-known` file may say, and for how long.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const HOUR: u64 = 60 * 60;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |&(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header value"))
    };
    pairs.iter().map(pair).collect()
}

#[test]
fn only_a_valid_answer_delegates() {
    let ok = StatusCode::OK;
    for (body, server) in [
        (r#"{"m.server":"d.org"}"#, "d.org"),
        (r#"{"m.server":"d.org:443","more":[1]}"#, "d.org:443"),
        (r#"{"m.server":"192.0.2.1"}"#, "192.0.2.1"),
        (r#"{"m.server":"[2001:db8::1]:443"}"#, "[2001:db8::1]:443"),
    ] {
        assert_eq!(read(ok, body.as_bytes()).map(|authority| authority.text).as_deref(), Ok(server), "{body}");
    }
    for body in ["", "d.org", "[]", "{}", r#"{"m.server":7}"#, r#"{"m.server":null}"#, "<html>", "{\"m.server\":\"a\""]
    {
        assert_eq!(read(ok, body.as_bytes()), Err(Unusable::Json), "{body}");
    }
    for name in ["", "https://d.org", "d.org/", "d.org:", "d.org:99999", "a b", "[::1", "user@d.org"] {
        let body = format!(r#"{{"m.server":"{name}"}}"#);
        assert_eq!(read(ok, body.as_bytes()), Err(Unusable::Name(name.to_owned())), "{name}");
    }
    for status in [StatusCode::NOT_FOUND, StatusCode::CREATED, StatusCode::NO_CONTENT, StatusCode::BAD_GATEWAY] {
        assert_eq!(read(status, br#"{"m.server":"d.org"}"#), Err(Unusable::Status(status)));
    }
}

#[test]
fn an_answer_is_kept_as_long_as_it_says_within_bounds() {
    let date = "Sun, 06 Nov 1994 08:00:00 GMT";
    let later = "Sun, 06 Nov 1994 10:00:00 GMT";
    for (pairs, kept) in [
        (&[][..], KEEP_DEFAULT),
        (&[("cache-control", "max-age=7200")], Duration::from_secs(2 * HOUR)),
        (&[("cache-control", "public, Max-Age=\"7200\"")], Duration::from_secs(2 * HOUR)),
        (&[("cache-control", "public"), ("cache-control", "max-age=7200")], Duration::from_secs(2 * HOUR)),
        (&[("cache-control", "max-age=99999999")], KEEP_MAX),
        (&[("cache-control", "max-age=99999999999999999999999")], KEEP_MAX),
        (&[("cache-control", "max-age=0")], KEEP_MIN),
        (&[("cache-control", "no-store, max-age=7200")], KEEP_MIN),
        (&[("cache-control", "max-age=-1")], KEEP_DEFAULT),
        (&[("cache-control", "s-maxage=60")], KEEP_DEFAULT),
        (&[("date", date), ("expires", later)], Duration::from_secs(2 * HOUR)),
        (&[("date", later), ("expires", date)], KEEP_MIN),
        (&[("expires", "0")], KEEP_MIN),
        (&[("expires", later)], Duration::from_secs(2 * HOUR)),
        (&[("cache-control", "max-age=3600"), ("date", date), ("expires", later)], Duration::from_secs(HOUR)),
    ] {
        let now = httpdate::parse_http_date(date).expect("a date");
        assert_eq!(keep(&headers(pairs), now), kept, "{pairs:?}");
    }
}

#[test]
fn redirects_are_followed_to_https_addresses() {
    for (location, url) in [
        ("/other", "https://a.org/other"),
        ("sub", "https://a.org/.well-known/matrix/sub"),
        ("https://b.org/x?y=1#z", "https://b.org/x?y=1"),
        ("//b.org:8443/", "https://b.org:8443/"),
    ] {
        let mut trail = Trail::begin("a.org", 443).expect("a host");
        for status in [301, 302, 303, 307, 308] {
            let mut trail = Trail::begin("a.org", 443).expect("a host");
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(trail.follow(status, &headers(&[("location", location)])), Ok(true));
            assert_eq!(trail.url().as_str(), url);
        }
        assert_eq!(trail.follow(StatusCode::OK, &headers(&[("location", location)])), Ok(false));
        assert_eq!(trail.follow(StatusCode::NOT_MODIFIED, &headers(&[])), Ok(false));
    }
    for bad in
        ["http://a.org/", "ftp://a.org/", "https://", "javascript:x", "https://user@b.org/", "file:///etc/passwd"]
    {
        let mut trail = Trail::begin("a.org", 443).expect("a host");
        let followed = trail.follow(StatusCode::FOUND, &headers(&[("location", bad)]));
        assert_eq!(followed, Err(Unusable::BadRedirect), "{bad}");
    }
    let mut trail = Trail::begin("a.org", 443).expect("a host");
    assert_eq!(trail.follow(StatusCode::FOUND, &headers(&[])), Err(Unusable::BadRedirect));
}

#[test]
fn redirects_end() {
    let mut trail = Trail::begin("a.org", 443).expect("a host");
    let to = |location: &str| headers(&[("location", location)]);
    assert_eq!(trail.follow(StatusCode::FOUND, &to("https://b.org/")), Ok(true));
    let home = "https://a.org/.well-known/matrix/server#again";
    assert_eq!(trail.follow(StatusCode::FOUND, &to(home)), Err(Unusable::Loop));

    let mut trail = Trail::begin("a.org", 443).expect("a host");
    for number in 0..REDIRECTS_MAX {
        assert_eq!(trail.follow(StatusCode::FOUND, &to(&format!("/{number}"))), Ok(true));
    }
    assert_eq!(trail.follow(StatusCode::FOUND, &to("/more")), Err(Unusable::TooManyRedirects));
}

#[test]
fn an_error_is_kept_for_a_while_that_grows_to_an_hour() {
    let mut cache = Cache::default();
    let mut now = Instant::now();
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        cache.put("a.org", None, now);
        let keep = Duration::from_secs(minutes * 60);
        assert_eq!(cache.get("a.org", now + keep - Duration::from_secs(1)), Some(None));
        now += keep;
        assert_eq!(cache.get("a.org", now), None, "after {minutes} minutes it is asked again");
    }
    let found = Authority::parse("d.org").expect("a server name");
    cache.put("a.org", Some((found.clone(), KEEP_DEFAULT)), now);
    assert_eq!(cache.get("a.org", now), Some(Some(found.clone())));
    cache.forget_error("a.org");
    assert_eq!(cache.get("a.org", now), Some(Some(found)), "that was no error");
    now += KEEP_DEFAULT;
    cache.put("a.org", None, now);
    assert_eq!(cache.get("a.org", now + KEEP_ERROR_MIN), None, "success begins the count anew");
    cache.sweep(now + KEEP_ERROR_MAX * 2);
    assert!(cache.is_empty());
}

#[test]
fn a_host_that_shows_signs_of_life_is_asked_again() {
    let mut cache = Cache::default();
    let now = Instant::now();
    cache.put("a.org", None, now);
    cache.forget_error("a.org");
    assert_eq!(cache.get("a.org", now), None);
}

#[test]
fn the_cache_does_not_grow_without_bound() {
    let mut cache = Cache::default();
    let now = Instant::now();
    for number in 0..ENTRIES_MAX as u64 + 5 {
        cache.put(&format!("s{number}.org"), None, now + Duration::from_secs(number));
    }
    assert_eq!(cache.len(), ENTRIES_MAX);
}

proptest! {
    #[test]
    fn no_answer_is_kept_out_of_bounds(control in "[ -~]{0,60}", expires in "[ -~]{0,40}", body: Vec<u8>) {
        let headers = headers(&[("cache-control", &control), ("expires", &expires)]);
        let kept = keep(&headers, SystemTime::now());
        prop_assert!((KEEP_MIN..=KEEP_MAX).contains(&kept));
        let _ = read(StatusCode::OK, &body);
    }

    #[test]
    fn a_trail_stays_on_https(location in "[ -~]{0,80}") {
        let mut trail = Trail::begin("a.org", 443).expect("a host");
        let _ = trail.follow(StatusCode::FOUND, &headers(&[("location", &location)]));
        prop_assert_eq!(trail.url().scheme(), "https");
        prop_assert!(trail.url().has_host());
    }
}
